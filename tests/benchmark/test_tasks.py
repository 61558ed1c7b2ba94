"""Reading benchmarks: every bad line is named by file and line, and equal tasks have equal hashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra import BenchmarkConfig, DataError
from evsys_hydra.benchmark import Benchmark, check_benchmark


def row(task_id: str, **changes: Any) -> dict[str, Any]:
    verifier = {"kind": "in_process", "fn_name": "exact_match", "expected": "yes"}
    return {"task_id": task_id, "instruction": f"Task {task_id}?", "verifier": verifier, **changes}


def folder(path: Path, lines: list[str], metadata: str | None = None) -> Path:
    path.mkdir(exist_ok=True)
    (path / "tasks.jsonl").write_text("\n".join(lines) + "\n")
    if metadata is not None:
        (path / "metadata.yaml").write_text(metadata)
    return path


def test_a_folder_is_named_by_its_metadata_or_by_itself(tmp_path: Path) -> None:
    lines = [json.dumps(row("a")), "", json.dumps(row("b"))]
    assert Benchmark.from_dir(folder(tmp_path / "mine", lines)).name == "mine"
    named = Benchmark.from_dir(folder(tmp_path / "mine", lines, "name: yours\nabout: words"))
    assert named.name == "yours" and named.metadata["about"] == "words"
    assert [task.task_id for task in named.tasks] == ["a", "b"]
    assert Benchmark.load(BenchmarkConfig(path=str(tmp_path / "mine"), name="ours")).name == "ours"


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    lines = [
        json.dumps(row("a")),
        '{"task_id": "b", ',
        json.dumps({**row("c"), "task_id": None}),
        json.dumps(row("a")),
        json.dumps(row("e", verifier={"kind": "magic"})),
        json.dumps(row("f", verifier={"kind": "in_process", "fn_name": "exact_macth"})),
        json.dumps(row("g", system_promt="x")),
    ]
    path = folder(tmp_path / "bad", lines)
    with pytest.raises(DataError) as caught:
        Benchmark.from_dir(path)
    said = str(caught.value).splitlines()
    file = path / "tasks.jsonl"
    assert [line.split(": ")[0] for line in said] == [f"{file}:{number}" for number in range(2, 8)]
    assert "not JSON" in said[0]
    assert "task_id" in said[1]
    assert f"'a' is already that of {file}:1" in said[2]
    assert "in_process" in said[3] and "llm_judge" in said[3]
    assert "Did you mean 'exact_match'?" in said[4] and "regex_match" in said[4]
    assert "did you mean 'system_prompt'?" in said[5]


def test_ten_problems_are_shown(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        Benchmark.from_dir(folder(tmp_path / "bad", ["{"] * 25))
    assert len(str(caught.value).splitlines()) == 11
    assert str(caught.value).endswith("... and 15 more")


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such benchmark folder"):
        Benchmark.from_dir(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no tasks\.jsonl in"):
        Benchmark.from_dir(tmp_path)
    with pytest.raises(DataError, match="has no tasks"):
        Benchmark.from_dir(folder(tmp_path / "empty", [""]))
    with pytest.raises(DataError, match="must be a mapping"):
        Benchmark.from_dir(folder(tmp_path / "odd", [json.dumps(row("a"))], "- a"))


def test_the_hash_is_of_the_tasks(tmp_path: Path) -> None:
    rows = [row("a"), row("b", metadata={"x": 1, "y": 2})]
    made = Benchmark.from_iterable("one", rows)
    turned = Benchmark.from_iterable("two", [dict(reversed(each.items())) for each in rows])
    read = Benchmark.from_dir(folder(tmp_path / "three", [json.dumps(each) for each in rows]))
    assert made.hash == turned.hash == read.hash
    assert Benchmark.from_iterable("one", [rows[0], row("b", metadata={"x": 1, "y": 3})]).hash != made.hash


def test_generated_benchmarks(tmp_path: Path) -> None:
    loaded = Benchmark.load(BenchmarkConfig.model_validate({"generate": {"kind": "demo", "n": 20}}))
    assert loaded.name == "demo" and len(loaded.tasks) == 20
    assert check_benchmark(BenchmarkConfig.model_validate({"generate": {"kind": "demo"}})) == []


def test_check_finds_what_cannot_run(tmp_path: Path) -> None:
    sandboxed = row("e", verifier={"kind": "e2b", "dockerfile": "FROM python", "test_sh": "t", "test_state_py": "p"})
    path = folder(tmp_path / "b", [json.dumps(row("a", metadata={"level": 1})), json.dumps(sandboxed)])
    entry = BenchmarkConfig(path=str(path), breakdown_keys=["level", "leevl"], cluster_key="topic")
    problems = check_benchmark(entry)
    assert len(problems) == 3
    assert "tasks.jsonl:2" in problems[0] and "benchmark.sandbox=bubblewrap" in problems[0]
    assert "'leevl'" in problems[1] and "it has level" in problems[1]
    assert "benchmark.cluster_key" in problems[2]
    assert check_benchmark(BenchmarkConfig(path=str(path), limit=1)) == []
    assert "no such benchmark folder" in check_benchmark(BenchmarkConfig(path="/nowhere"))[0]


def test_tasks_made_by_code_can_be_written_down() -> None:
    rows = [row("a"), row("b", metadata={"n": 2**70}), row("c", metadata={"of": {1: 2}})]
    with pytest.raises(DataError) as caught:
        Benchmark.from_iterable("made", rows)
    lines = str(caught.value).splitlines()
    assert lines[0] == "made: row 2: has a value that is no JSON: Integer exceeds 64-bit range"
    assert len(lines) <= 2
