"""Benchmarks with their tasks and datasets with their rows: once in a store, and only while they are what was used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.benchmark import Benchmark
from evsys_hydra.config import DataConfig
from evsys_hydra.record import ArmRecord, ExperimentRecord
from evsys_hydra.store import BulkStore
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.sync import sources, sync
from evsys_hydra.training.rows import load_rows, rows_hash

from . import making

CONFIG = {
    "inference": {"kind": "local"},
    "store": {"kind": "none"},
    "algorithm": {"kind": "none"},
}


def tasks(folder: Path, n: int = 3) -> Benchmark:
    folder.mkdir(exist_ok=True)
    rows = [
        {
            "task_id": f"t{number}",
            "instruction": f"say {number}",
            "verifier": {"kind": "in_process", "fn_name": "exact_match", "expected": str(number)},
        }
        for number in range(n)
    ]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Benchmark.from_dir(folder)


def scored(record: ExperimentRecord, name: str, folder: Path, data: dict[str, Any], n_rows: int) -> None:
    """An arm that was trained on `data` and scored on the benchmark of `folder`."""
    metadata = {"benchmark": [{"path": str(folder)}]}
    directory = making.add_arm(record, name, data=data, metadata=metadata, **CONFIG)
    arm = ArmRecord(directory)
    arm.start()
    rows = load_rows(DataConfig(**data))
    arm.event("provenance", data_sha256=rows_hash(rows), n_rows=n_rows)
    making.evaluate(arm, folder.name, benchmark_id=None, benchmark_hash=Benchmark.from_dir(folder).hash)
    arm.complete({"status": "completed", "metrics": {}})


def test_an_eval_refers_to_a_benchmark_with_its_tasks(tmp_path: Path, store: BulkStore) -> None:
    tasks(tmp_path / "bench")
    data = {"rows": [{"prompt": "a", "completion": "b"}]}
    for number in range(2):  # two experiments share what they were scored and trained on
        record = making.experiment(tmp_path / f"exp{number}", name=f"e{number}")
        for name in ("a", "b"):
            scored(record, name, tmp_path / "bench", data, 1)
        assert sync(tmp_path / f"exp{number}", store).error is None
    (benchmark,), (dataset,) = store.list_benchmarks(), store.list_datasets()
    assert (benchmark["name"], store.get_benchmark(benchmark["id"])["n_rows"]) == ("bench", 3)
    rows = store.get_benchmark_rows(benchmark["id"])
    assert [row["payload"]["instruction"] for row in rows] == ["say 0", "say 1", "say 2"]
    assert rows[1]["payload"]["verifier"]["expected"] == "1"
    assert (dataset["name"], dataset["metadata"]["n_rows"]) == ("rows", 1)
    assert store.get_dataset_rows(dataset["id"]) == [{"idx": 0, "payload": {"prompt": "a", "completion": "b"}}]
    runs = [run for row in store.list_experiments() for run in store.list_runs(experiment_id=row["id"])]
    assert len(runs) == 4
    for run in runs:
        assert run["dataset_id"] == dataset["id"]
        assert [row["benchmark_id"] for row in store.list_evals(run["id"])] == [benchmark["id"]]


def test_tasks_that_changed_since_do_not_go_along(tmp_path: Path, local: LocalStore) -> None:
    record = making.experiment(tmp_path / "exp")
    tasks(tmp_path / "bench")
    scored(record, "a", tmp_path / "bench", {"rows": [{"text": "x"}]}, 1)
    tasks(tmp_path / "bench", 5)
    sync(tmp_path / "exp", local)
    (benchmark,) = local.list_benchmarks()
    assert local.get_benchmark(benchmark["id"])["n_rows"] == 0
    assert local.list_evals(local.list_runs()[0]["id"])[0]["benchmark_id"] == benchmark["id"]


def test_a_large_dataset_goes_without_its_rows(
    tmp_path: Path, local: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": str(n)}) + "\n" for n in range(sources.FEW_ROWS + 1)))
    record = making.experiment(tmp_path / "exp")
    tasks(tmp_path / "bench")
    scored(record, "a", tmp_path / "bench", {"path": str(file)}, sources.FEW_ROWS + 1)
    sync(tmp_path / "exp", local)
    (dataset,) = local.list_datasets()
    assert (dataset["name"], dataset["storage_uri"], dataset["source_kind"]) == ("rows.jsonl", str(file), "file")
    assert (local.get_dataset(dataset["id"])["n_rows"], dataset["metadata"]["n_rows"]) == (0, sources.FEW_ROWS + 1)


def test_an_upload_that_was_cut_off_goes_on(tmp_path: Path, local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ROWS_AT_ONCE", 2)
    record = making.experiment(tmp_path / "exp")
    tasks(tmp_path / "bench", 7)
    scored(record, "a", tmp_path / "bench", {"rows": [{"text": "x"}]}, 1)
    whole, calls = local.add_benchmark_rows, []

    def cut(benchmark_id: str, rows: list[Any], *, start_idx: int = 0) -> list[Any]:
        calls.append(start_idx)
        if len(calls) == 3:
            raise ConnectionError("the network went away")
        return whole(benchmark_id, rows, start_idx=start_idx)

    monkeypatch.setattr(local, "add_benchmark_rows", cut)
    assert "the network went away" in str(sync(tmp_path / "exp", local).error)
    assert sync(tmp_path / "exp", local).error is None
    assert calls == [0, 2, 4, 4, 6]
    assert len(local.get_benchmark_rows(local.list_benchmarks()[0]["id"])) == 7


def test_a_run_that_is_made_before_its_data_is_known_learns_of_it(tmp_path: Path, store: BulkStore) -> None:
    record = making.experiment(tmp_path / "exp")
    directory = making.add_arm(record, "a", data={"rows": [{"text": "x"}]})
    arm = ArmRecord(directory)
    arm.start()
    sync(tmp_path / "exp", store, live=True)
    (run,) = store.list_runs(experiment_id=store.list_experiments()[0]["id"])
    assert run["dataset_id"] is None
    arm.event("provenance", data_sha256="ab" * 32, n_rows=1)
    sync(tmp_path / "exp", store, live=True)
    assert store.get_run(run["id"])["dataset_id"] == store.list_datasets()[0]["id"]
