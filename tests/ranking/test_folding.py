"""Samples are folded to one score a task before anything is compared."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from evsys_hydra.ranking import pass_at_k, rank

from .tables import make_table


@pytest.mark.parametrize(("n", "c"), [(1, 0), (1, 1), (4, 0), (4, 1), (4, 3), (4, 4), (7, 2)])
def test_pass_at_k_is_the_mean_over_all_subsets(n: int, c: int) -> None:
    passed = [True] * c + [False] * (n - c)
    for k in range(1, n + 1):
        subsets = list(combinations(passed, k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize(("n", "c", "k"), [(3, 4, 1), (3, -1, 1), (3, 1, 0), (3, 1, 4)])
def test_pass_at_k_out_of_range(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="must lie between"):
        pass_at_k(n, c, k)


def sampled(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    table = make_table(np.zeros((2, 30)), ["a", "b"])
    for arm in table["arms"]:
        arm["per_task"] = {task: rng.integers(0, 2, 4).tolist() for task in arm["per_task"]}
    return table


def test_samples_count_as_their_mean() -> None:
    table, folded = sampled(0), sampled(0)
    for arm in folded["arms"]:
        arm["per_task"] = {task: float(np.mean(samples)) for task, samples in arm["per_task"].items()}
    assert rank(table) == rank(folded)


def test_repeating_every_sample_changes_nothing() -> None:
    table, repeated = sampled(1), sampled(1)
    for arm in repeated["arms"]:
        arm["per_task"] = {task: samples * 25 for task, samples in arm["per_task"].items()}
    assert rank(table) == rank(repeated)


def test_pass_at_k_selected_by_the_metric() -> None:
    table, folded = sampled(2), sampled(2)
    table["metric"]["pass_at_k"] = 2
    for arm in folded["arms"]:
        arm["per_task"] = {task: pass_at_k(4, sum(s), 2) for task, s in arm["per_task"].items()}
    assert rank(table) == rank(folded)


def test_unequal_numbers_of_samples() -> None:
    table = sampled(3)
    table["arms"][0]["per_task"]["t0000"] = [1, 0, 0]
    table["arms"][0]["per_task"]["t0001"] = 1
    assert rank(table)["n_units"] == 30
