"""Verifier processes: started once, fed in batches, replaced only when one hangs or dies.

A thread per process takes what is waiting as one batch, so that the hand-over costs little when answers come fast and
nothing waits when they come slowly. A second process is started only while verifying is what everything waits for.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence

from ..causes import describe
from ..errors import EvaluationError
from .process import FirstTimes, Lost, VerifierProcess
from .worker import Job, Outcome, Setup

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
        self._first = FirstTimes()
        self._grow(VerifierProcess(setup, self._first))

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

    def _grow(self, worker: VerifierProcess | None = None) -> None:
        thread = threading.Thread(target=self._serve, args=(worker,), name="verifiers", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, worker: VerifierProcess | None) -> None:
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

    def _verify(self, worker: VerifierProcess | None, batch: Sequence[tuple[Job, Deliver]]) -> VerifierProcess | None:
        """Deliver an outcome for each job of a batch; gives back the worker, another one if it had to be replaced."""
        idle = True
        while batch:
            done = 0
            try:
                worker = worker or VerifierProcess(self.setup, self._first)
                worker.send([job for job, _ in batch])
                while done < len(batch):
                    outcomes = worker.receive(self._backlog)
                    for (_, deliver), outcome in zip(batch[done:], outcomes, strict=False):
                        self._deliver(deliver, outcome)
                    done += len(outcomes)
                return worker
            except Lost as lost:
                worker = None
                if lost.place < 0 and idle:  # it was dead before it took the first one
                    idle = False
                    continue
                culprit = max(done, lost.place)
                job, deliver = batch[culprit]
                self._deliver(deliver, Outcome(None, f"verifier {job.fn_name}: {lost}"))
                batch = [*batch[done:culprit], *batch[culprit + 1 :]]
            except Exception as error:  # a process that does not start, values that cannot be handed to it
                if worker is not None:
                    worker.kill()
                worker, rest = None, batch[done:]
                if len(rest) == 1 or isinstance(error, EvaluationError):
                    for job, deliver in rest:
                        self._deliver(deliver, Outcome(None, f"verifier {job.fn_name}: {describe(error)}"))
                    return None
                for one in rest:
                    worker = self._verify(worker, [one])
                return worker
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
