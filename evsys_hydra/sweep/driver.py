"""Who drives an experiment: one process at a time, named in driver.json so that it can be told to end.

The lock dies with its process, so a driver that was killed never stands in the way of the next one.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RecordError
from ..record.files import read_json, write_json
from ..record.locks import is_locked, lock

FACTS = "driver.json"
LOCK = "driver.lock"


@dataclass
class Driver:
    """This process's claim on an experiment; `release` it when nothing more will be started."""

    handle: int | None

    def release(self) -> None:
        """Let the next driver come."""
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None


def drive(experiment: Path) -> Driver:
    """Claim an experiment for this process.

    Raises:
        RecordError: another process drives it now; named, with what to do.
    """
    try:
        handle = lock(experiment / LOCK)
    except BlockingIOError as error:
        facts = read_json(experiment / FACTS) or {}
        raise RecordError(
            f"{experiment} is driven by process {facts.get('pid', '?')} on {facts.get('host', '?')}; nothing was "
            f"started. Wait for it, or end it: evsys-hydra cancel {experiment}"
        ) from error
    facts = {"pid": os.getpid(), "started": process_start(os.getpid()), "host": socket.gethostname()}
    write_json(experiment / FACTS, {**facts, "time": time.time()}, durable=False)
    return Driver(handle)


def driving(experiment: Path) -> dict[str, Any] | None:
    """driver.json of the process that drives an experiment now; None if nobody does."""
    facts: dict[str, Any] | None = read_json(experiment / FACTS) if is_locked(experiment / LOCK) else None
    return facts


def process_start(pid: int) -> int | None:
    """When a process of this machine started, in clock ticks since boot: tells it from a later one of the same id."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return int(words[19])
