"""The `isolated` launcher, the default: arms on this machine, each in a process of its own (see `launch`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .launch import LocalPool
from .launcher import ArmsLauncher
from .live import LiveTable
from .session import Session


class IsolatedLauncher(ArmsLauncher):
    """Runs arms in parallel processes that fork from one with the heavy libraries imported.

    Args:
        n_jobs: arms at a time; None: one for each GPU, else one.
        timeout_min: longest time for an arm, in minutes; None: no limit.
    """

    def __init__(self, n_jobs: int | None = None, timeout_min: float | None = None) -> None:
        self.n_jobs = n_jobs
        self.timeout_min = timeout_min

    def run_arms(self, session: Session, directories: Sequence[Path]) -> None:
        """Run planned arms to their end; never raises for what an arm does."""
        run_local(session, directories, n_jobs=self.n_jobs, timeout_min=self.timeout_min)


def run_local(
    session: Session, directories: Sequence[Path], *, n_jobs: int | None = None, timeout_min: float | None = None
) -> None:
    """Run the arms of a session on this machine and show how they come along."""
    assert session.record is not None
    run_directories(
        session.record.directory,
        directories,
        n_jobs=n_jobs,
        timeout_min=timeout_min,
    )


def run_directories(
    experiment: Path,
    directories: Sequence[Path],
    *,
    n_jobs: int | None = None,
    timeout_min: float | None = None,
) -> None:
    """Run arms' directories in a pool while a thread shows them."""
    with LiveTable(experiment, directories):
        LocalPool(experiment, n_jobs=n_jobs, timeout_min=timeout_min).run(directories)
