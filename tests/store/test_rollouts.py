"""Rollouts of an arm reach a store as predictions of kind "rollout", each once, beside those of its evals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evsys_hydra.record.arm import predictions_path
from evsys_hydra.record.files import LineWriter
from evsys_hydra.store.gateway import GatewayStore
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.sync import sync

from . import making
from .servers import free_port


def rollout(step: int, sample: int) -> dict[str, Any]:
    return {
        **making.prediction(1, sample, reward=float(sample)),
        "kind": "rollout",
        "step": step,
        "advantage": sample - 0.5,
    }


def rollouts_of(store: LocalStore, experiment: Any) -> list[tuple[Any, ...]]:
    runs = store.list_runs(experiment_id=experiment)
    rows = [row for run in runs for row in store.list_predictions(run["id"], kind="rollout")]
    return [(row["step"], row["sample_idx"], row["advantage"], row["reward"], row.get("eval_id")) for row in rows]


def test_rollouts_are_sent_once_as_they_come(tmp_path: Path, local: LocalStore) -> None:
    record = making.sweep(tmp_path / "exp")
    arm = record.arm_directory("a-s0")
    writer = LineWriter(predictions_path(arm, "rollouts"))
    for step in (1, 2):
        for sample in (0, 1):
            writer.append(rollout(step, sample))
    sync(tmp_path / "exp", local)
    (experiment,) = local.list_experiments()
    expected = [(step, sample, sample - 0.5, float(sample), None) for step in (1, 2) for sample in (0, 1)]
    assert rollouts_of(local, experiment["id"]) == expected
    writer.append(rollout(3, 0))
    with (arm / "events.jsonl").open("a") as file:
        file.write('{"id": "1:999", "kind": "progress"}\n')
    sync(tmp_path / "exp", local)
    sync(tmp_path / "exp", local)
    assert rollouts_of(local, experiment["id"]) == [*expected, (3, 0, -0.5, 0.0, None)]
    runs = {run["name"]: run for run in local.list_runs(experiment_id=experiment["id"])}
    assert len(local.list_predictions(runs["a-s0"]["id"], kind="eval")) == 3


def test_what_waits_is_counted(tmp_path: Path) -> None:
    record = making.sweep(tmp_path / "exp")
    down = GatewayStore(f"http://127.0.0.1:{free_port()}", "key", budget_s=0.3)
    before = sync(tmp_path / "exp", down).waiting
    writer = LineWriter(predictions_path(record.arm_directory("a-s0"), "rollouts"))
    for sample in range(3):
        writer.append(rollout(1, sample))
    assert sync(tmp_path / "exp", down).waiting == before + 3
