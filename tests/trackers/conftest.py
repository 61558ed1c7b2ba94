"""Experiments with trackers, and what the trackers then hold, read back by their own packages."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.record import ArmRecord, ExperimentRecord
from tests.store import making


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing leaves this machine, and nothing is found in the user's home."""
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path / "wandb"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "HF_HUB_OFFLINE": "1",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "wandb").mkdir()
    monkeypatch.chdir(tmp_path)


def tracked(directory: Path, tracker: dict[str, Any], **config: Any) -> ExperimentRecord:
    """An experiment of two arms, one completed and one failed, whose config names trackers."""
    record = making.experiment(directory)
    making.run_arm(making.add_arm(record, "a", tracker=tracker, **config))
    making.run_arm(making.add_arm(record, "b", tracker=tracker, **config), fail="ValueError: it broke")
    return record


def started(record: ExperimentRecord, name: str, tracker: dict[str, Any]) -> ArmRecord:
    """An arm that runs."""
    arm = ArmRecord(making.add_arm(record, name, tracker=tracker))
    arm.start()
    return arm


def tensorboard_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(row.step, round(row.value, 6)) for row in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def mlflow_client() -> Any:
    from mlflow import MlflowClient

    return MlflowClient()


def wandb_records(folder: Path) -> list[Any]:
    """The records of every offline file below `folder`, in the order of the files."""
    from wandb.proto import wandb_internal_pb2 as pb

    found = []
    for path in sorted(folder.rglob("*.wandb")):
        for body in _leveldb_records(path.read_bytes()[7:], first_block=32768 - 7):
            record = pb.Record()
            record.ParseFromString(body)
            found.append(record)
    return found


def wandb_history(records: list[Any]) -> list[dict[str, Any]]:
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]


def _leveldb_records(data: bytes, first_block: int) -> list[bytes]:
    """LevelDB's log format, which W&B's files have: blocks of 32 KiB, records of (checksum, length, type, bytes)."""
    found, part, at, left = [], b"", 0, first_block
    while at + 7 <= len(data):
        if left < 7:
            at, left = at + left, 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        part += data[at + 7 : at + 7 + length]
        at, left = at + 7 + length, left - 7 - length
        if kind in (1, 4):  # whole, or the last part
            found.append(part)
            part = b""
    return found
