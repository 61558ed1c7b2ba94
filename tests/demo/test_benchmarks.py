"""The tasks of the three built-in benchmarks: well-formed, distinct, repeatable, right."""

import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from pydantic import BaseModel, ValidationError

from evsys_hydra import Benchmark, BenchmarkConfig
from evsys_hydra.demo.arithmetic import Arithmetic, arithmetic_tasks
from evsys_hydra.demo.benchmark import DemoBenchmark, demo_tasks
from evsys_hydra.demo.tasks import Task
from evsys_hydra.demo.tool_selection import ToolSelection, tool_selection_tasks
from evsys_hydra.registry import benchmarks, verifiers

ALL: list[tuple[type[BaseModel], Callable[..., list[Task]]]] = [
    (DemoBenchmark, demo_tasks),
    (Arithmetic, arithmetic_tasks),
    (ToolSelection, tool_selection_tasks),
]
each_benchmark = pytest.mark.parametrize(("config", "make"), ALL, ids=["demo", "arithmetic", "tool_selection"])


@each_benchmark
def test_tasks_are_rows_of_tasks_jsonl(config: type[BaseModel], make: Callable[..., list[Task]]) -> None:
    tasks = make(config())
    assert json.loads(json.dumps(tasks)) == tasks
    for task in tasks:
        assert set(task) == {"task_id", "instruction", "verifier", "metadata"}
        assert set(task["verifier"]) == {"kind", "fn_name", "expected", "params"}
        assert task["verifier"]["kind"] == "in_process"
        assert re.fullmatch(r"[a-z_]+-\d{4}", task["task_id"])
        assert task["metadata"]


@each_benchmark
def test_tasks_are_distinct(config: type[BaseModel], make: Callable[..., list[Task]]) -> None:
    tasks = make(config())
    assert len({task["task_id"] for task in tasks}) == len({task["instruction"] for task in tasks}) == len(tasks)


@each_benchmark
def test_its_verifier_passes_the_right_answer_only(config: type[BaseModel], make: Callable[..., list[Task]]) -> None:
    tasks = make(config())
    for task, other in pairwise(tasks):
        verify = verifiers.get(task["verifier"]["fn_name"]).target
        right, wrong = task["verifier"]["expected"], other["verifier"]["expected"]
        assert verify(right, right, task["verifier"]["params"]) == 1.0
        assert verify(wrong, right, task["verifier"]["params"]) == float(right == wrong)


@each_benchmark
def test_the_seed_decides_the_tasks_and_a_smaller_n_is_their_beginning(
    config: type[BaseModel], make: Callable[..., list[Task]]
) -> None:
    tasks = make(config(n=60))
    assert make(config(n=60)) == tasks
    assert make(config(n=17)) == tasks[:17]
    assert make(config(n=60, seed=1)) != tasks


@pytest.mark.parametrize(
    ("kind", "hash"),
    [
        ("demo", "25e3b5fb5cd7b1c26a80ebb5a989200c95be590d94ba5edd0be8ffe6f1d7831e"),
        ("arithmetic", "83dc01cbd6144b26f07d85501dc5f6b517b739138465fd15982a0bd2b5205ed1"),
        ("tool_selection", "54bc3a86b321ecb25ac1e58346b50abab079a11310f5a31e623a0460da151e2a"),
    ],
)
def test_the_tasks_are_the_same_on_every_machine(kind: str, hash: str) -> None:
    """Scores of two versions can be compared only if these stay: a change of a benchmark needs a new kind."""
    entry = BenchmarkConfig.model_validate({"generate": {"kind": kind}})
    assert Benchmark.load(entry).hash == hash


@each_benchmark
def test_a_misspelt_setting_is_refused(config: type[BaseModel], make: Callable[..., list[Task]]) -> None:
    with pytest.raises(ValidationError, match="number_of_tasks"):
        config.model_validate({"number_of_tasks": 3})


@each_benchmark
def test_the_largest_benchmark_can_be_made(config: type[BaseModel], make: Callable[..., list[Task]]) -> None:
    (limit,) = (bound.le for bound in config.model_fields["n"].metadata if hasattr(bound, "le"))
    assert len(make(config(n=limit))) == limit


def test_the_smallest_choices_still_fill_the_largest_benchmark() -> None:
    easiest = Arithmetic(n=500, operations=["multiplication"], difficulties=["easy"])
    assert len(arithmetic_tasks(easiest)) == 500
    assert len(tool_selection_tasks(ToolSelection(n=1000, n_tools=3))) == 1000
    assert len(demo_tasks(DemoBenchmark(n=2000, families=["say"]))) == 2000


def test_demo_tasks_want_the_tagged_style_and_are_balanced_over_families() -> None:
    tasks = demo_tasks(DemoBenchmark())
    assert len(tasks) == 200
    assert all(re.fullmatch(r"<a>.+</a>", task["verifier"]["expected"]) for task in tasks)
    families = Counter(task["metadata"]["family"] for task in tasks)
    assert max(families.values()) - min(families.values()) <= 3
    assert {task["metadata"]["length"] for task in tasks} == {"short", "medium", "long"}


def test_the_demo_kind_is_registered() -> None:
    entry = benchmarks.get("demo")
    assert (entry.target, entry.config) == (demo_tasks, DemoBenchmark)


def test_arithmetic_results_are_right() -> None:
    for task in arithmetic_tasks(Arithmetic(n=500)):
        question = re.fullmatch(r"What is (\d+) ([-+*]) (\d+)\? Answer with the number only\.", task["instruction"])
        assert question is not None
        first, sign, second = int(question[1]), question[2], int(question[3])
        right = {"+": first + second, "-": first - second, "*": first * second}[sign]
        assert task["verifier"]["expected"] == str(right)
        assert set(task["metadata"]) == {"operation", "difficulty"}


def test_arithmetic_can_be_narrowed() -> None:
    tasks = arithmetic_tasks(Arithmetic(n=30, operations=["addition"], difficulties=["hard"]))
    assert {tuple(task["metadata"].values()) for task in tasks} == {("addition", "hard")}


@pytest.mark.parametrize("n_tools", [3, 6, 18])
def test_the_right_tool_is_offered_once_and_its_argument_is_in_the_request(n_tools: int) -> None:
    for task in tool_selection_tasks(ToolSelection(n=50, n_tools=n_tools)):
        right = json.loads(task["verifier"]["expected"])
        *_, request = task["instruction"].splitlines()
        offered = re.findall(r"^- tool (\w+), action (\w+):", task["instruction"], flags=re.MULTILINE)
        assert len(offered) == n_tools
        assert offered.count((right["tool"], right["action"])) == 1
        assert right["text"] in request
        assert task["metadata"] == {"toolkit": right["tool"], "action": right["action"]}
