"""reasoning-gym as a benchmark: the same tasks in every process, the datasets' own scores, errors that help."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from evsys_hydra import Benchmark, BenchmarkConfig, Request, Result
from evsys_hydra.benchmark import check_benchmark
from evsys_hydra.benchmark.reasoning_gym import reasoning_gym
from evsys_hydra.benchmark.reasoning_gym_entries import plain, restored

pytestmark = pytest.mark.slow

pytest.importorskip("reasoning_gym", reason="needs the reasoning-gym extra")
NAMES = ["chain_sum", "rearc", "word_ladder"]
CONFIG = {"chain_sum": {"min_terms": 2, "max_terms": 3}}
HASH = "d0d8cfeb108b06b83047369838de4a6a500988d8225acc63784da82ec83ad4a5"


def entry(**settings: Any) -> BenchmarkConfig:
    return BenchmarkConfig.model_validate({"generate": {"kind": "reasoning_gym", **settings}})


@pytest.fixture(scope="module")
def loaded() -> Benchmark:
    return Benchmark.load(entry(names=NAMES, n=8, config=CONFIG))


def test_the_tasks_are_those_of_the_seed_in_every_process(loaded: Benchmark) -> None:
    assert loaded.hash == HASH
    code = (
        "from evsys_hydra import Benchmark, BenchmarkConfig\n"
        f"generate = {{'kind': 'reasoning_gym', 'names': {NAMES!r}, 'n': 8, 'config': {CONFIG!r}}}\n"
        "print(Benchmark.load(BenchmarkConfig(generate=generate)).hash)"
    )
    other = {**os.environ, "PYTHONHASHSEED": "77"}  # word_ladder alone would draw other tasks
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=other)
    assert done.stdout.strip() == HASH
    assert Benchmark.load(entry(names=NAMES, n=8, config=CONFIG, seed=1)).hash != HASH


def test_datasets_take_turns_and_tell_their_difficulty(loaded: Benchmark) -> None:
    assert [task.metadata["dataset"] for task in loaded.tasks] == [*NAMES, *NAMES, *NAMES][:8]
    sums = [task for task in loaded.tasks if task.metadata["dataset"] == "chain_sum"]
    assert {task.metadata["category"] for task in sums} == {"arithmetic"}
    for task in sums:
        signs = sum(task.instruction.count(f" {sign} ") for sign in "+-")
        assert task.metadata["difficulty"]["num_terms"] == signs + 1 <= 3


class Knows:
    """Answers the first `right` tasks rightly, in words; the others wrongly."""

    def __init__(self, benchmark: Benchmark, right: int) -> None:
        self._answers = [task.verifier.expected if n < right else "no idea" for n, task in enumerate(benchmark.tasks)]

    def generate(self, requests: Sequence[Request], on_result: Any = None) -> list[Result]:
        return [Result(f"Let me see. <answer>\n{answer}\n</answer>") for answer in self._answers]


def test_a_dataset_scores_its_answers_in_the_verifier_process(loaded: Benchmark) -> None:
    scored = loaded.score(Knows(loaded, 5), breakdown_keys=["dataset"])
    assert scored.metrics["n_errors"] == 0
    assert [row["reward"] == 1.0 for row in scored.predictions] == [True] * 5 + [False] * 3
    assert set(scored.breakdowns["dataset"]) == set(NAMES)


def test_an_answer_without_tags_is_taken_whole(loaded: Benchmark) -> None:
    right = loaded.tasks[1]  # a grid, which the dataset compares as tuples
    assert reasoning_gym(f" {right.verifier.expected}\n", None, right.verifier.params) == 1.0
    assert reasoning_gym("<answer>5</answer>", None, right.verifier.params) < 1.0


def test_entries_survive_json() -> None:
    value = {"grid": ((1, 2), (3,)), "edges": {(0, 1): "red", 2: None}, "list": [{"a": ()}]}
    assert restored(plain(value)) == value


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"names": "chain_summ"}, ["generate.names", "'chain_summ'", "chain_sum", "decimal_chain_sum"]),
        ({"names": "zzzz"}, ["'zzzz'", "known: ", "word_ladder"]),
        ({"names": "chain_sum", "config": {"chain_sum": {"max_term": 3}}}, ["did you mean 'max_terms'?", "min_digits"]),
        ({"names": "chain_sum", "config": {"chain_sum": {"max_terms": -1}}}, ["config.chain_sum", "max_terms must be"]),
        ({"names": "chain_sum", "config": {"rearc": {}}}, ["generate.config", "rearc is not among names (chain_sum)"]),
    ],
)
def test_what_cannot_be_made_is_told(settings: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(Exception) as caught:
        check_benchmark(entry(**settings))
    assert type(caught.value).__name__ == "ConfigError"
    assert all(part in str(caught.value) for part in said), str(caught.value)
