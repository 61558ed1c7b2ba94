"""What a tracker is: something that opens a run for each arm, which takes points and, once, how the arm ended.

A kind of your own is a function (settings, experiment's directory) -> Tracker, made known by `register_tracker`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ..errors import EvsysError

Value = str | int | float | bool | None


class TrackerError(EvsysError):
    """A tracker that cannot be used: its package is missing, or its server refuses."""


@dataclass(frozen=True)
class ArmFacts:
    """What a tracker is told of an arm when its run is opened.

    Args:
        id: 32 hexadecimal digits, always the same for the same arm.
        directory: the arm's.
        config: dotted field -> value as on disk, secrets unresolved.
    """

    id: str
    name: str
    group: str
    experiment: str
    experiment_id: str
    directory: Path
    config: Mapping[str, Value]
    tags: Sequence[str]
    hypothesis: str | None = None


@dataclass(frozen=True)
class Point:
    """All values of one step: "train/loss", "val/loss", "eval/<benchmark>/<metric>"; finite numbers.

    Args:
        time: when they were recorded, in seconds since 1970.
    """

    step: int
    values: Mapping[str, float]
    time: float


class TrackedRun(Protocol):
    """One arm in a tracker."""

    id: str
    """What `Tracker.open` is given to take the run up again in another process."""

    def log(self, points: Sequence[Point]) -> None:
        """Take points, of growing steps; when it returns, they survive the end of this process."""
        ...

    def end(self, state: Literal["completed", "failed"], facts: Mapping[str, Value]) -> None:
        """Say how the arm ended: cause and error if it failed, its final figures. The run may be opened again."""
        ...


class Tracker(Protocol):
    """A place where arms are shown."""

    def open(self, arm: ArmFacts, known: str | None) -> TrackedRun:
        """The run of an arm: a new one, or the one that was opened before under this id."""
        ...
