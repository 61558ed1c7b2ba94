"""One verifier process, seen from the parent: started, fed, watched, killed when it hangs."""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import IO

from ..errors import EvaluationError
from .worker import FIRST_LIMIT_S, Job, Outcome, Setup, command

START_LIMIT_S = 120.0
LOOK_EVERY_S = 0.3
MOST_STOPPED = 3


class Lost(Exception):
    """A worker that hung or died; `place` is where in the batch it was."""

    def __init__(self, why: str, place: int) -> None:
        super().__init__(why)
        self.place = place


class FirstTimes:
    """How long the first verification by a function takes in a process: it may import packages or load a dataset.

    Until it is known, a function may take FIRST_LIMIT_S beyond its limit at first; then twice what it took. After three
    processes that were stopped in it, it is the answers that loop.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._stopped: Counter[str] = Counter()

    def beyond(self, fn_name: str) -> float:
        """Seconds beyond its limit that it may take."""
        known = self._seconds.get(fn_name)
        if known is not None:
            return min(FIRST_LIMIT_S, 2 * known)
        return FIRST_LIMIT_S if self._stopped[fn_name] < MOST_STOPPED else 0.0

    def took(self, fn_name: str, seconds: float) -> None:
        """It ended after so many seconds, or fewer."""
        self._seconds[fn_name] = max(self._seconds.get(fn_name, 0.0), seconds)

    def was_stopped(self, fn_name: str) -> None:
        """It did not end in time."""
        self._stopped[fn_name] += 1


class VerifierProcess:
    """A process that runs worker.py.

    Args:
        first: what is known from other processes; it is added to.

    Raises:
        EvaluationError: the verifiers could not be loaded in it.
    """

    def __init__(self, setup: Setup, first: FirstTimes) -> None:
        self._limit = setup.time_limit
        self._first = first
        self._used: set[str] = set()
        self._jobs: Sequence[Job] = ()
        self._done = 0
        self._told = time.monotonic()
        ours, theirs = socket.socketpair()
        with _shared_memory() as shared, theirs:
            shared.truncate(8)
            self._place = mmap.mmap(shared.fileno(), 8)
            fds = (theirs.fileno(), shared.fileno())
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                command(*fds), pass_fds=fds, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        self._connection = Connection(ours.detach())
        try:
            self._connection.send_bytes(pickle.dumps(setup))
            answer = self._connection.recv() if self._connection.poll(START_LIMIT_S) else "it did not start in time"
        except (EOFError, OSError):
            answer = f"its process ended with {self._process.wait()}"
        if answer != "ready":
            self.kill()
            raise EvaluationError(f"the verifiers could not be loaded in a process of their own: {answer}")

    def send(self, jobs: list[Job]) -> None:
        """Hand a batch over."""
        struct.pack_into("q", self._place, 0, -1)
        data = pickle.dumps(jobs)
        self._jobs, self._done, self._told = jobs, 0, time.monotonic()
        try:
            self._connection.send_bytes(data)
        except OSError:
            self._raise_dead()

    def receive(self, waiting: Callable[[], None]) -> list[Outcome]:
        """The next outcomes.

        Raises:
            Lost: the process died, or took longer than its limit for one job (it is killed then).
        """
        place, since = -2, time.monotonic()
        try:
            while not self._connection.poll(min(LOOK_EVERY_S, self._limit)):
                now = struct.unpack_from("q", self._place, 0)[0]
                if now != place:
                    place, since = now, time.monotonic()
                elif time.monotonic() - since > self._limit_at(place):
                    if self._is_first(place):
                        self._first.was_stopped(self._jobs[max(0, place)].fn_name)
                    self.kill()
                    raise Lost(f"took longer than {self._limit:g} s and was stopped", place)
                waiting()
            received: list[Outcome] = pickle.loads(self._connection.recv_bytes())
            self._count(len(received))
            return received
        except (EOFError, OSError):
            self._raise_dead()
            raise

    def _limit_at(self, place: int) -> float:
        """Seconds that the verification at this place of the batch may take."""
        beyond = self._first.beyond(self._jobs[max(0, place)].fn_name) if self._is_first(place) else 0.0
        return self._limit + beyond

    def _is_first(self, place: int) -> bool:
        """Whether the verification at this place is the first by its function in this process."""
        before = {job.fn_name for job in self._jobs[: max(0, place)]}
        return self._jobs[max(0, place)].fn_name not in self._used | before

    def _count(self, more: int) -> None:
        """Note what was verified, and how long the first verification by a function took at most."""
        now = time.monotonic()
        self._done += more
        for fn_name in {job.fn_name for job in self._jobs[: self._done]} - self._used:
            self._first.took(fn_name, now - self._told)
            self._used.add(fn_name)
        self._told = now

    def kill(self) -> None:
        """End the process, and what it has started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()

    def end(self) -> None:
        """Let the process end by itself."""
        self._connection.close()
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _raise_dead(self) -> None:
        try:
            code = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:  # it closed its socket and lives on
            self._process.kill()
            code = self._process.wait()
        self._connection.close()
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        raise Lost(f"its process died ({how})", struct.unpack_from("q", self._place, 0)[0])


def _shared_memory() -> IO[bytes]:
    """A file that lives in memory where the system has such files, so that a full disk stops no verifier."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("evsys_verifier"), "w+b")
    return tempfile.TemporaryFile()
