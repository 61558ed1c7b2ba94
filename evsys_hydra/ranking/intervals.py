"""The interval of one group's mean: Wilson for bounded rewards, t otherwise."""

from __future__ import annotations

import numpy as np

from .distributions import t_quantile
from .reading import Reading


def wilson(p: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion p from n (not necessarily whole) observations; always within [0, 1]."""
    z2 = quantile**2
    if not np.isfinite(z2):
        return 0.0, 1.0
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = quantile / (1 + z2 / n) * np.sqrt(p * (1 - p) / n + z2 / (4 * n**2))
    return float(max(0.0, min(p, centre - half))), float(min(1.0, max(p, centre + half)))


def standard_error(reading: Reading, k: int) -> float | None:
    """Standard error of group k's mean over tasks and seeds; None where it cannot be estimated."""
    tasks = reading.task.n_units >= 2
    seeds = reading.seeds.counts[k] >= 2 or bool(reading.seeds.pooled_single[k])
    if not (seeds if reading.scalar else tasks):
        return None
    return float(np.sqrt(max(reading.task.matrix[k, k] + reading.seeds.net[k] / reading.seeds.counts[k], 0.0)))


def group_interval(reading: Reading, k: int, alpha: float) -> tuple[float, float] | None:
    """1 - alpha interval of group k's mean; None where the standard error is.

    Bounded rewards: Wilson with the effective number of tasks n = p(1-p)/V and t quantiles, or the plain Wilson
    interval for one run of binary rewards. At a bound (p of 0 or 1), and where all tasks agree, n is the units' number.
    """
    error = standard_error(reading, k)
    if error is None:
        return None
    mean = float(reading.means[k])
    df = reading.df_of_mean(k)
    if reading.bounds is None or reading.scalar:
        half = float(t_quantile(1 - alpha / 2, df)) * error
        low, high = reading.bounds or (-np.inf, np.inf)
        return max(mean - half, min(low, mean)), min(mean + half, max(high, mean))
    low, high = reading.bounds
    p = min(max((mean - low) / (high - low), 0.0), 1.0)
    variance = (error / (high - low)) ** 2
    units = reading.task.effective_units
    if reading.binary[k] and reading.seeds.net[k] == 0:
        n, quantile = float(reading.task.n_units), float(t_quantile(1 - alpha / 2, np.inf))
    else:
        flat = variance <= 1e-20 or p * (1 - p) == 0
        n, quantile = (units if flat else p * (1 - p) / variance), float(t_quantile(1 - alpha / 2, df))
    ends = wilson(p, n, quantile)
    return low + ends[0] * (high - low), low + ends[1] * (high - low)
