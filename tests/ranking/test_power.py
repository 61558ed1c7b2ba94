"""What can be detected: the formulas against simulation, and power before spend."""

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from evsys_hydra.ranking import TableError, detectable, rank

from .tables import logistic_world, make_table


def test_two_groups_one_seed_is_the_paired_formula() -> None:
    found = detectable(400, 1, 2, base_rate=0.5, correlation=0.5)
    df = 399
    expected = (stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)) * np.sqrt(2 * 0.25 * 0.5 / 400)
    assert found["detectable"] == pytest.approx(expected, rel=1e-3)
    assert found["scope"] == "checkpoint"
    assert "400 tasks" in found["text"] and "base rate of 0.5" in found["text"]


def test_more_groups_need_a_larger_lead_and_more_of_anything_a_smaller_one() -> None:
    def gap(*size: int) -> float:
        value = detectable(*size)["detectable"]
        assert isinstance(value, float)
        return value

    assert gap(300, 3, 2) < gap(300, 3, 5) < gap(300, 3, 20)
    assert gap(300, 3, 5) > gap(3000, 3, 5)
    assert gap(300, 3, 5) > gap(300, 10, 5)


@pytest.mark.parametrize("n_groups", [2, 8])
def test_a_detectable_lead_wins_about_80_percent(n_groups: int) -> None:
    rng = np.random.default_rng(0)
    gap = detectable(150, 1, n_groups, base_rate=0.5, correlation=0.5)["detectable"]
    wins, repeats = 0, 150
    for _ in range(repeats):
        # Correlation 1/2 at base rate 1/2: a score copies a coin shared by all groups, or is one of its own.
        shared = rng.random(150) < 0.5
        own = rng.random((n_groups, 150))
        x = np.where(rng.random((n_groups, 150)) < np.sqrt(0.5), shared, own < 0.5).astype(float)
        lucky = rng.random(150) < 2 * gap
        x[0] = np.where(lucky & (x[0] == 0), 1.0, x[0])
        wins += rank(make_table(x))["winner"] == "g00"
    assert 0.68 <= wins / repeats <= 0.95


def test_a_pilot_replaces_the_assumptions() -> None:
    x, groups, seeds = logistic_world(np.random.default_rng(1), 3, 100, 3, seed_sd=0.5)
    pilot = make_table(x, groups, seeds)
    found = detectable(400, 3, 3, pilot=pilot)
    assumptions: Any = found["assumptions"]
    assert assumptions["source"] == "pilot" and assumptions["seed_sd_source"] == "pilot"
    assert "pilot" in str(found["text"])
    spread = np.sqrt(np.mean([np.var(x[3 * a : 3 * a + 3].mean(0) - x[3 * b : 3 * b + 3].mean(0), ddof=1)
                              for a, b in ((0, 1), (0, 2), (1, 2))]))  # fmt: skip
    assert assumptions["difference_sd"] == pytest.approx(spread)


def test_a_pilots_run_noise_is_taken_to_the_planned_seeds() -> None:
    x, groups, seeds = logistic_world(np.random.default_rng(3), 2, 400, 4)
    many: Any = detectable(400, 1, 2, pilot=make_table(x, groups, seeds))["assumptions"]
    first = [row for row, seed in enumerate(seeds) if seed == 0]
    one: Any = detectable(400, 1, 2, pilot=make_table(x[first], ["g00", "g01"]))["assumptions"]
    assert many["difference_sd"] == pytest.approx(one["difference_sd"], rel=0.1)


def test_a_pilot_with_one_seed_leaves_the_seed_spread_assumed() -> None:
    x, groups, seeds = logistic_world(np.random.default_rng(2), 2, 100)
    assumptions: Any = detectable(100, 3, 2, pilot=make_table(x, groups, seeds))["assumptions"]
    assert (assumptions["source"], assumptions["seed_sd_source"]) == ("pilot", "assumed")


def test_a_pilot_without_variance_falls_back_to_the_assumptions() -> None:
    assumptions: Any = detectable(100, 1, 2, pilot=make_table(np.ones((2, 20))))["assumptions"]
    assert assumptions["source"] == "assumed"


def test_too_few_tasks_detect_nothing() -> None:
    found = detectable(5, 3, 2)
    assert found["detectable"] is None
    assert "nothing can be inferred" in str(found["text"])
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n_tasks": 0}, "n_tasks is 0"),
        ({"n_seeds": 0}, "n_seeds is 0"),
        ({"n_groups": 1}, "n_groups is 1"),
        ({"base_rate": 1.2}, "base_rate is 1.2"),
        ({"correlation": 1.0}, "correlation is 1.0"),
        ({"seed_sd": -0.1}, "seed_sd is -0.1"),
        ({"alpha": 0.9}, "alpha is 0.9"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        detectable(**{"n_tasks": 100, "n_seeds": 1, "n_groups": 2, **arguments})


def test_a_malformed_pilot_is_a_table_error() -> None:
    with pytest.raises(TableError):
        detectable(100, 1, 2, pilot={"arms": []})


def test_tasks_needed_would_find_the_gap() -> None:
    """Ten times the tasks with the same differences: more than tasks_needed finds the gap, and fewer is asked for."""
    x = np.zeros((2, 60))
    x[0, :30], x[1, 6:33] = 1, 1
    verdict = rank(make_table(x))
    assert verdict["winner"] is None
    gap, k = 3 / 60, stats.t.ppf(0.975, 59) + stats.t.ppf(0.8, 59)
    variance = np.var(x[0] - x[1], ddof=1)
    assert verdict["mde"] == pytest.approx(k * np.sqrt(variance / 60))
    assert verdict["tasks_needed"] == pytest.approx(variance * k**2 / gap**2, abs=1)
    copies = -(-verdict["tasks_needed"] // 60)
    assert rank(make_table(np.tile(x, copies)))["winner"] == "g00"
