"""Several arms in one job: one after another, or side by side with a GPU each, through a fork server.

Each stays a process of its own with its own record and cause. What ends the job ends those that run and that wait.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ..record import ArmView
from ..sweep.launch import LocalPool
from ..sweep.process import write_exit
from .states import Ending, seconds_left
from .supervisor import REQUEUE_BEFORE_S, believe_restart, explained, own_facts, own_job, requeue, timeouts


def run_several(experiment: Path, directories: Sequence[Path], *, max_num_timeout: int) -> int:
    """Run these arms; returns 0 if all of them completed."""
    for directory in directories:
        believe_restart(directory)
    clock = _Clock(directories, max_num_timeout)
    clock.start()
    LocalPool(experiment).run(directories)
    views = [ArmView(directory) for directory in directories]
    ended = [view for view in views if view.cause == "cancelled" or view.exit.get("code") == -signal.SIGTERM]
    ending = clock.ending or explained() if ended else None
    for view in ended:
        if ending is not None:
            _correct(view, ending)
    if ending is not None and ending.again:
        requeue()
    return 0 if all(ArmView(directory).status.get("state") == "completed" for directory in directories) else 1


def _correct(view: ArmView, ending: Ending) -> None:
    if ending.again and not view.status:
        (view.directory / "exit.json").unlink(missing_ok=True)
    elif not view.status and ending.cause == "timeout":
        text = "NeverStarted: the job came to its time limit before it was this arm's turn"
        write_exit(view.directory, "never_started", text, job=own_job())
    else:
        write_exit(view.directory, ending.cause, ending.error, again=ending.again, job=own_job())


class _Clock:
    """Ends the arms shortly before the job's time limit where the job may be run again."""

    def __init__(self, directories: Sequence[Path], max_num_timeout: int) -> None:
        self.ending: Ending | None = None
        self._used = max(timeouts(directory) for directory in directories)
        self._allowed = max_num_timeout

    def start(self) -> None:
        # blocked here and in every process of the job that follows: SLURM's warning would end them
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        if self._used < self._allowed:
            threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        signal.sigwait({signal.SIGUSR2})
        left = seconds_left(own_facts())
        if left is None:
            return
        time.sleep(max(0.0, left - REQUEUE_BEFORE_S))
        limit = f"time limit, {self._used + 1} of {self._allowed} times run again"
        self.ending = Ending("timeout", f"Timeout: the job came to its {limit}", again=True)
        with contextlib.suppress(ProcessLookupError):
            signal.raise_signal(signal.SIGTERM)
