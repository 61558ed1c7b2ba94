"""One reading of the scores: the groups' means and everything known about their errors.

Where scores are missing there are two readings: the tasks every run was scored on, and all tasks with each missing
score counted as the worst reward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .covariance import TaskCovariance, task_covariance
from .distributions import Floats, matching_df, t_quantile
from .scores import Scores
from .seeds import SeedVariance, seed_variance

Index = NDArray[np.intp]
# Below this many degrees of freedom between seeds Satterthwaite's approximation rejects too often.
FEW_SEED_DF = 4


@dataclass(frozen=True)
class Reading:
    """Means of K groups on N tasks.

    Attributes:
        x: [K, N] means over seeds, larger is better.
        means: [K] row means.
        task: covariance of the means over tasks.
        seeds: variance of the means over seeds.
        bounds: smallest and largest possible value, or None.
        binary: [K] whether a group has one run and only the two extreme rewards, and tasks are not clustered.
        clustered: whether tasks are clustered.
        scalar: whether the metric is one number a run (no tasks).
        tolerance: differences up to this are rounding errors.
    """

    x: Floats
    means: Floats
    task: TaskCovariance
    seeds: SeedVariance
    bounds: tuple[float, float] | None
    binary: NDArray[np.bool_]
    clustered: bool
    scalar: bool
    tolerance: float

    @property
    def df_task(self) -> float:
        """Degrees of freedom of the task covariance; a tiny positive number where it cannot be estimated."""
        return max(self.task.df, 1e-3)

    @property
    def covariance(self) -> Floats:
        """[K, K] covariance of the means, tasks and seeds together."""
        return self.task.matrix + np.diag(self.seeds.net / self.seeds.counts)

    def difference(self, i: Index, j: Index) -> Floats:
        """means[i] - means[j], exactly 0 where only rounding separates them."""
        d = self.means[i] - self.means[j]
        return np.where(np.abs(d) <= self.tolerance, 0.0, d)

    def task_variance(self, i: Index, j: Index) -> Floats:
        """Variance of means[i] - means[j] over tasks."""
        sigma = self.task.matrix
        v = sigma[i, i] + sigma[j, j] - 2.0 * sigma[i, j]
        return np.where(v <= self.tolerance**2, 0.0, v)

    def seed_part(self, i: Index, j: Index) -> Floats:
        """Variance of means[i] - means[j] over seeds; 0 between a group and itself."""
        v = self.seeds.net / self.seeds.counts
        return np.where(i == j, 0.0, v[i] + v[j])

    def df(self, i: Index, j: Index, task_part: Floats) -> Floats:
        """Degrees of freedom of the variance of means[i] - means[j] whose part over tasks is task_part."""
        return self._df(task_part, np.stack([i, j]))

    def df_of_mean(self, k: int) -> float:
        """Degrees of freedom of the variance of means[k]."""
        return float(self._df(self.task.matrix[[k], [k]], np.array([[k]]))[0])

    def _df(self, task_part: Floats, members: Index) -> Floats:
        """Degrees of freedom of task_part [P] plus the seed variance of the groups members [1 or 2, P].

        The variance is a sum of two independent estimates: tasks without the residual, and the raw variance of the run
        means, which holds it. Satterthwaite's formula; where the second has under 4 degrees of freedom, for which that
        is too liberal, the df of the critical value of Cochran and Cox 1950 (the weighted mean of both t quantiles).
        """
        seeds = self.seeds
        raw = (seeds.raw / seeds.counts)[members]
        seed = raw.sum(axis=0)
        task = np.maximum(task_part - (seeds.residual / seeds.counts)[members].sum(axis=0), 0.0)
        total = task + seed
        usable = (seed > 0) & (total > 0)
        share = np.divide(seed, total, out=np.zeros_like(total), where=usable)
        spread = np.sum(raw**2 / seeds.df[members], axis=0)
        seed_df = np.divide(seed**2, spread, out=np.ones_like(total), where=usable)
        seed_df = np.minimum(seed_df, max(seeds.total_df, 1.0))
        df = 1.0 / ((1.0 - share) ** 2 / self.df_task + share**2 / seed_df)
        few = usable & (seed_df < FEW_SEED_DF - 1e-6)
        if few.any():
            weighted = (1 - share) * t_quantile(0.975, self.df_task) + share * t_quantile(0.975, seed_df)
            df = np.where(few, matching_df(weighted), df)
        return np.where(usable, df, self.df_task)


def read_complete(scores: Scores) -> Reading:
    """The reading on the tasks that every run has a score for."""
    return _reading(scores, np.flatnonzero(~np.isnan(scores.values).any(axis=0)), scores.values)


def read_worst(scores: Scores) -> Reading:
    """The reading on all tasks, each missing score counted as the worst reward."""
    filled = np.where(np.isnan(scores.values), scores.worst, scores.values)
    return _reading(scores, np.arange(filled.shape[1]), filled)


def _reading(scores: Scores, columns: Index, values: Floats) -> Reading:
    runs = values[:, columns]
    k, n = len(scores.groups), runs.shape[1]
    seeds = seed_variance(runs, scores.run_group, scores.fixed)
    x = np.zeros((k, n))
    np.add.at(x, scores.run_group, runs)
    x /= seeds.counts[:, None]
    units = scores.units[columns]
    centre = float(x.mean()) if n else 0.0
    task = task_covariance(x - centre, units, scores.clustered)
    spread = float(np.abs(x - centre).max()) if n else 0.0
    size = float(np.abs(x).max()) if n else 0.0
    return Reading(
        x=x,
        means=x.mean(axis=1) if n else np.zeros(k),
        task=task,
        seeds=seeds,
        bounds=scores.bounds,
        binary=_binary(x, seeds, scores),
        clustered=scores.clustered,
        scalar=scores.scalar,
        tolerance=max(1e-10 * spread, 1e-13 * size),
    )


def _binary(x: Floats, seeds: SeedVariance, scores: Scores) -> NDArray[np.bool_]:
    if scores.bounds is None or scores.clustered or scores.scalar:
        return np.zeros(len(x), dtype=bool)
    low, high = scores.bounds
    extremes = ((x == low) | (x == high)).all(axis=1)
    return np.asarray(extremes & (seeds.counts == 1))
