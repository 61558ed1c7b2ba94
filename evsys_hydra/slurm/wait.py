"""The driver's side: watching arms until the last has ended, and leaving them alone when told to go."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from ..record import ArmView
from ..sweep.show import Watch
from .client import QueuedJob, SlurmError, SlurmUnreachable, queued
from .settle import settle
from .stuck import Stuck
from .submission import Submission, latest_places, submissions
from .view import by_place, queued_arm

LOOK_S = 0.4
POLL_S = 1.0
MAX_POLL_S = 10.0
POLLS_ABSENT = 2


def wait(submission: Submission, metric: str | None, out: IO[str] | None = None) -> int | None:
    """Show the arms of a submission until all have ended.

    Returns:
        None when all have ended; the number of the signal that told this process to go before that.
    """
    waiting = _Waiting(submission, metric, out)
    with Leave() as leave, contextlib.closing(waiting.watch):
        while waiting.look():
            deadline = time.monotonic() + LOOK_S
            while time.monotonic() < deadline:
                if leave.caught is not None:
                    return leave.caught
                time.sleep(0.05)
        waiting.tell()
    return None


class _Waiting:
    def __init__(self, submission: Submission, metric: str | None, out: IO[str] | None) -> None:
        self.submission = submission
        self.places = latest_places(submissions(submission.experiment))
        names = [name for name, _, _ in submission.places()]
        self.directories = {name: submission.experiment / "arms" / name for name in names}
        self.left = set(names)
        self.listed: dict[tuple[str, int | None], QueuedJob] = {}
        self.absent: Counter[str] = Counter()
        self.polled = float("-inf")
        self.every = POLL_S
        self.started = time.monotonic()
        self.watch = QueueWatch(list(self.directories.values()), metric, self, out)
        self.stuck = Stuck(self.watch.say)

    def look(self) -> bool:
        """Ask the queue if it is time, and the files; returns whether arms are left."""
        if time.monotonic() - self.polled >= self.every:
            self._poll()
        for name in list(self.left):
            place = self.places[name]
            job = self.listed.get((place[1] or "", place[2]))
            if job is not None and job.state == "PENDING":
                continue
            if ArmView(self.directories[name]).status.get("state") == "completed":
                self.left.discard(name)
        gone = [name for name in self.left if self.absent[name] >= POLLS_ABSENT]
        if gone:
            settle(self.submission.experiment, set(self.listed), only=set(gone))
            self.left.difference_update(gone)
        self.tell()
        return bool(self.left)

    def tell(self) -> None:
        self.watch.look()

    def _poll(self) -> None:
        before = time.monotonic()
        try:
            self.listed = by_place(queued(self.submission.jobs(), patience_s=0))
        except SlurmUnreachable:
            self.polled = time.monotonic()
            return
        except SlurmError as error:
            print(error, file=sys.stderr)
            self.polled = time.monotonic()
            return
        self.polled = time.monotonic()
        for name in self.left:
            place = self.places[name]
            self.absent[name] = 0 if (place[1] or "", place[2]) in self.listed else self.absent[name] + 1
        self._look_for_stuck()
        # a long sweep asks less often, and a slow controller too
        self.every = min(MAX_POLL_S, max(POLL_S, (self.polled - self.started) / 60, 10 * (self.polled - before)))

    def _look_for_stuck(self) -> None:
        places = {self.directories[name]: self.places[name] for name in self.left}
        jobs = {directory: self.listed.get((place[1] or "", place[2])) for directory, place in places.items()}
        try:
            self.stuck.look({directory: job for directory, job in jobs.items() if job is not None})
        except SlurmError as error:
            print(error, file=sys.stderr)


class QueueWatch(Watch):
    """The lines and the progress of `Watch`, with what only the queue knows."""

    def __init__(self, directories: Sequence[Path], metric: str | None, waiting: _Waiting, out: IO[str] | None) -> None:
        super().__init__(directories, metric, out)
        self._waiting = waiting

    def say(self, text: str) -> None:
        """Print a line among those of the arms; never raises."""
        with contextlib.suppress(OSError, ValueError):
            if self._screen is not None:
                self._screen.line(text)
            else:
                self._out.write(f"{text}\n")
                self._out.flush()

    def _view(self, directory: Path) -> ArmView:
        return queued_arm(directory, self._waiting.places.get(directory.name), self._waiting.listed)

    def _tell(self, arm: ArmView) -> None:
        place = self._waiting.places[arm.directory.name]
        job = self._waiting.listed.get((place[1] or "", place[2]))
        if job is not None and job.state == "PENDING":
            return
        if arm.state == "failed" and arm.directory.name in self._waiting.left:
            return  # SLURM may run it again: told when its job is gone
        super()._tell(arm)

    def _counts(self) -> str:
        told = Counter(self._told.values())
        reasons = Counter(job.reason for job in self._waiting.listed.values() if job.state == "PENDING")
        why = f" ({reasons.most_common(1)[0][0]})" if reasons else ""
        pending = len(self._directories) - sum(told.values())
        parts = [(pending, f"pending{why}"), *((told[state], state) for state in ("running", "completed", "failed"))]
        return ", ".join(f"{count} {what}" for count, what in parts if count)


class Leave:
    """Notes SIGINT, SIGTERM and SIGHUP: the driver goes, the arms stay."""

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.caught: int | None = None

    def __enter__(self) -> Leave:
        self._old = {number: signal.signal(number, self._catch) for number in self.NUMBERS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
