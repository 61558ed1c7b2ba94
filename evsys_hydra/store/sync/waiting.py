"""How many records of an experiment a store does not have yet. Nothing is sent."""

from __future__ import annotations

from pathlib import Path

from ...record import ArmView, ExperimentRecord
from ...record.arm import predictions_path
from . import fields
from .cursor import ArmCursor, ExperimentCursor
from .lines import lines_from
from .reading import current_rows, event_key, latest_evals, predictions_of, views_of


def waiting_records(record: ExperimentRecord, where: Path, *, live: bool) -> int:
    """Counts what `sync` would send now: lines of the arms' files, runs and their outcomes, the experiment itself."""
    experiment = ExperimentCursor.load(where / "experiment.json", durable=False)
    waiting = int(experiment.experiment is None)
    for view in views_of(record, live):
        cursor = ArmCursor.load(where / "arms" / f"{view.directory.name}.json", durable=False)
        waiting += _of_arm(view, cursor, live)
    concluded = (record.directory / "conclusion.json").exists() and not live
    return waiting + int(concluded and experiment.sent.get("status", "running") == "running")


def _of_arm(view: ArmView, cursor: ArmCursor, live: bool) -> int:
    directory = view.directory
    state = view.status.get("state", "pending") if live else view.state
    if state == "pending" and not (directory / "events.jsonl").exists():
        return 0
    waiting = int(cursor.run is None) + int(state in ("completed", "failed") and cursor.sent.get("status") != state)
    if cursor.eval:
        waiting += _rows(directory / cursor.eval["file"], cursor.eval["row"]) - len(cursor.ahead)
    latest = latest_evals(directory, cursor.offset)
    done = set(cursor.ahead)
    for event, end in lines_from(directory / "events.jsonl", cursor.offset):
        key = event_key(event, end)
        kind = event.get("kind")
        if key in done or kind not in ("metrics", "checkpoint", "eval"):
            continue
        if kind == "metrics" and fields.metric_point(event) is None:
            continue
        waiting += 1
        if kind == "eval" and (file := predictions_of(directory, event)) and latest.get(file) == key:
            waiting += _rows(directory / file, 0)
    return waiting + _rollouts(directory, cursor)


def _rollouts(directory: Path, cursor: ArmCursor) -> int:
    path = predictions_path(directory, "rollouts")
    if not path.exists():
        return 0
    if path.stat().st_size < cursor.rollouts:  # a training of another config began the file anew
        return sum(1 for _ in lines_from(path, 0))
    return sum(1 for _ in lines_from(path, cursor.rollouts)) - len(cursor.rollouts_ahead)


def _rows(path: Path, start: int) -> int:
    return sum(1 for _ in current_rows(path, start))
