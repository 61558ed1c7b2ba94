"""Verifier processes: started once, fed in batches, replaced only when one hangs or dies.

A thread per process takes what is waiting as one batch, so that the hand-over costs little when answers come fast and
nothing waits when they come slowly. A second process is started only while verifying is what everything waits for.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import pickle
import queue
import socket
import struct
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from ..errors import EvaluationError
from .worker import Job, Outcome, Setup, command

START_LIMIT_S = 120.0
GROW_AFTER_S = 0.3
MAX_BATCH = 512
Deliver = Callable[[Outcome], None]


class VerifierPool:
    """Verifies answers in other processes.

    Args:
        setup: the verifiers and their time limit.
        max_workers: most processes; null: one a core, at most 8.

    Raises:
        EvaluationError: a verifier that cannot be loaded in another process.
    """

    def __init__(self, setup: Setup, max_workers: int | None = None) -> None:
        self.setup = setup
        self._pid = os.getpid()
        self._max_workers = max_workers or min(8, os.cpu_count() or 1)
        self._queue: queue.SimpleQueue[tuple[Job, Deliver] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._state = threading.Condition()
        self._open = 0
        self._grow(_Worker(setup))

    def submit(self, job: Job, deliver: Deliver) -> None:
        """Verify later; `deliver` is called with the outcome from another thread."""
        with self._state:
            self._open += 1
        self._queue.put((job, deliver))

    def wait(self) -> None:
        """Return when every submitted job was delivered."""
        with self._state:
            self._state.wait_for(lambda: self._open == 0)

    def close(self) -> None:
        """End the processes."""
        if self._pid == os.getpid():  # a forked child has the object, not the threads
            for _ in self._threads:
                self._queue.put(None)
            for thread in self._threads:
                thread.join(timeout=1.0)

    @property
    def usable(self) -> bool:
        """Whether this is the process that made the pool."""
        return self._pid == os.getpid()

    def _grow(self, worker: _Worker | None = None) -> None:
        thread = threading.Thread(target=self._serve, args=(worker,), name="verifiers", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, worker: _Worker | None) -> None:
        size = 16
        while (first := self._queue.get()) is not None:
            batch = [first]
            with contextlib.suppress(queue.Empty):
                while len(batch) < size:
                    taken = self._queue.get_nowait()
                    if taken is None:
                        self._queue.put(None)
                        break
                    batch.append(taken)
            started = time.monotonic()
            worker = self._verify(worker, batch)
            seconds = time.monotonic() - started
            size = min(MAX_BATCH, 2 * size) if seconds < 0.05 else max(1, size // 2) if seconds > 0.2 else size
        if worker is not None:
            worker.end()

    def _verify(self, worker: _Worker | None, batch: Sequence[tuple[Job, Deliver]]) -> _Worker | None:
        """Deliver an outcome for each job of a batch; gives back the worker, another one if it had to be replaced."""
        while batch:
            done = 0
            try:
                worker = worker or _Worker(self.setup)
                worker.send([job for job, _ in batch])
                while done < len(batch):
                    outcomes = worker.receive(self._backlog)
                    for (_, deliver), outcome in zip(batch[done:], outcomes, strict=False):
                        self._deliver(deliver, outcome)
                    done += len(outcomes)
                return worker
            except _Lost as lost:
                worker = None
                culprit = max(done, lost.place)
                job, deliver = batch[culprit]
                self._deliver(deliver, Outcome(None, f"verifier {job.fn_name}: {lost}"))
                batch = [*batch[done:culprit], *batch[culprit + 1 :]]
            except (EvaluationError, OSError, pickle.PicklingError, TypeError, AttributeError) as error:
                for job, deliver in batch[done:]:
                    self._deliver(deliver, Outcome(None, f"verifier {job.fn_name}: {type(error).__name__}: {error}"))
                if worker is not None:
                    worker.kill()
                return None
        return worker

    def _deliver(self, deliver: Deliver, outcome: Outcome) -> None:
        try:
            deliver(outcome)
        except Exception:  # whoever waits must not wait for ever
            traceback.print_exc()
        finally:
            with self._state:
                self._open -= 1
                if self._open == 0:
                    self._state.notify_all()

    def _backlog(self) -> None:
        """Called while a batch takes long: start another process if answers are waiting."""
        if not self._queue.empty() and len(self._threads) < self._max_workers:
            self._grow()


class _Lost(Exception):
    """A worker that hung or died; `place` is where in the batch it was."""

    def __init__(self, why: str, place: int) -> None:
        super().__init__(why)
        self.place = place


class _Worker:
    """One verifier process, seen from the parent."""

    def __init__(self, setup: Setup) -> None:
        self._limit = setup.time_limit
        ours, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as shared, theirs:
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
            _Lost: the process died, or took longer than its limit for one job (it is killed then).
        """
        place, since = -2, time.monotonic()
        try:
            while not self._connection.poll(min(GROW_AFTER_S, self._limit)):
                now = struct.unpack_from("q", self._place, 0)[0]
                if now != place:
                    place, since = now, time.monotonic()
                elif time.monotonic() - since > self._limit:
                    self.kill()
                    raise _Lost(f"took longer than {self._limit:g} s and was stopped", place)
                waiting()
            received: list[Outcome] = pickle.loads(self._connection.recv_bytes())
            return received
        except (EOFError, OSError):
            self._raise_dead()
            raise

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
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
        raise _Lost(f"its process died ({how})", struct.unpack_from("q", self._place, 0)[0])


_pools: dict[Setup, VerifierPool] = {}
_lock = threading.Lock()


def pool_for(setup: Setup) -> VerifierPool:
    """The pool of these verifiers, kept for the next benchmark of this process (one pool at a time).

    Raises:
        EvaluationError: a verifier that cannot be loaded in another process.
    """
    with _lock:
        kept = _pools.get(setup)
        if kept is None or not kept.usable:
            close_pools()
            kept = _pools[setup] = VerifierPool(setup)
        return kept


def close_pools() -> None:
    """End every verifier process of this process."""
    for pool in _pools.values():
        pool.close()
    _pools.clear()


atexit.register(close_pools)
