"""What a batch is made of: answers in the making, and the shared beginning of their prompts.

A row keeps its tokens, so a batch that ran out of memory goes on, in smaller batches, where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from .client import FinishReason

DRAWN_AT_ONCE = 64


@dataclass
class Row:
    """One answer in the making."""

    index: int
    prompt: list[int]
    max_tokens: int
    temperature: float
    seed: int
    stop: tuple[str, ...]
    generated: list[int] = field(default_factory=list)
    finish: FinishReason | None = None
    _draws: np.ndarray[Any, np.dtype[np.float64]] = field(default_factory=lambda: np.empty(0))

    @property
    def tokens(self) -> list[int]:
        """What the model has to see before the next token."""
        return self.prompt + self.generated

    def draw(self) -> float:
        """The random number in [0, 1) of the next token: always the same one for this seed and place."""
        place = len(self.generated)
        if place >= len(self._draws):
            count = min(self.max_tokens, max(DRAWN_AT_ONCE, 2 * len(self._draws)))
            self._draws = np.random.Generator(np.random.PCG64(self.seed)).random(max(count, place + 1))
        return float(self._draws[place])


@dataclass(frozen=True)
class Prefix:
    """The cache of tokens that all prompts begin with: (keys, values) a layer, for a batch of one."""

    length: int
    layers: Sequence[tuple[torch.Tensor, torch.Tensor]]
