"""Tasks with choices: what they may hold, what they cannot be combined with, what is written and handed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from evsys_hydra import BenchmarkConfig, ConfigError, DataError, Request, Result, register_verifier
from evsys_hydra.benchmark import Benchmark, check_benchmark
from evsys_hydra.inference.api import ApiClient, ApiInference
from evsys_hydra.inference.local import LocalInference
from evsys_hydra.sweep.validate import validate_words

VERIFIER = {"kind": "in_process", "fn_name": "exact_match", "expected": "Paris"}


def task(task_id: str = "a", **changes: Any) -> dict[str, Any]:
    row = {"task_id": task_id, "instruction": "Capital of France?", "verifier": VERIFIER}
    return {**row, "choices": ["Paris", "Rome"], **changes}


def folder(root: Path, *rows: dict[str, Any]) -> Path:
    (root / "tasks.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return root


class First:
    """Chooses the first one, by log-likelihoods that say so."""

    identity = "first"

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def generate(
        self, requests: Sequence[Request], on_result: Callable[[int, Result], None] | None = None
    ) -> list[Result]:
        self.asked += requests
        values = [-1.5 - place for place in range(2)]
        return [Result(request.choices[0], choice_logprobs=values) for request in requests]


@register_verifier("test_margin")
def margin(output: str, expected: Any, params: dict[str, Any]) -> float:
    """By how much the first choice is likelier."""
    first, second = params["choice_logprobs"]
    return float(first - second) / params["scale"]


def test_choices_are_asked_for_and_their_log_likelihoods_written(tmp_path: Path) -> None:
    rows = [task("a"), task("b", choices=["Rome", "Paris"], choice_delimiter="", choice_norm="bytes")]
    client = First()
    scored = Benchmark.from_iterable("capitals", rows).score(client, predictions=tmp_path / "rows.jsonl")
    asked = [(request.choices, request.choice_delimiter, request.choice_norm) for request in client.asked]
    assert asked == [(["Paris", "Rome"], " ", None), (["Rome", "Paris"], "", "bytes")]
    assert [(row["output"], row["reward"]) for row in scored.predictions] == [("Paris", 1.0), ("Rome", 0.0)]
    written = [orjson.loads(line) for line in (tmp_path / "rows.jsonl").read_bytes().splitlines()]
    assert [row["metadata"]["choice_logprobs"] for row in written] == [[-1.5, -2.5]] * 2


def test_a_verifier_of_ones_own_gets_the_log_likelihoods() -> None:
    verifier = {"kind": "in_process", "fn_name": "test_margin", "params": {"scale": 4}}
    benchmark = Benchmark.from_iterable("margins", [task(verifier=verifier)])
    assert benchmark.score(First()).metrics["mean_reward"] == 0.25


def test_what_is_verified_again_keeps_its_log_likelihoods(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    verifier = {"kind": "in_process", "fn_name": "test_margin", "params": {"scale": 4}}
    benchmark = Benchmark.from_iterable("margins", [task(verifier=verifier)])
    (row,) = benchmark.score(First(), predictions=file).predictions
    row["metadata"]["verifier"] = "an older version"
    file.write_bytes(orjson.dumps(row) + b"\n")
    client = First()
    assert benchmark.score(client, predictions=file).predictions[0]["reward"] == 0.25
    assert client.asked == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"choices": ["Paris"]}, "choices"),
        ({"choices": ["Paris", ""]}, "choices"),
        ({"choices": ["Paris", "Paris", "Rome"]}, "choices: more than once: 'Paris'"),
        ({"max_tokens": 4}, "max_tokens: nothing is generated for a task with choices"),
        ({"choices": None, "choice_norm": "bytes"}, "choice_norm: the task has no choices"),
        ({"choice_norm": "tokens"}, "'characters' or 'bytes'"),
    ],
)
def test_choices_that_cannot_be_asked(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match="row 1: ") as caught:
        Benchmark.from_iterable("wrong", [task(**changes)])
    assert said in str(caught.value)


def test_tasks_without_choices_keep_their_hash() -> None:
    plain = {"instruction": "A?", "verifier": {**VERIFIER, "expected": "yes"}}
    rows = [{"task_id": "a", **plain}, {"task_id": "b", **plain, "instruction": "B?", "max_tokens": 4}]
    rows[1]["metadata"] = {"k": 1}
    before = "dfd223cf4aa861caf35cbf0a3e42ef311da372f5987a53c6b151876500c678be"
    assert Benchmark.from_iterable("x", rows).hash == before
    hashes = [Benchmark.from_iterable("x", [row]).hash for row in (task(), task(choices=["Paris", "Oslo"]))]
    hashes += [Benchmark.from_iterable("x", [task(choice_norm="bytes")]).hash]
    assert len(set(hashes)) == 3


def test_what_choices_cannot_be_combined_with_is_said_before_anything_is_spent(tmp_path: Path) -> None:
    path = str(folder(tmp_path, task("a"), task("b")))
    entry = BenchmarkConfig(path=path, num_samples=4, models=["gpt-x"])
    said = check_benchmark(entry, ApiInference())
    assert [line.split(":")[0] for line in said] == [
        "benchmark.num_samples=4", "inference.kind=api", "benchmark.models",
    ]  # fmt: skip
    assert all("(a and 1 more)" in line for line in said) and "use inference=local or vllm" in said[1]
    assert check_benchmark(BenchmarkConfig(path=path), LocalInference()) == []
    with pytest.raises(ConfigError, match="num_samples=2"):
        Benchmark.from_dir(path).score(First(), num_samples=2)
    with pytest.raises(ConfigError, match=r"inference\.kind=api: tasks with choices"):
        validate_words(["inference=api", "inference.model=x", "benchmark=folder", f"benchmark.path={path}"])


def test_an_api_model_is_not_asked() -> None:
    client = ApiClient(ApiInference(model="x", base_url="http://127.0.0.1:9/v1", key_env=None))
    (result,) = client.generate([Request([], choices=["a", "b"])])
    assert result.error is not None and "which this client does not give" in result.error
    assert client.usage.requests == 0


@pytest.mark.model
def test_the_demo_model_chooses() -> None:
    from evsys_hydra.config import ModelConfig
    from evsys_hydra.inference.local import LocalClient
    from evsys_hydra.models import load_model

    client = LocalClient(*load_model(ModelConfig(name="demo", dtype="float32")))
    scored = Benchmark.from_iterable("capitals", [task("a"), task("b", choices=["Rome", "Oslo", "Paris"])]).score(
        client
    )
    assert scored.metrics["n_errors"] == 0
    assert [len(row["metadata"]["choice_logprobs"]) for row in scored.predictions] == [2, 3]
    assert all(row["output"] in ("Paris", "Rome", "Oslo") for row in scored.predictions)
