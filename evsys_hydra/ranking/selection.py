"""Draws of the means' errors, and the best score without the luck of having been chosen."""

from __future__ import annotations

import numpy as np

from .distributions import Floats
from .reading import Reading

DRAWS = 10_000
# Draws are made in blocks of this many numbers to bound the memory.
BLOCK = 10_000_000


class Noise:
    """Draws from N(0, covariance) of the means' errors."""

    def __init__(self, covariance: Floats, rng: np.random.Generator) -> None:
        self._rng = rng
        values, vectors = np.linalg.eigh(covariance)
        # The symmetric root, unlike vectors * sqrt(values), hardly moves when rounding moves the covariance.
        self._root = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T

    def draw(self, count: int) -> Floats:
        """[count, K] draws."""
        k = len(self._root)
        return np.asarray(self._rng.standard_normal((count, k)) @ self._root)


def corrected_best(reading: Reading, best: int, rng: np.random.Generator) -> float:
    """The best mean corrected for the winner's curse: the average over draws Z of (m - Z)[argmax(m + Z)].

    Z - what selection adds - is added to choose and taken off to judge, so the bias of choosing the largest cancels to
    first order. The seed variance enters without the caution that the tests add to it, which would overcorrect. Never
    above the raw best mean nor outside the bounds.
    """
    means, seeds = reading.means, reading.seeds
    noise = Noise(reading.task.matrix + np.diag(seeds.typical / seeds.counts), rng)
    block = max(1, BLOCK // len(means))
    total, left = 0.0, DRAWS // 2
    while left:
        drawn = noise.draw(min(block, left))
        # Each draw with its mirror image: without a choice to make (one group) the errors cancel exactly.
        for z in (drawn, -drawn):
            chosen = np.argmax(means + z, axis=1)
            total += float(np.sum(means[chosen] - z[np.arange(len(z)), chosen]))
        left -= len(drawn)
    corrected = min(total / DRAWS, float(means[best]))
    return corrected if reading.bounds is None else max(corrected, reading.bounds[0])
