"""Which examples make up each step: batches of similar length, in an order that only the seed and the step decide.

Because the order is a function and not a state, a resumed training needs only its step to go on as if never stopped.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

POOL_BATCHES = 64
"""Batches that are sorted by length together: enough for little padding, few enough for random batches."""


@dataclass
class Batches:
    """Batches of examples for each step.

    Args:
        lengths: tokens of each example.
        batch_size: examples a step.
        seed: decides the order.
    """

    lengths: Sequence[int]
    batch_size: int
    seed: int
    _epoch: int = field(default=-1, init=False)
    _batches: list[list[int]] = field(default_factory=list, init=False)

    @property
    def steps_per_epoch(self) -> int:
        """Steps that see every example once; an epoch's last pool may give one smaller batch."""
        return math.ceil(len(self.lengths) / self.batch_size)

    def at(self, step: int) -> list[int]:
        """Examples of a step (from 0), shortest first."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._batches = self._shuffled(epoch)
            self._epoch = epoch
        return self._batches[place]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        rng = random.Random(f"{self.seed} {epoch}")
        order = list(range(len(self.lengths)))
        rng.shuffle(order)
        pool = self.batch_size * POOL_BATCHES
        batches = []
        for start in range(0, len(order), pool):
            members = sorted(order[start : start + pool], key=self.lengths.__getitem__)
            batches += [members[at : at + self.batch_size] for at in range(0, len(members), self.batch_size)]
        rng.shuffle(batches)
        return batches
