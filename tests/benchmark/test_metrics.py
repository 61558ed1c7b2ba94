"""Metrics by their definitions: the task is the unit, an errored sample has no reward."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from evsys_hydra import BenchmarkConfig, ConfigError, UnknownKind, register_metric
from evsys_hydra.benchmark.breakdown import breakdowns
from evsys_hydra.benchmark.metrics import TaskSamples, compute, pass_at_k, pass_hat_k


def tasks(*rewards: Sequence[float | None]) -> list[TaskSamples]:
    return [TaskSamples(str(place), list(each), {"half": place % 2}) for place, each in enumerate(rewards)]


def test_the_defaults() -> None:
    assert compute(tasks([1, 0], [0.5, None], [None, None])) == {
        "mean_reward": 0.5,  # of the task means .5 and .5
        "pass_rate": 1 / 3,  # one of three scored samples
        "n_tasks": 3,
        "n_errors": 3,
    }
    assert compute(tasks([None])) == {"n_tasks": 1, "n_errors": 1}


@pytest.mark.parametrize("n", range(1, 7))
def test_pass_at_k_and_pass_hat_k_are_the_means_over_all_subsets(n: int) -> None:
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        subsets = list(itertools.combinations([1] * c + [0] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(any(subset) for subset in subsets) / len(subsets))
        assert pass_hat_k(n, c, k) == pytest.approx(sum(all(subset) for subset in subsets) / len(subsets))


def test_pass_at_k_by_name() -> None:
    values = compute(tasks([1, 0, 0, 0], [0, 0, 0, 0]), ["pass@1", "pass@2", "pass^2"])
    assert values["pass@1"] == values["pass_rate"] == 0.125
    assert values["pass@2"] == 0.25
    assert values["pass^2"] == 0.0
    with pytest.raises(ConfigError, match="num_samples >= 5"):
        compute(tasks([1, 0, 0, 0]), ["pass@5"])


def test_pass_at_k_leaves_out_tasks_with_too_few_scored_samples() -> None:
    assert compute(tasks([1, 0], [1, None]), ["pass@2"])["pass@2"] == 1.0
    assert "pass@2" not in compute(tasks([1, None]), ["pass@2"])


def test_registered_metrics() -> None:
    @register_metric("best_reward")
    def best(samples: Sequence[TaskSamples]) -> float:
        return max(reward for task in samples for reward in task.scored)

    assert compute(tasks([0.2], [0.7]), ["best_reward"])["best_reward"] == 0.7
    with pytest.raises(UnknownKind, match="best_rewrad"):
        compute(tasks([1]), ["best_rewrad"])
    with pytest.raises(UnknownKind, match=r"'pass_at_1'.* Or pass@k and pass\^k, k up to num_samples \(2\)"):
        BenchmarkConfig(path="x", num_samples=2, metrics=["pass_at_1"])


def test_breakdowns_partition_the_headline() -> None:
    samples = [
        TaskSamples("a", [1.0], {"at": {"level": 1}}),
        TaskSamples("b", [0.0], {"at": {"level": 1}}),
        TaskSamples("c", [1.0], {"at": {"level": 2}}),
        TaskSamples("d", [0.5], {"other": 1}),
        TaskSamples("e", [None], {"at": {"level": 1}}),
    ]
    rows = breakdowns(samples, ["at.level"])["at.level"]
    assert set(rows) == {"1", "2", "__missing__"}
    assert rows["1"] == {"n": 2, "mean_reward": 0.5, "mean_reward_se": 0.5, "pass_rate": 0.5, "pass_rate_se": 0.5}
    assert rows["2"] == {"n": 1, "mean_reward": 1.0, "pass_rate": 1.0}
    headline = compute(samples)
    total = sum(row["n"] for row in rows.values())
    assert sum(row["n"] * row["mean_reward"] for row in rows.values()) / total == headline["mean_reward"]
