"""What a store has of an experiment, remembered in the experiment's directory: sync/<store>/.

One file for the experiment and one for each arm, replaced atomically, so that ten thousand arms do not make every
acknowledgement a rewrite of everything. `intent` is written before records are sent to a store without ids of ours:
after a crash exactly those are looked for before they are sent again.
"""

from __future__ import annotations

import copy
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from ...errors import StoreError
from ...record.files import read_json, write_json
from ...record.names import safe_name

C = TypeVar("C", bound="Cursor")
LOCK_WAIT_S = 5.0


@dataclass
class Cursor:
    """Base of the two kinds: knows its file."""

    path: Path = field(repr=False)
    durable: bool = False
    intent: list[str] = field(default_factory=list)
    """Keys of records that were being sent."""
    written: dict[str, Any] = field(default_factory=dict, repr=False)
    """What the file says."""

    def save(self) -> None:
        """Write it down, unless nothing has changed."""
        content = {key: value for key, value in asdict(self).items() if key not in ("path", "durable", "written")}
        if content != self.written:
            write_json(self.path, content, durable=self.durable)
            self.written = content

    @classmethod
    def load(cls: type[C], path: Path, *, durable: bool) -> C:
        """What the file says; a new one if there is none."""
        found = read_json(path)
        names = {item.name for item in fields(cls)} - {"path", "durable", "written"}
        kept = {key: value for key, value in found.items() if key in names} if isinstance(found, dict) else {}
        return cls(path=path, durable=durable, written=copy.deepcopy(kept), **kept)


@dataclass
class ExperimentCursor(Cursor):
    """What the store has of the experiment itself."""

    experiment: str | None = None
    """Its id in the store."""
    groups: dict[str, str] = field(default_factory=dict)
    """Name -> id in the store."""
    benchmarks: dict[str, str] = field(default_factory=dict)
    """Name and hash -> id in the store."""
    datasets: dict[str, str] = field(default_factory=dict)
    """Name and hash -> id in the store."""
    sent: dict[str, Any] = field(default_factory=dict)
    """The fields that the store was told last."""


@dataclass
class ArmCursor(Cursor):
    """What the store has of one arm."""

    run: str | None = None
    """Id of the run in the store."""
    sent: dict[str, Any] = field(default_factory=dict)
    """The run's fields that the store was told last."""
    offset: int = 0
    """Bytes of events.jsonl that are done."""
    ahead: list[str] = field(default_factory=list)
    """Keys of records after that which are done too."""
    rollouts: int = 0
    """Bytes of predictions/rollouts.jsonl that are done."""
    rollouts_ahead: list[str] = field(default_factory=list)
    """Keys of rollouts after that which are done too."""
    checkpoints: dict[str, str] = field(default_factory=dict)
    """Key -> id in the store."""
    checkpoint: dict[str, Any] = field(default_factory=dict)
    """{id, uri} of the last one: what an evaluation after training is of."""
    evals: dict[str, str] = field(default_factory=dict)
    """Key -> id in the store."""
    eval: dict[str, Any] = field(default_factory=dict)
    """{key, id, file, row}: the eval whose predictions are being sent, and how far; {}: none."""
    seen: str = ""
    """The files' sizes and times when all was sent."""


def folder(directory: Path, store_id: str) -> Path:
    """Where it is remembered what a store has of an experiment."""
    return directory / "sync" / safe_name(store_id)


@contextmanager
def locked(where: Path, *, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """One process at a time syncs a directory to a store; the lock dies with its process.

    Raises:
        StoreError: another one is at it.
    """
    where.mkdir(parents=True, exist_ok=True)
    fd = os.open(where / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _take(fd, time.monotonic() + wait_s)
        yield
    finally:
        os.close(fd)


def _take(fd: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise StoreError("another process is sending these records now") from None
            time.sleep(0.05)
