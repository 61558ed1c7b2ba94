"""The sign-flip test: how often a random exchange of two groups' labels, unit by unit, gives a larger difference.

Exact under the null that the two groups are exchangeable on every unit. All groups share one set of flips, so a column
of K tests is one matrix product.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .distributions import Floats

# All 2^(C-1) flips are enumerated up to this many units; beyond it DRAWS are drawn.
ENUMERATED_UNITS = 13
DRAWS = 8192
# Flips are used up to this many units; beyond it t is as good.
LARGEST_UNITS = 200
# With this many differing units or fewer, mid-p rejects more often than alpha (2 of 32 flips at 6 units): plain p.
PLAIN_UNITS = 6


@lru_cache(maxsize=4)
def _signs(units: int, rng_seed: int) -> Floats:
    """[flips, units] of +-1; the first unit keeps its sign when all are enumerated (two-sided symmetry)."""
    if units <= ENUMERATED_UNITS:
        patterns = np.arange(2 ** (units - 1))[:, None] >> np.arange(units - 1)
        return np.concatenate([np.ones((len(patterns), 1)), 1.0 - 2.0 * (patterns & 1)], axis=1)
    rng = np.random.default_rng([rng_seed, 1])
    drawn = 1.0 - 2.0 * rng.integers(0, 2, size=(DRAWS - 1, units), dtype=np.int8)
    return np.concatenate([np.ones((1, units)), drawn])


class SignFlips:
    """Sign-flip p-values of differences between rows of shares [K, C], the units' contributions to the means."""

    def __init__(self, shares: Floats, rng_seed: int, tolerance: float) -> None:
        self._shares = shares
        self._sums = shares @ _signs(shares.shape[1], rng_seed).T
        self._tolerance = tolerance

    def against(self, j: int, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Floats:
        """Two-sided p of every row in `rows` against row j: mid-p, or the plain p where few units differ."""
        flipped = np.abs(self._sums[rows] - self._sums[j])
        contributions = self._shares[rows] - self._shares[j]
        observed = np.abs(contributions.sum(axis=1))[:, None]
        reached = np.count_nonzero(flipped >= observed - self._tolerance, axis=1)
        beyond = np.count_nonzero(flipped > observed + self._tolerance, axis=1)
        total = flipped.shape[1]
        plain, mid = reached / total, (reached + beyond) / (2.0 * total)
        differing = np.count_nonzero(np.abs(contributions) > self._tolerance / contributions.shape[1], axis=1)
        p = np.where(differing <= PLAIN_UNITS, plain, mid)
        return np.where(observed[:, 0] <= self._tolerance, 1.0, p)
