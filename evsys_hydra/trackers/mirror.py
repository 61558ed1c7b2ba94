"""From the arms' records to one tracker: each fact once, in order, from where it stopped.

How far the tracker is stands in sync/tracker-<name>/, beside the stores' (`store.sync.cursor`). A pass that is killed
between a batch and its note sends that batch again: of a step's values the first one sent counts.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeGuard

from ..record import ArmView, ExperimentRecord
from ..store.sync.cursor import Cursor, folder, locked
from ..store.sync.fields import masked as masked_by
from ..store.sync.fields import metric_point, read_config, secrets_named_in
from ..store.sync.lines import lines_from
from ..store.sync.reading import signature
from ..store.sync.sender import namespace
from .protocol import ArmFacts, Point, TrackedRun, Tracker, Value

BATCH = 500
LONGEST_TEXT = 500
FAILING_S = 30.0
"""Longest time of a pass that may go into arms that fail, in seconds: a refusal is quick, a dead server is slow."""
Ended = Literal["completed", "failed"]


@dataclass
class TrackerCursor(Cursor):
    """What a tracker has of one arm."""

    run: str | None = None
    """Its id in the tracker."""
    offset: int = 0
    """Bytes of events.jsonl that are done."""
    steps: dict[str, int] = field(default_factory=dict)
    """Name of a value -> the largest step that was sent."""
    state: str = ""
    """running, completed or failed, as the tracker was told."""
    attempt: int = 0
    """The attempt that this was told of."""
    seen: str = ""
    """The files' sizes and times when all was sent."""


class Mirror:
    """Sends an experiment's arms to one tracker.

    Args:
        directory: the experiment's.
        name: the tracker's name in the config.
        tracker: where to.
    """

    def __init__(self, directory: Path, name: str, tracker: Tracker) -> None:
        self.directory, self.tracker = directory, tracker
        self.where = folder(directory, f"tracker-{name}")
        self.sent = 0
        self._cursors: dict[str, TrackerCursor] = {}
        self._runs: dict[str, TrackedRun] = {}

    def send(self, *, live: bool) -> None:
        """Everything that is there now.

        Args:
            live: the sweep goes on: an arm is what it said last, even if its process cannot be seen from here.

        Raises:
            Whatever the tracker raised first, after the other arms had their turn; what it did not take is sent by the
            next call.
        """
        failed: Exception | None = None
        patience = FAILING_S
        record = ExperimentRecord.load(self.directory)
        with locked(self.where):
            (self.where / "arms").mkdir(exist_ok=True)
            for name in record.arm_names:
                started = time.monotonic()
                try:
                    self._send_arm(record, record.arm_directory(name), live)
                except Exception as error:  # a tracker may refuse one arm: that must not keep the others out
                    self._runs.pop(name, None)
                    self._cursors.pop(name, None)  # the one on disk knows what was taken
                    failed = failed or error
                    patience -= time.monotonic() - started
                    if patience < 0:  # it is down, and would use up its retries for each arm
                        break
        if failed is not None:
            raise failed

    def _send_arm(self, record: ExperimentRecord, arm: Path, live: bool) -> None:
        cursor = self._cursor(arm)
        seen = signature(arm)
        if cursor.seen == seen:
            return
        view = ArmView(arm)
        state = view.status.get("state", "pending") if live and not view.exit else view.state
        if state == "pending" and not (arm / "events.jsonl").exists():
            return
        if cursor.state in ("completed", "failed") and cursor.attempt != view.attempt:
            cursor.state = ""  # it runs again
        self._points(record, view, cursor)
        if state in ("completed", "failed") and cursor.state != state:
            self._run(record, view, cursor).end(state, ending(view, state))
            self._runs.pop(arm.name, None)
            cursor.state, cursor.attempt = state, view.attempt
            self.sent += 1
        cursor.seen = seen if state in ("completed", "failed") else ""
        cursor.save()

    def _points(self, record: ExperimentRecord, view: ArmView, cursor: TrackerCursor) -> None:
        batch: list[Point] = []
        steps = dict(cursor.steps)  # the cursor's own are of what was taken: it is saved when a run is opened
        for point, end in points_from(view.directory, cursor.offset, max(steps.values(), default=0)):
            values = {name: value for name, value in point.values.items() if point.step > steps.get(name, -1)}
            if values:
                batch.append(Point(point.step, values, point.time))
                steps.update(dict.fromkeys(values, point.step))
            if len(batch) >= BATCH:
                self._run(record, view, cursor).log(batch)
                self._taken(cursor, batch, steps, end)
                batch = []
            elif not batch:
                cursor.offset = end
        if batch:
            self._run(record, view, cursor).log(batch)
            self._taken(cursor, batch, steps, end)

    def _taken(self, cursor: TrackerCursor, batch: list[Point], steps: dict[str, int], end: int) -> None:
        self.sent += len(batch)
        cursor.offset, cursor.steps = end, dict(steps)
        cursor.save()

    def _run(self, record: ExperimentRecord, view: ArmView, cursor: TrackerCursor) -> TrackedRun:
        run = self._runs.get(view.directory.name)
        if run is None:
            run = self._runs[view.directory.name] = self.tracker.open(facts_of(record, view), cursor.run)
            cursor.run, cursor.state = run.id, "running"
            cursor.save()
        return run

    def _cursor(self, arm: Path) -> TrackerCursor:
        if arm.name not in self._cursors:
            self._cursors[arm.name] = TrackerCursor.load(self.where / "arms" / f"{arm.name}.json", durable=False)
        return self._cursors[arm.name]


def points_from(arm: Path, offset: int, last: int) -> Iterator[tuple[Point, int]]:
    """The metrics and evals of an arm after byte `offset` of its events, each with the byte after it.

    Args:
        last: the last step before; an evaluation after training has that of the training's end.
    """
    for event, end in lines_from(arm / "events.jsonl", offset):
        point = None
        if event.get("kind") == "metrics" and (found := metric_point(event)) is not None:
            last = max(last, found.step)
            point = (found.step, {f"{found.split}/{name}": value for name, value in found.metrics.items()})
        elif event.get("kind") == "eval":
            scored = event.get("metrics") or {}
            prefix = "/".join(str(part) for part in ("eval", event.get("name"), event.get("model")) if part is not None)
            step = event.get("step")
            point = (last if step is None else int(step), {f"{prefix}/{name}": value for name, value in scored.items()})
        if point is not None:
            numbers = {name: float(value) for name, value in point[1].items() if is_number(value)}
            yield Point(point[0], numbers, float(event.get("t") or time.time())), end


def facts_of(record: ExperimentRecord, view: ArmView) -> ArmFacts:
    """What a tracker is told of an arm."""
    config = read_config(view.directory / "config.yaml")
    metadata = record.facts.get("metadata") or {}
    return ArmFacts(
        id=uuid.uuid5(namespace(record.id), f"tracker\n{view.name}").hex,
        name=view.name,
        group=view.group,
        experiment=record.name,
        experiment_id=record.id,
        directory=view.directory,
        config=flattened({key: value for key, value in config.items() if key not in ("tracker", "store", "plugins")}),
        tags=[str(tag) for tag in [*(metadata.get("tags") or []), *(config.get("tags") or [])]],
        hypothesis=metadata.get("hypothesis"),
    )


def ending(view: ArmView, state: Ended) -> dict[str, Value]:
    """How an arm ended: its final figures, or cause and error without the values of secrets."""
    figures = view.result.get("metrics") or {}
    facts: dict[str, Value] = {f"final/{name}": value for name, value in figures.items() if is_number(value)}
    facts["state"] = state
    if state == "failed":
        error = masked_by(view.error or "", secrets_named_in(view.directory / "config.yaml"))
        facts.update(cause=view.cause, error=str(error)[:LONGEST_TEXT])
    return facts


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Value]:
    """{"model": {"name": "demo"}} -> {"model.name": "demo"}; lists and long texts as short text, nulls left out."""
    found: dict[str, Value] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found.update(flattened(value, f"{prefix}{key}."))
        elif isinstance(value, bool | int | float):
            found[f"{prefix}{key}"] = value
        elif value is not None and value != []:
            found[f"{prefix}{key}"] = str(value)[:LONGEST_TEXT]
    return found


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a tracker can draw it."""
    return isinstance(value, int | float) and math.isfinite(value)
