"""Showing a running sweep from a thread: a table on a terminal, a line for each event elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from ..record import ArmView, ExperimentRecord
from .show import Watch

LOOK_S = 0.5
SHARE = 20
"""Looking takes at most 1/SHARE of a core, however many arms there are."""


class LiveTable:
    """Tells how the arms of an experiment come along while the block runs; nothing it does can raise or wait.

    Args:
        experiment: the experiment's directory.
        directories: the arms that are shown; None: all.
        out: where to; None: stderr. A table on a terminal, lines elsewhere.
        view: how an arm is looked at, where more is known of it than its files tell (a queue's state).
    """

    def __init__(
        self,
        experiment: Path,
        directories: Sequence[Path] | None = None,
        out: IO[str] | None = None,
        view: Callable[[Path], ArmView] = ArmView,
    ) -> None:
        record = ExperimentRecord.load(experiment)
        arms = [record.arm_directory(name) for name in record.arm_names] if directories is None else directories
        metric = (record.facts.get("metadata") or {}).get("success_metric")
        self._watch = Watch(arms, metric, out, view)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evsys-live-table", daemon=True)

    def __enter__(self) -> LiveTable:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._watch.look()
        self._watch.close()

    def _run(self) -> None:
        pause = LOOK_S
        while not self._over.wait(pause):
            before = time.thread_time()
            with contextlib.suppress(Exception):  # what is shown must not end what runs
                self._watch.look()
            pause = max(LOOK_S, SHARE * (time.thread_time() - before))
