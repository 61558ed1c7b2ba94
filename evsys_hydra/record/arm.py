"""One arm's directory, the writer's side; `record.view.ArmView` is everybody's reading side.

config.yaml      the composed config, secrets unresolved
arm.json         name, group, seed, role, overrides: written once by whoever made the directory
status.json      state, cause, attempt, node, pid, times, result; replaced atomically by the arm's process
exit.json        how the process ended, written by whoever started it: speaks for an arm that could not
events.jsonl     one line a fact (metrics, eval, checkpoint, note), each with an id
predictions/     one file an eval, one line a sample
checkpoints/, arm.log, attempts/<n>/
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..secrets import referenced, scrub
from .files import LineWriter, read_json, read_lines, write_json
from .locks import is_locked, lock
from .names import safe_name

State = Literal["pending", "running", "completed", "failed"]
Cause = Literal[
    "user_error",
    "out_of_memory",
    "timeout",
    "preempted",
    "node_failure",
    "cancelled",
    "killed",
    "never_started",
]
Role = Literal["arm", "stage", "baseline"]


class ArmRecord:
    """The arm's own process writes here, and nobody else.

    Args:
        directory: the arm's directory; must exist.
    """

    rank = 0
    """Which process of a distributed arm; all but the first only train."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.arm_directory = directory
        """The arm's own directory, where a rank beside the first one records elsewhere."""
        self.attempt = 1
        self._status: dict[str, Any] = {}
        self._sequence = 0
        self._events = LineWriter(directory / "events.jsonl")
        self._predictions: dict[str, LineWriter] = {}
        self._lock: int | None = None

    # -- the arm's life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take the arm's lock and say `running`, as a new attempt if there was an earlier one.

        Raises:
            BlockingIOError: another process is running this arm now.
        """
        self._take_lock()
        earlier = self._earlier_attempt()
        if earlier:
            self.attempt = earlier + 1
            self._keep_attempt(earlier)
        self._write_status(
            state="running",
            attempt=self.attempt,
            started=time.time(),
            node=os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
            pid=os.getpid(),
            job_id=os.environ.get("SLURM_JOB_ID"),
            job=array_task(),
        )
        self.event("attempt", attempt=self.attempt)

    def complete(self, result: Mapping[str, Any]) -> None:
        """Say `completed`, with the run's result (status, metrics, artifacts, seconds)."""
        self._events.sync()
        self._write_status(state="completed", ended=time.time(), result=dict(result))
        self._release()

    def fail(self, cause: Cause, error: str, traceback: str | None = None, **facts: Any) -> None:
        """Say `failed` with its cause; `error` is "<Type>: <text>"."""
        self._write_status(state="failed", ended=time.time(), cause=cause, error=error, traceback=traceback, **facts)
        self._release()

    def reopen(self) -> None:
        """Take the lock of an arm that has ended, to add facts to its last attempt; its status stays as it is.

        Raises:
            BlockingIOError: another process is running this arm now.
        """
        self._take_lock()
        self.attempt = self._earlier_attempt() or 1
        self.catch_up()

    def close(self) -> None:
        """Give the lock back; what was added is on the disk."""
        self._events.sync()
        self._release()

    # -- facts ----------------------------------------------------------------------------------------------------

    def metrics(self, step: int, values: Mapping[str, float], split: str = "train") -> None:
        """Record training metrics of one step, all names in one line."""
        self.event("metrics", step=step, split=split, values=dict(values))

    def checkpoint(self, path: Path, step: int, *, final: bool, **facts: Any) -> None:
        """Record a complete checkpoint; `path` lies in the arm's directory."""
        self.event("checkpoint", uri=os.path.relpath(path, self.directory), step=step, is_final=final, **facts)

    def progress(self, phase: str, done: int, total: int, **facts: Any) -> None:
        """Record how far a phase ("train", "eval <name>") has come; readers show the latest."""
        self.event("progress", phase=phase, done=done, total=total, **facts)

    def event(self, kind: str, **facts: Any) -> None:
        """Append one line to events.jsonl. The id "<attempt>:<n>" is unique in the arm."""
        self._sequence += 1
        self._events.append({"id": f"{self.attempt}:{self._sequence}", "t": time.time(), "kind": kind, **facts})

    def catch_up(self) -> None:
        """Go on counting after the events that a process forked from this one has written."""
        for line in read_lines(self._events.path):
            attempt, _, number = str(line.get("id")).partition(":")
            if attempt == str(self.attempt) and number.isdigit():
                self._sequence = max(self._sequence, int(number))

    def predictions_path(self, eval_name: str, step: int | None = None) -> Path:
        """Where the predictions of an eval are; the name is made safe as a file name.

        Args:
            step: of the checkpoint or the live model that is scored; None: what training ended with.
        """
        return predictions_path(self.directory, eval_name, step)

    def prediction(self, eval_name: str, row: Mapping[str, Any]) -> None:
        """Append one prediction row of an eval."""
        writer = self._predictions.get(eval_name)
        if writer is None:
            writer = self._predictions[eval_name] = LineWriter(self.predictions_path(eval_name))
        writer.append(row)

    def scrub(self, text: str) -> str:
        """`text` without the values of the environment's variables that the arm's config refers to."""
        try:
            return scrub(text, referenced((self.arm_directory / "config.yaml").read_text()))
        except OSError:
            return text

    # -- inside ---------------------------------------------------------------------------------------------------

    def _take_lock(self) -> None:
        self._lock = lock(self.directory / "lock")

    def _earlier_attempt(self) -> int:
        """The number of the last attempt; 0: there was none."""
        known = (read_json(self.directory / name) or {} for name in ("status.json", "exit.json"))
        return max(int(facts.get("attempt", 0)) for facts in known)  # exit.json alone: it never got to start

    def _write_status(self, **facts: Any) -> None:
        self._status.update(facts)
        ended = self._status.get("state") != "running"
        write_json(self.directory / "status.json", self._status, durable=ended)

    def _release(self) -> None:
        self._events.close()
        for writer in self._predictions.values():
            writer.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _keep_attempt(self, attempt: int) -> None:
        kept = self.directory / "attempts" / str(attempt)
        kept.mkdir(parents=True, exist_ok=True)
        for name in ("status.json", "exit.json"):
            if (self.directory / name).exists():
                os.replace(self.directory / name, kept / name)


def predictions_path(directory: Path, eval_name: str, step: int | None = None) -> Path:
    """predictions/<eval>.jsonl of an arm's directory; predictions/<eval>-step<step>.jsonl of a step."""
    name = eval_name if step is None else f"{eval_name}-step{step}"
    return directory / "predictions" / f"{safe_name(name)}.jsonl"


def array_task() -> str | None:
    """ "<array>_<index>" of the SLURM job that this process runs in; None outside of one.

    SLURM_JOB_ID will not do: the last task of an array has the array's, so that a requeue would mean all of them.
    """
    array, index = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{index}" if array and index else None


def is_running(directory: Path) -> bool:
    """Whether a process of this machine holds the arm's lock (the lock dies with its process)."""
    return is_locked(directory / "lock")
