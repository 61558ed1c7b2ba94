"""Samples to one score a task.

The unit of inference is the task (or a cluster of tasks), never the sample: several samples of one task are folded to
their mean, or to the unbiased pass@k, before anything is compared.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

SHOWN = 3


class ScoreProblem(ValueError):
    """Malformed task scores of one arm; one problem a line."""


def pass_at_k(n_samples: int, n_passed: int, k: int) -> float:
    """Unbiased pass@k of one task: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, Evaluating LLMs Trained on Code).

    Raises:
        ValueError: unless 0 <= n_passed <= n_samples and 1 <= k <= n_samples.
    """
    if not 0 <= n_passed <= n_samples:
        raise ValueError(f"n_passed is {n_passed}; it must lie between 0 and n_samples = {n_samples}")
    if not 1 <= k <= n_samples:
        raise ValueError(f"k is {k}; it must lie between 1 and the number of samples, {n_samples}")
    return 1.0 - math.comb(n_samples - n_passed, k) / math.comb(n_samples, k)


def fold(samples: Sequence[float], k: int | None) -> float:
    """One task's score from its samples' rewards: the mean, or pass@k where a pass is a reward >= 1."""
    if k is None:
        return math.fsum(samples) / len(samples)
    return pass_at_k(len(samples), sum(reward >= 1 for reward in samples), k)


def read_scores(
    per_task: Mapping[str, object], bounds: tuple[float, float] | None, k: int | None
) -> Mapping[str, float]:
    """Task id to folded reward.

    Args:
        per_task: task id to a reward or to a non-empty list of sample rewards.
        bounds: the smallest and largest possible reward, or None.
        k: fold to pass@k instead of the mean.

    Raises:
        ScoreProblem: naming the first few malformed tasks and the number of the others.
    """
    fast = _plain_scores(per_task, bounds) if k is None else None
    if fast is not None:
        return fast
    problems: list[str] = []
    scores: dict[str, float] = {}
    for task, cell in per_task.items():
        problem = _problem(task, cell, bounds, k)
        if problem is not None:
            problems.append(problem)
            continue
        scores[task] = fold([float(reward) for reward in _samples(cell)], k)
    if problems:
        more = len(problems) - SHOWN
        shown = problems[:SHOWN] + ([f"per_task has {more:,} more problems like these"] if more > 0 else [])
        raise ScoreProblem("\n".join(shown))
    return scores


def _plain_scores(per_task: Mapping[str, object], bounds: tuple[float, float] | None) -> dict[str, float] | None:
    """The scores when all are finite plain numbers within bounds (checked as one array), else None."""
    if not set(map(type, per_task.values())) <= {int, float, bool} or not set(map(type, per_task)) <= {str}:
        return None
    try:
        values = np.fromiter(per_task.values(), dtype=float, count=len(per_task))
    except OverflowError:
        return None
    low, high = bounds or (-math.inf, math.inf)
    if not np.all(np.isfinite(values) & (values >= low) & (values <= high)):
        return None
    return dict(zip(per_task, values.tolist(), strict=True))


def _problem(task: object, cell: object, bounds: tuple[float, float] | None, k: int | None) -> str | None:
    field = f"per_task[{task!r}]"
    if not isinstance(task, str):
        return f"{field}: the task id must be a string"
    samples = _samples(cell)
    if not samples:
        return f"{field} is []; it must hold at least one sample (leave a missing task out)"
    if not all(map(_finite, samples)):
        return f"{field} is {cell!r:.80}; a reward must be a finite number (leave a missing task out)"
    if bounds and not all(bounds[0] <= reward <= bounds[1] for reward in samples):
        return f"{field} is {cell!r:.80}; a reward must lie within the metric's bounds {list(bounds)}"
    if k is not None and len(samples) < k:
        return f"{field} has {len(samples)} samples; pass@{k} needs at least {k}"
    return None


def _samples(cell: object) -> list[float]:
    """The cell's rewards, not yet checked to be numbers."""
    return list(cell) if isinstance(cell, (list, tuple)) else [cast(float, cell)]


def _finite(value: object) -> bool:
    """Whether value is a finite number; a whole number too large for a float is not."""
    try:
        return isinstance(value, numbers.Real) and math.isfinite(value)
    except OverflowError:
        return False
