"""How uncertain the means are because the tasks are a sample: the task covariance, plain or by clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .distributions import Floats


@dataclass(frozen=True)
class TaskCovariance:
    """Covariance of the groups' means over the draw of tasks.

    Attributes:
        matrix: [K, K].
        n_units: number of independent units: tasks, or clusters.
        effective_units: n_units; for clusters N^2 / sum n_c^2, the number of equal clusters worth as much.
        shares: [K, C] what each unit adds to each group's mean; the rows sum to the means.
    """

    matrix: Floats
    n_units: int
    effective_units: float
    shares: Floats

    @property
    def df(self) -> float:
        """Degrees of freedom: effective units - 1."""
        return self.effective_units - 1.0


def task_covariance(x: Floats, units: NDArray[np.intp], clustered: bool) -> TaskCovariance:
    """Covariance of the row means of x [K, N] over tasks; zeros where there are fewer than two units.

    Tasks alone: np.cov(x) / N. Clusters: the delete-one-cluster jackknife (CR3; MacKinnon, Nielsen and Webb 2023),
    centred at the full mean.
    """
    k, n = x.shape
    if not clustered:
        matrix = np.cov(x).reshape(k, k) / n if n >= 2 else np.zeros((k, k))
        return TaskCovariance(matrix, n, float(n), x / max(n, 1))
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    count = len(sizes)
    sums = np.zeros((k, count))
    np.add.at(sums.T, unit.reshape(-1), x.T)
    effective = float(n**2 / np.sum(sizes.astype(float) ** 2)) if n else 0.0
    if count < 2:
        return TaskCovariance(np.zeros((k, k)), count, effective, sums / max(n, 1))
    total = sums.sum(axis=1, keepdims=True)
    deviation = (total - sums) / (n - sizes) - total / n
    matrix = (count - 1) / count * (deviation @ deviation.T)
    return TaskCovariance(matrix, count, effective, sums / n)
