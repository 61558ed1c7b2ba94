"""Which examples make up each step, and how a step is cut into forward passes of little padding.

Steps are random samples, as in a plain training; only inside a step are examples of similar length put together. (Whole
steps of similar length are a sixth faster, and learn worse: docs/training.md.) The order is a function of seed and
step and not a state, so a resumed training needs only its step.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

CPU_PASS_COST = 128
"""What one more forward and backward pass costs beside its tokens, in tokens; measured on the demo model."""
GPU_PASS_COST = 1024
"""The same on a GPU; chosen to err towards few passes, not measured."""


@dataclass
class Batches:
    """Examples of each step.

    Args:
        n_examples: how many there are.
        batch_size: examples a step; an epoch's last step may have fewer.
        seed: decides the order.
    """

    n_examples: int
    batch_size: int
    seed: int
    _epoch: int = field(default=-1, init=False)
    _order: list[int] = field(default_factory=list, init=False)

    @property
    def steps_per_epoch(self) -> int:
        """Steps that see every example once."""
        return math.ceil(self.n_examples / self.batch_size)

    def at(self, step: int) -> list[int]:
        """Examples of a step (from 0)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = list(range(self.n_examples))
            random.Random(f"{self.seed} {epoch}").shuffle(self._order)
            self._epoch = epoch
        return self._order[place * self.batch_size : (place + 1) * self.batch_size]


PACKED_TOKENS = 1024
"""Tokens of a packed row at most, unless an example is longer; the mask grows with the square."""


def split_by_packing(members: Sequence[int], lengths: Sequence[int], *, most: int) -> list[list[int]]:
    """Put a step's examples into rows of at most PACKED_TOKENS and `most` examples: longest first, first that fits."""
    rows: list[list[int]] = []
    left: list[int] = []
    for member in sorted(members, key=lengths.__getitem__, reverse=True):
        need = lengths[member]
        place = next((i for i, room in enumerate(left) if room >= need and len(rows[i]) < most), len(rows))
        if place == len(rows):
            rows.append([])
            left.append(max(PACKED_TOKENS, need))
        rows[place].append(member)
        left[place] -= need
    return rows


def split_by_length(members: Sequence[int], lengths: Sequence[int], *, most: int, pass_cost: int) -> list[list[int]]:
    """Cut a step's examples into forward passes so that padding and passes together cost least.

    Args:
        members: the examples.
        lengths: tokens of every example there is.
        most: examples in a pass at most.
        pass_cost: what a pass costs beside its tokens, padding included, in tokens.

    Returns:
        Passes of examples of similar length, shortest first.
    """
    ordered = sorted(members, key=lengths.__getitem__)
    cost = [0, *[0] * len(ordered)]
    start_of = [0] * (len(ordered) + 1)
    for end in range(1, len(ordered) + 1):
        longest = lengths[ordered[end - 1]]
        cost[end], start_of[end] = min(
            (cost[start] + pass_cost + (end - start) * longest, start) for start in range(max(0, end - most), end)
        )
    passes = []
    end = len(ordered)
    while end:
        passes.append(ordered[start_of[end] : end])
        end = start_of[end]
    return passes[::-1]
