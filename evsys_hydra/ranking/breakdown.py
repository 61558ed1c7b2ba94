"""Scores by the value of a task's metadata field, with standard errors: a description, never a ranking.

Same definitions as the headline: mean_reward is the mean over tasks of the task's mean, pass_rate the share of passing
samples among all samples. A breakdown declares no winner: many slices of one table always hold a striking one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

MISSING = "__missing__"


def breakdown(tasks: Iterable[tuple[object, Sequence[float]]]) -> dict[str, dict[str, float | int | None]]:
    """Per value: n (scored tasks), mean_reward, mean_reward_se, pass_rate, pass_rate_se; values sorted.

    Args:
        tasks: one (value, rewards of the task's scored samples) a task. A value of None counts as `__missing__`; a task
            without a scored sample is left out. A pass is a reward >= 1.

    Standard errors are over tasks, None for a single task: sd / sqrt(n) of the task means; for pass_rate, a ratio of
    two sums, its linearisation (Cochran 1977, 6.4), so that tasks with many samples do not count as many tasks.
    """
    by_value: dict[str, list[Sequence[float]]] = {}
    for value, rewards in tasks:
        if len(rewards):
            by_value.setdefault(MISSING if value is None else str(value), []).append(rewards)
    return {value: _slice(by_value[value]) for value in sorted(by_value)}


def _slice(tasks: list[Sequence[float]]) -> dict[str, float | int | None]:
    n = len(tasks)
    means = np.array([math.fsum(rewards) / len(rewards) for rewards in tasks])
    passed = np.array([sum(reward >= 1 for reward in rewards) for rewards in tasks], dtype=float)
    samples = np.array([len(rewards) for rewards in tasks], dtype=float)
    pass_rate = float(passed.sum() / samples.sum())
    residual = passed - pass_rate * samples
    pass_se = math.sqrt(float(residual @ residual) * n / (n - 1)) / float(samples.sum()) if n > 1 else None
    return {
        "n": n,
        "mean_reward": float(means.mean()),
        "mean_reward_se": float(means.std(ddof=1)) / math.sqrt(n) if n > 1 else None,
        "pass_rate": pass_rate,
        "pass_rate_se": pass_se,
    }
