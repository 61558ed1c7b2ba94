"""A malformed table is an error that names the arm, the field, the value and what is valid."""

import copy
import pickle

import numpy as np
import pytest

from evsys_hydra.ranking import TableError, rank

from .tables import Table, make_table, scalar_table


def good() -> Table:
    return make_table(np.array([[1.0] * 8, [0.0] * 8]), ["a", "b"])


def broken(change: str) -> Table:
    table = copy.deepcopy(good())
    exec(change, {"t": table, "arm": table["arms"][0], "nan": float("nan"), "inf": float("inf")})
    return table


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("t.clear()", ["metric", "arms"]),
        ("t['arms'] = []", ["arms", "at least one"]),
        ("t['arms'] = None", ["arms", "None"]),
        ("t['arms'][1] = 3", ["arms[1]", "3"]),
        ("t['metric']['direction'] = 'up'", ["metric.direction", "'up'", "'maximize'", "'minimize'"]),
        ("t['metric']['kind'] = 'both'", ["metric.kind", "'both'", "'per_task'", "'scalar'"]),
        ("t['metric']['bounds'] = [1, 0]", ["metric.bounds", "[1, 0]"]),
        ("t['metric']['bounds'] = [0, nan]", ["metric.bounds"]),
        ("t['metric']['name'] = ''", ["metric.name"]),
        ("t['metric']['pass_at_k'] = 0", ["pass_at_k", "0"]),
        ("t['metric']['pass_at_k'] = 2", ["a-s0", "per_task['t0000']", "1 samples", "pass@2"]),
        ("t['metric']['kind'] = 'scalar'", ["a-s0", "per_task", "'scalar'"]),
        ("arm['per_task']['t0003'] = nan", ["a-s0", "per_task['t0003']", "nan", "finite"]),
        ("arm['per_task']['t0003'] = -inf", ["a-s0", "per_task['t0003']", "inf"]),
        ("arm['per_task']['t0003'] = None", ["a-s0", "per_task['t0003']", "None", "leave a missing task out"]),
        ("arm['per_task']['t0003'] = '1'", ["a-s0", "per_task['t0003']", "'1'"]),
        ("arm['per_task']['t0003'] = 10 ** 400", ["a-s0", "per_task['t0003']"]),
        ("arm['per_task']['t0003'] = 1.5", ["a-s0", "per_task['t0003']", "1.5", "[0.0, 1.0]"]),
        ("arm['per_task']['t0003'] = []", ["a-s0", "per_task['t0003']", "at least one sample"]),
        ("arm['per_task']['t0003'] = [0, nan]", ["a-s0", "per_task['t0003']", "finite"]),
        ("arm['per_task'][7] = 1.0", ["a-s0", "per_task[7]", "string"]),
        ("arm['per_task'] = [1.0]", ["a-s0", "per_task", "[1.0]"]),
        ("arm['scalar'] = nan", ["a-s0", "scalar", "nan"]),
        ("arm['status'] = 'done'", ["a-s0", "status", "'done'", "'ok'", "'failed'"]),
        ("arm['ranked'] = 'no'", ["a-s0", "ranked", "'no'"]),
        ("arm['seed'] = 1.5", ["a-s0", "seed", "1.5"]),
        ("arm['group'] = ''", ["a-s0", "group"]),
        ("arm.pop('name')", ["arms[0]", "name"]),
        ("arm['staus'] = 'ok'", ["a-s0", "'staus'", "status"]),
        ("t['arm'] = []", ["'arm'", "arms"]),
        ("arm['name'] = 'b-s0'", ["b-s0", "unique"]),
        ("arm['group'] = 'b'", ["group 'b' with seed 0", "unique"]),
        ("arm['group'] = 'b'; arm['seed'] = 1; arm['ranked'] = False", ["ranked", "group 'b'"]),
        ("t['clusters'] = {'t0000': 'c'}", ["a-s0", "clusters", "'t0001'", "6 more"]),
        ("t['clusters'] = ['c']", ["clusters", "['c']"]),
        ("t['clusters'] = {t: None for t in arm['per_task']}", ["clusters['t0000']", "None"]),
        ("t['baseline'] = 'c'", ["baseline", "'c'", "['a', 'b']"]),
        ("t['hypothesis'] = {'better': 'a'}", ["hypothesis", "better", "than"]),
        ("t['hypothesis'] = {'better': 'a', 'than': 'z'}", ["hypothesis.than", "'z'", "['a', 'b']"]),
        ("t['hypothesis'] = {'better': 'a', 'than': 'a'}", ["hypothesis", "itself"]),
        ("t['min_effect'] = -1", ["min_effect", "-1"]),
        ("t['min_effect'] = inf", ["min_effect", "inf"]),
        ("t['alpha'] = 1", ["alpha", "1"]),
        ("t['rng_seed'] = -1", ["rng_seed", "-1"]),
        ("t['rng_seed'] = True", ["rng_seed", "True"]),
    ],
)
def test_each_malformed_field_is_named(change: str, parts: list[str]) -> None:
    with pytest.raises(TableError) as caught:
        rank(broken(change))
    for part in parts:
        assert part in str(caught.value)


def test_all_problems_come_at_once() -> None:
    table = broken("arm['per_task']['t0003'] = nan; t['alpha'] = 2; t['baseline'] = 'c'")
    with pytest.raises(TableError, match="3 problems") as caught:
        rank(table)
    assert str(caught.value).count("\n- ") == 3


def test_many_bad_cells_are_counted_not_listed() -> None:
    table = broken("arm['per_task'] = {f't{i}': nan for i in range(5000)}")
    with pytest.raises(TableError, match=r"4,997 more problems like these") as caught:
        rank(table)
    assert len(str(caught.value)) < 2000


def test_the_error_is_picklable() -> None:
    with pytest.raises(TableError) as caught:
        rank({"arms": 3})
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_table_that_is_no_mapping() -> None:
    with pytest.raises(TableError, match="must be a mapping"):
        rank([])  # type: ignore[arg-type]


def test_scalar_outside_its_bounds() -> None:
    table = scalar_table({"a": [0.5, 2.0]})
    table["metric"]["bounds"] = [0, 1]
    with pytest.raises(TableError, match=r"a-s1.*scalar is 2\.0.*\[0\.0, 1\.0\]"):
        rank(table)


def test_the_scores_of_a_failed_arm_are_not_read() -> None:
    table = broken("arm['status'] = 'failed'; arm['per_task'] = {'x': nan}")
    assert rank(table)["ranking"] == ["b"]


def test_the_table_is_left_as_it_was() -> None:
    table = good()
    before = copy.deepcopy(table)
    rank(table)
    assert table == before


def test_numpy_numbers_and_booleans_are_rewards() -> None:
    table = good()
    table["arms"][0]["per_task"] = {task: np.float64(1) for task in table["arms"][0]["per_task"]}
    table["arms"][1]["per_task"] = dict.fromkeys(table["arms"][1]["per_task"], False)
    assert rank(table) == rank(good())
