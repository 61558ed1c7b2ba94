"""Keeping a store up to date while a sweep runs, from a thread that nobody waits for.

A store that fails is left alone for longer and longer (2 s to a minute), and asked again; nothing it does can raise
into the driver or hold it up for more than the final flush.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..protocol import EvsysStore
from .experiment import sync
from .report import SyncReport

POLL_S = 2.0
LONGEST_PAUSE_S = 60.0
PASS_BUDGET_S = 10.0
FLUSH_S = 5.0

log = logging.getLogger(__name__)


class Tailer:
    """A daemon thread that syncs a directory every few seconds.

    Args:
        directory: the experiment's.
        store: where its records go.
        poll_s: pause between two passes, in seconds.
    """

    def __init__(self, directory: Path, store: EvsysStore, *, poll_s: float = POLL_S) -> None:
        self.sent = 0
        self.error: str | None = None
        self._directory, self._store, self._poll_s = directory, store, poll_s
        self._flush_s = FLUSH_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evsys-live-sync", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, flush_s: float = FLUSH_S) -> SyncReport:
        """Send what came last, for at most `flush_s` seconds, and end. What is left waits for the next sync."""
        self._flush_s = flush_s
        self._stop.set()
        self._thread.join(flush_s)
        error = self.error
        if self._thread.is_alive():
            error = error or f"the store did not answer within {flush_s:g} s"
        return SyncReport(self.sent, 0, error)

    def _run(self) -> None:
        pause = self._poll_s
        while not self._stop.wait(pause):
            self._pass(PASS_BUDGET_S)
            pause = self._poll_s if self.error is None else min(2 * pause, LONGEST_PAUSE_S)
        self._pass(self._flush_s)

    def _pass(self, budget_s: float) -> None:
        try:
            report = sync(self._directory, self._store, live=True, budget_s=budget_s, count=False)
        except Exception as error:  # the driver must not hear of it
            report = SyncReport(error=f"{type(error).__name__}: {error}")
        self.sent += report.sent
        if report.error is not None and self.error is None:
            log.warning("The store does not take the records now; they wait on disk. %s", report.error)
        self.error = report.error


@contextmanager
def live_sync(
    directory: Path, store: EvsysStore, *, poll_s: float = POLL_S, flush_s: float = FLUSH_S
) -> Iterator[Tailer]:
    """Sync during the block, every `poll_s` seconds; at its end a last pass of at most `flush_s` seconds."""
    tailer = Tailer(directory, store, poll_s=poll_s)
    tailer.start()
    try:
        yield tailer
    finally:
        tailer.stop(flush_s)
