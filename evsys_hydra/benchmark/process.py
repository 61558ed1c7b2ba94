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
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import IO

from ..errors import EvaluationError
from .worker import Job, Outcome, Setup, command

START_LIMIT_S = 120.0
LOOK_EVERY_S = 0.3


class Lost(Exception):
    """A worker that hung or died; `place` is where in the batch it was."""

    def __init__(self, why: str, place: int) -> None:
        super().__init__(why)
        self.place = place


class VerifierProcess:
    """A process that runs worker.py.

    Raises:
        EvaluationError: the verifiers could not be loaded in it.
    """

    def __init__(self, setup: Setup) -> None:
        self._limit = setup.time_limit
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
                elif time.monotonic() - since > self._limit:
                    self.kill()
                    raise Lost(f"took longer than {self._limit:g} s and was stopped", place)
                waiting()
            received: list[Outcome] = pickle.loads(self._connection.recv_bytes())
            return received
        except (EOFError, OSError):
            self._raise_dead()
            raise

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
