"""Rewards to metrics.

A metric is a function of all tasks' samples. An errored sample has no reward: it is counted in n_errors and takes part
in nothing else, so the headline is over scored samples; the ranking reads missing scores both ways. A task without a
scored sample is out of mean_reward; with no scored sample at all there is no mean_reward and no pass_rate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import registry
from ..config import BenchmarkConfig
from ..errors import ConfigError
from ..registry import register_metric

DEFAULT = ("mean_reward", "pass_rate", "n_tasks", "n_errors")
PASS = 1.0


def metric_names(entry: BenchmarkConfig) -> list[str]:
    """The metrics that a benchmark entry's scores have."""
    return list(dict.fromkeys([*DEFAULT, *entry.metrics]))


@dataclass(frozen=True)
class TaskSamples:
    """All samples of one task.

    Args:
        rewards: one a sample, in sample order; None: the sample is errored.
    """

    task_id: str
    rewards: Sequence[float | None]
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def scored(self) -> list[float]:
        """Rewards of the samples that have one."""
        return [reward for reward in self.rewards if reward is not None]

    @property
    def passes(self) -> int:
        """Samples with a reward of at least 1."""
        return sum(reward >= PASS for reward in self.scored)


@register_metric("mean_reward")
def mean_reward(tasks: Sequence[TaskSamples]) -> float | None:
    """Mean over tasks of the task's mean reward."""
    return _mean(_mean(task.scored) for task in tasks)


@register_metric("pass_rate")
def pass_rate(tasks: Sequence[TaskSamples]) -> float | None:
    """Passing samples over all scored samples."""
    scored = sum(len(task.scored) for task in tasks)
    return sum(task.passes for task in tasks) / scored if scored else None


@register_metric("n_tasks")
def n_tasks(tasks: Sequence[TaskSamples]) -> float:
    """Tasks of the benchmark, scored or not."""
    return len(tasks)


@register_metric("n_errors")
def n_errors(tasks: Sequence[TaskSamples]) -> float:
    """Samples without a reward: not generated, or not verified."""
    return sum(reward is None for task in tasks for reward in task.rewards)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of k samples drawn from n, of which c pass, passes: 1 - C(n-c, k) / C(n, k).

    Unbiased for the pass@k of fresh samples (Chen et al. 2021).
    """
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def pass_hat_k(n: int, c: int, k: int) -> float:
    """Chance that all of k samples drawn from n, of which c pass, pass: C(c, k) / C(n, k) (Yao et al. 2024)."""
    return math.comb(c, k) / math.comb(n, k)


def compute(tasks: Sequence[TaskSamples], extra: Iterable[str] = ()) -> dict[str, float]:
    """The default metrics and `extra` ones; a metric that has nothing to be computed from is left out.

    Raises:
        ConfigError: pass@k with k above the samples of a task.
        UnknownKind: a metric that nothing registered.
    """
    values = {name: value(name, tasks) for name in dict.fromkeys([*DEFAULT, *extra])}
    return {name: number for name, number in values.items() if number is not None}


def value(name: str, tasks: Sequence[TaskSamples]) -> float | None:
    """One metric by name; None if there is nothing to compute it from."""
    drawn = re.fullmatch(r"pass([@^])(\d+)", name)
    if drawn is None:
        computed = registry.metrics.get(name).target(tasks)
        return None if computed is None or computed != computed else computed
    k = int(drawn[2])
    for task in tasks:
        if not 1 <= k <= len(task.rewards):
            raise ConfigError(
                f"metric {name!r} needs num_samples >= {k}; task {task.task_id!r} has {len(task.rewards)}"
            )
    estimate = pass_at_k if drawn[1] == "@" else pass_hat_k
    counted = [(len(task.scored), task.passes) for task in tasks if len(task.scored) >= k]
    return _mean(estimate(n, c, k) for n, c in counted)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [number for number in values if number is not None]
    return math.fsum(known) / len(known) if known else None
