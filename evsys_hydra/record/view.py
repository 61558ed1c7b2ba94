"""Everybody's reading side of an arm's directory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .arm import Cause, Role, State, is_running, predictions_path
from .files import read_json, read_lines

LOST = "Killed: the process ended without a word in its record"


@dataclass(frozen=True)
class ArmView:
    """One arm as its files tell it now. Reads what is asked for, and keeps it."""

    directory: Path

    @cached_property
    def facts(self) -> dict[str, Any]:
        """arm.json; what an arm without one can be told by its folder's name."""
        return read_json(self.directory / "arm.json") or {"name": self.directory.name, "group": self.directory.name}

    @cached_property
    def status(self) -> dict[str, Any]:
        """status.json; {} for an arm that never started."""
        return read_json(self.directory / "status.json") or {}

    @cached_property
    def exit(self) -> dict[str, Any]:
        """exit.json if it speaks of the attempt that status.json speaks of, else {}."""
        found = read_json(self.directory / "exit.json") or {}
        return found if found.get("attempt", 0) >= self.attempt else {}

    @property
    def name(self) -> str:
        return str(self.facts["name"])

    @property
    def group(self) -> str:
        return str(self.facts["group"])

    @property
    def seed(self) -> int | None:
        return self.facts.get("seed")

    @property
    def role(self) -> Role:
        role: Role = self.facts.get("role", "arm")
        return role

    @property
    def attempt(self) -> int:
        return int(self.status.get("attempt", 0))

    @cached_property
    def state(self) -> State:
        """What the arm's process said last; a process that died unheard has failed."""
        said: State = self.status.get("state", "pending")
        if said in ("completed", "failed"):
            return said
        if self.exit:
            return "failed"
        if said == "running" and not is_running(self.directory):
            return "failed"
        return said

    @property
    def cause(self) -> Cause | None:
        """Why it failed; None unless it did."""
        if self.state != "failed":
            return None
        cause: Cause = self.status.get("cause", "user_error") if self._spoke else self.exit.get("cause", "killed")
        return cause

    @property
    def error(self) -> str | None:
        """ "<Type>: <text>" of a failed arm."""
        if self.state != "failed":
            return None
        return str(self.status.get("error") if self._spoke else self.exit.get("error", LOST))

    @property
    def _spoke(self) -> bool:
        """Whether the arm itself said how it failed, and no later attempt failed before it could."""
        return self.status.get("state") == "failed" and self.exit.get("attempt", 0) <= self.attempt

    @property
    def queue(self) -> str | None:
        """What a cluster's queue says of it, for example "PENDING (Resources)"; None if it has no job."""
        return None

    @property
    def result(self) -> dict[str, Any]:
        """The run's result: metrics, artifacts, train_seconds, eval_seconds."""
        return self.status.get("result") or {}

    @property
    def seconds(self) -> float | None:
        """From start to end of the last attempt."""
        started, ended = self.status.get("started"), self.status.get("ended") or self.exit.get("ended")
        return ended - started if started and ended else None

    def events(self, kind: str | None = None) -> Iterator[dict[str, Any]]:
        """The facts of events.jsonl in order, of one kind or all."""
        for event in read_lines(self.directory / "events.jsonl"):
            if kind is None or event.get("kind") == kind:
                yield event

    @property
    def progress(self) -> str | None:
        """How far the arm's present phase has come, as "train 40/120"; None if it has not said."""
        latest = deque(self.events("progress"), maxlen=1)
        return f"{latest[0]['phase']} {latest[0]['done']}/{latest[0]['total']}" if latest else None

    def predictions(self, eval_name: str) -> Iterator[dict[str, Any]]:
        """The prediction rows of an eval."""
        return read_lines(predictions_path(self.directory, eval_name))

    def log_tail(self, lines: int = 20) -> list[str]:
        """The last lines of arm.log."""
        try:
            with (self.directory / "arm.log").open("rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - 64_000))
                return file.read().decode(errors="replace").splitlines()[-lines:]
        except OSError:
            return []
