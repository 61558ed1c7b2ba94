"""Which groups may still be the best: the winner alone, or the set that the data cannot tell from the top.

The winner needs no multiplicity factor (Hung and Fithian 2019, rank verification); the set does, by multiple
comparisons with the best (Hsu 1996).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .analysis import Analysis
from .distributions import Floats, normal_quantile
from .reading import Index

DRAWS = 10_000
# With many groups the quantile needs no more precision than this many draws give.
DRAWS_MANY = 2_000
MANY_GROUPS = 200
# Only this many rivals, those with the largest t, are tested against a group in question; fewer tests keep more groups.
RIVALS = 16


def ranking_order(analysis: Analysis) -> Index:
    """Group indices, best first; groups that only rounding separates are in order of name."""
    reading = analysis.main
    step = 10.0 * reading.tolerance
    behind = reading.means.max() - reading.means
    key = np.round(behind / step) if step > 0 else behind
    return np.lexsort((np.arange(len(key)), key)).astype(np.intp)


def find_best_set(analysis: Analysis, order: Index, p_to_best: Floats, noise: Callable[[int], Floats]) -> list[int]:
    """Indices of the groups that cannot be excluded from being best.

    Args:
        analysis: the ranked groups.
        order: indices, best first.
        p_to_best: [K] p_eff of each group against the best (1 for the best itself).
        noise: noise(draws) gives [draws, K] draws of the means' errors.
    """
    best, alpha = int(order[0]), analysis.alpha
    if analysis.can_infer and len(order) > 1 and np.delete(p_to_best, best).max() <= alpha:
        return [best]
    if not analysis.can_infer:
        return [int(j) for j in order]
    suspects = [int(j) for j in order if p_to_best[j] <= alpha]
    dropped = _dropped(analysis, suspects, noise)
    kept = [int(j) for j in order if int(j) not in dropped]
    means, step = analysis.main.means, analysis.main.tolerance
    tied = {j for j in dropped if any(abs(means[j] - means[i]) <= step for i in kept)}
    return [int(j) for j in order if int(j) not in dropped - tied]


def _dropped(analysis: Analysis, suspects: list[int], noise: Callable[[int], Floats]) -> set[int]:
    """The suspects j for which max_i z_ij exceeds c_j, the quantile of max_i (Z_i - Z_j) / sd_ij under the null."""
    if not suspects:
        return set()
    k = len(analysis.groups)
    one, all_pairs = (float(normal_quantile(1 - analysis.alpha / m)) for m in (1, k - 1))
    draws: NDArray[np.float32] | None = None
    dropped: set[int] = set()
    for j in suspects:
        z = _largest_z(analysis, j)
        # c_j lies between the quantile of one comparison and the union bound over all of them.
        if z <= one:
            continue
        if z <= all_pairs:
            if draws is None:
                draws = np.ascontiguousarray(noise(DRAWS if k <= MANY_GROUPS else DRAWS_MANY).T, dtype=np.float32)
                scratch = np.empty_like(draws)
            if z <= _critical(analysis, j, draws, scratch):
                continue
        dropped.add(j)
    return dropped


def _largest_z(analysis: Analysis, j: int) -> float:
    reading = analysis.main
    rows = np.delete(np.arange(len(analysis.groups), dtype=np.intp), j)
    others = np.full(len(rows), j, dtype=np.intp)
    sd = np.sqrt(reading.task_variance(rows, others) + reading.seed_part(rows, others))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(sd > 0, reading.difference(rows, others) / sd, 0.0)
    rivals = np.sort(rows[np.argsort(-t, kind="stable")[:RIVALS]])
    return float(analysis.z_column(j, rivals).max())


def _critical(analysis: Analysis, j: int, draws: NDArray[np.float32], scratch: NDArray[np.float32]) -> float:
    """c_j from draws [K, B] of the means' errors; scratch is a buffer of the same shape."""
    reading = analysis.main
    rows = np.arange(len(analysis.groups), dtype=np.intp)
    others = np.full(len(rows), j, dtype=np.intp)
    variance = reading.task_variance(rows, others) + reading.seed_part(rows, others)
    # A scale of 0 leaves j itself and its duplicates out: they add a 0, below any quantile that matters.
    scale = np.divide(1.0, np.sqrt(variance), out=np.zeros_like(variance), where=variance > 0)
    np.subtract(draws, draws[j], out=scratch)
    np.multiply(scratch, scale.astype(np.float32)[:, None], out=scratch)
    return float(np.quantile(scratch.max(axis=0), 1 - analysis.alpha))
