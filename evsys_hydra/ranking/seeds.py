"""How uncertain the means are because training is random: the variance between replicate runs.

A group's runs are its replicates. The variance of their means holds the seed effect and a residual (seed x task noise)
that the task covariance already counts, so the residual is taken off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .distributions import Floats, f_quantile

# From this many replicates a group's own seed variance is used alone (Welch); with fewer the larger of own and pooled.
OWN_FROM = 4
# A group whose replicates spread more than this quantile of F allows against the others has its own df only.
UNSTABLE = 0.95


@dataclass(frozen=True)
class SeedVariance:
    """Per group [K]: variance of one run's mean between seeds.

    Attributes:
        counts: number of runs, S.
        net: raw - residual, at least 0: what replicates add to the standard errors.
        typical: net without the cautious choice of the larger of own and pooled: pooled below 4 replicates.
        raw: variance of the run means, the quantity that was estimated.
        residual: the part of raw that the task covariance counts already, MS(seed x task) / N.
        df: degrees of freedom of raw.
        total_df: sum of S - 1 over all groups, the cap for any pair.
        pooled_single: groups with one run that borrow the other groups' variance.
    """

    counts: Floats
    net: Floats
    typical: Floats
    raw: Floats
    residual: Floats
    df: Floats
    total_df: float
    pooled_single: NDArray[np.bool_]

    @property
    def replicated(self) -> bool:
        """Whether any group has replicates; if not there is no seed term and claims hold for checkpoints only."""
        return self.total_df > 0


def seed_variance(values: Floats, run_group: NDArray[np.intp], fixed: NDArray[np.bool_]) -> SeedVariance:
    """Seed variance of each group from run scores values [R, N] without missing entries.

    S >= 4: the group's own. 2 or 3: the larger of own and pooled. 1: pooled, unless its weights are fixed, as a
    reference's are.
    """
    k = len(fixed)
    counts = np.bincount(run_group, minlength=k).astype(float)
    df = counts - 1.0
    total_df = float(df.sum())
    if total_df == 0 or values.shape[1] == 0:
        none = np.zeros(k)
        return SeedVariance(counts, none, none, none, none, np.ones(k), 0.0, np.zeros(k, dtype=bool))
    own = np.zeros((2, k))
    for group in np.flatnonzero(counts >= 2):
        own[:, group] = _between_runs(values[run_group == group])
    pooled = own @ df / total_df
    own_net, pooled_net = _without_residual(own), float(_without_residual(pooled))
    few, single = (counts >= 2) & (counts < OWN_FROM), (counts == 1) & ~fixed
    # Ties are common with few discrete scores; rounding must not decide them.
    from_pool = (few & (own_net <= pooled_net * (1 + 1e-9))) | single
    own_df = (counts >= OWN_FROM) | (few & _unstable(own[0], df))
    return SeedVariance(
        counts=counts,
        net=np.where(from_pool, pooled_net, own_net),
        typical=np.where(few | single, pooled_net, own_net),
        raw=np.where(from_pool, pooled[0], own[0]),
        residual=np.where(from_pool, pooled[1], own[1]),
        df=np.where(own_df, np.maximum(df, 1.0), total_df),
        total_df=total_df,
        pooled_single=single,
    )


def _without_residual(parts: Floats) -> Floats:
    """raw - residual of parts (raw, residual), at least 0, and 0 where only rounding is left."""
    net = parts[0] - parts[1]
    return np.where(net > 1e-9 * parts[0], net, 0.0)


def _between_runs(runs: Floats) -> tuple[float, float]:
    """Variance of the run means of runs [S, N], and the residual's part of it, MS(seed x task) / N."""
    s, n = runs.shape
    means = runs.mean(axis=1)
    raw = float(np.var(means, ddof=1))
    if n < 2:
        return raw, 0.0
    residual = runs - means[:, None] - runs.mean(axis=0)[None, :] + means.mean()
    return raw, float(np.sum(residual**2) / ((s - 1) * (n - 1)) / n)


def _unstable(raw: Floats, df: Floats) -> NDArray[np.bool_]:
    """Groups whose variance is significantly larger than that of the other groups together (one-sided F test)."""
    rest_df = df.sum() - df
    testable = (df > 0) & (rest_df > 0)
    rest = np.divide(raw @ df - raw * df, rest_df, out=np.zeros_like(raw), where=testable)
    limit = f_quantile(UNSTABLE, np.maximum(df, 1.0), np.maximum(rest_df, 1.0))
    return np.asarray(testable & (raw > limit * rest * (1 + 1e-9)))
