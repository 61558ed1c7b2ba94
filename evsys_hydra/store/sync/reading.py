"""What the sync reads of an arm's directory: which events, which predictions, and whether there is anything new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...record import ArmView, ExperimentRecord
from ...record.arm import predictions_path
from ...record.queues import arm_views
from .lines import lines_from

EVAL_MARK = b'"eval"'


def views_of(record: ExperimentRecord, live: bool) -> list[ArmView]:
    """The arms; a cluster's queue is asked where it is not known that they run: it alone knows who will run again."""
    return [ArmView(record.arm_directory(name)) for name in record.arm_names] if live else arm_views(record)


def event_key(event: Mapping[str, Any], end: int) -> str:
    """The id of an event, or where it ends."""
    return str(event.get("id") or f"@{end}")


def predictions_of(directory: Path, event: Mapping[str, Any]) -> str | None:
    """The file with an eval's predictions, relative to the arm's directory; None if it left none of its own."""
    named = event.get("predictions")
    if not named:
        if event.get("model") is not None:
            return None
        path = predictions_path(directory, str(event.get("name", "")), event.get("step"))
        named = str(path.relative_to(directory))
    inside = (directory / str(named)).resolve()
    if not inside.is_relative_to(directory.resolve()) or not inside.exists():
        return None
    return str(named)


def latest_evals(directory: Path, offset: int) -> dict[str, str]:
    """File of predictions -> the last eval event that wrote it: an earlier attempt's rows are not there any more."""
    latest: dict[str, str] = {}
    for event, end in lines_from(directory / "events.jsonl", offset, EVAL_MARK):
        if event.get("kind") == "eval" and (file := predictions_of(directory, event)):
            latest[file] = event_key(event, end)
    return latest


def current_rows(path: Path, start: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file of predictions from the `start`th on that no later row of the same sample replaces."""
    last: dict[tuple[Any, Any], int] = {}
    for place, (row, _) in enumerate(lines_from(path, 0)):
        last[str(row.get("task_id")), row.get("sample_idx") or 0] = place
    for place, (row, _) in enumerate(lines_from(path, 0)):
        if place >= start and last.get((str(row.get("task_id")), row.get("sample_idx") or 0)) == place:
            yield place, row


def signature(directory: Path) -> str:
    """Changes whenever the arm's record does."""
    marks = []
    for name in ("events.jsonl", "status.json", "exit.json", "arm.json"):
        try:
            stat = (directory / name).stat()
            marks.append(f"{stat.st_size}.{stat.st_mtime_ns}")
        except OSError:
            marks.append("-")
    return " ".join(marks)
