"""What must hold for every table."""

import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evsys_hydra.ranking import rank

from .tables import Table, make_table

pytestmark = pytest.mark.filterwarnings("error")
EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True)


@st.composite
def tables(draw: st.DrawFn, *, missing: bool = True, bounded: bool = True, max_groups: int = 4) -> Table:
    """Small tables of every kind: binary and graded, seeds, clusters, missing scores, references, failures."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_tasks = draw(st.integers(1, 30))
    runs = draw(st.lists(st.integers(1, 5), min_size=1, max_size=max_groups))
    groups = [f"g{index:02}" for index, count in enumerate(runs) for _ in range(count)]
    seeds = [seed for count in runs for seed in range(count)]
    levels = draw(st.sampled_from([1, 1, 4, 1000]))
    rates = rng.choice([0.0, 0.3, 0.5, 0.9, 1.0], size=len(runs))
    chance = np.repeat(rates, runs)[:, None] * np.ones(n_tasks)
    x = rng.binomial(levels, chance) / levels
    if missing and draw(st.booleans()):
        x[rng.random(x.shape) < 0.08] = np.nan
    clusters = rng.integers(0, draw(st.integers(2, 12)), n_tasks).tolist() if draw(st.booleans()) else None
    table = make_table(x, groups, seeds, clusters, rng_seed=draw(st.integers(0, 3)))
    if not bounded or draw(st.booleans()):
        table["metric"]["bounds"] = None
    names = sorted(set(groups))
    if len(names) > 1:
        table["baseline"] = draw(st.sampled_from([None, names[0]]))
        table["hypothesis"] = draw(st.sampled_from([None, {"better": names[1], "than": names[0]}]))
        last_is_reference = draw(st.booleans())
        for arm in table["arms"]:
            if last_is_reference and arm["group"] == names[-1]:
                arm["ranked"] = False
    table["min_effect"] = draw(st.sampled_from([None, 0.1]))
    if draw(st.integers(0, 4)) == 0:
        table["arms"][0]["status"] = "failed"
    return table


def close(left: Any, right: Any) -> bool:
    """Equal up to rounding."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(close(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(close, left, right))
    if isinstance(left, float) and isinstance(right, (int, float)):
        return left == pytest.approx(right, rel=1e-6, abs=1e-8)
    return bool(left == right)


@given(tables())
@EXAMPLES
def test_every_verdict_is_finite_json_and_consistent(table: Table) -> None:
    verdict = rank(table)
    assert json.loads(json.dumps(verdict, allow_nan=False)) == verdict
    ranking, best_set = verdict["ranking"], verdict["best_set"]
    assert set(best_set) <= set(ranking) == set(verdict["arms"])
    if verdict["winner"] is not None:
        assert (verdict["verdict"], best_set) == ("winner", [verdict["winner"]])
        assert all(row["p_eff"] <= table["alpha"] for row in verdict["differences"].values())
    elif len(ranking) > 1:
        assert len(best_set) > 1
    assert (verdict["verdict"] == "tie_at_top") == (1 < len(best_set) < len(ranking))
    for row in [*verdict["arms"].values(), *verdict["references"].values()]:
        if row["ci"] is not None:
            assert row["ci"][0] <= row["estimate"] <= row["ci"][1]
            if table["metric"]["bounds"]:
                assert -1e-12 <= row["ci"][0] <= row["ci"][1] <= 1 + 1e-12
    for row in verdict["differences"].values():
        if row["ci"] is not None:
            assert row["ci"][0] <= row["diff"] <= row["ci"][1]
            assert row["p"] <= row["p_eff"] <= 1
            if row["p_eff"] > table["alpha"]:
                assert row["ci"][0] <= 0 <= row["ci"][1]


@given(tables())
@EXAMPLES
def test_deterministic_by_rng_seed(table: Table) -> None:
    assert rank(table) == rank(copy.deepcopy(table))


@given(tables(), st.randoms(use_true_random=False))
@EXAMPLES
def test_the_order_of_arms_and_tasks_never_matters(table: Table, random: Any) -> None:
    shuffled = copy.deepcopy(table)
    random.shuffle(shuffled["arms"])
    for arm in shuffled["arms"]:
        tasks = list(arm["per_task"].items())
        random.shuffle(tasks)
        arm["per_task"] = dict(tasks)
    if shuffled["clusters"]:
        shuffled["clusters"] = dict(reversed(shuffled["clusters"].items()))
    assert rank(table) == rank(shuffled)


def negated(table: Table) -> Table:
    mirror = copy.deepcopy(table)
    mirror["metric"]["direction"] = "minimize"
    if table["metric"]["bounds"]:
        low, high = table["metric"]["bounds"]
        mirror["metric"]["bounds"] = [-high, -low]
    for arm in mirror["arms"]:
        arm["per_task"] = {task: -score for task, score in arm["per_task"].items()}
    return mirror


def mirrored(value: Any, field: str = "") -> Any:
    """The verdict with every signed number negated."""
    if isinstance(value, dict):
        return {key: mirrored(item, key) for key, item in value.items()}
    if field == "ci" and value is not None:
        return [-value[1], -value[0]]
    return -value if field in ("estimate", "diff", "best_score_corrected") and value is not None else value


@given(tables())
@EXAMPLES
def test_flipping_signs_and_direction_gives_the_mirrored_verdict(table: Table) -> None:
    expected = {**mirrored(rank(table)), "direction": "minimize"}
    assert close(rank(negated(table)), expected)


@given(tables(bounded=False), st.sampled_from([-3.0, 0.25, 100.0]))
@EXAMPLES
def test_a_constant_added_changes_nothing(table: Table, constant: float) -> None:
    shifted = copy.deepcopy(table)
    for arm in shifted["arms"]:
        arm["per_task"] = {task: score + constant for task, score in arm["per_task"].items()}
    verdict, moved = rank(table), rank(shifted)
    for field in ("verdict", "winner", "best_set", "ranking", "differences", "vs_baseline", "hypothesis", "mde"):
        assert close(verdict[field], moved[field]), field
    for group, row in verdict["arms"].items():
        assert moved["arms"][group]["estimate"] == pytest.approx(row["estimate"] + constant)


@given(tables(max_groups=3))
@EXAMPLES
def test_duplicated_groups_are_never_separated(table: Table) -> None:
    table["baseline"] = table["hypothesis"] = None
    copies = copy.deepcopy(table["arms"])
    for arm in copies:
        arm["name"], arm["group"] = f"copy-{arm['name']}", f"copy-{arm['group']}"
    table["arms"] += copies
    verdict = rank(table)
    assert verdict["winner"] is None
    for group in verdict["ranking"]:
        if not group.startswith("copy-"):
            assert (group in verdict["best_set"]) == (f"copy-{group}" in verdict["best_set"])
            assert verdict["arms"][group] == verdict["arms"][f"copy-{group}"]
