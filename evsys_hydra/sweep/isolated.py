"""The `isolated` launcher, the default: arms on this machine, each in a process of its own (see `launch`)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from .launch import LocalPool
from .plainly import plainly
from .session import Session, begin, swept_keys
from .show import Watch

LOOK_EVERY_S = 0.5


class IsolatedLauncher(Launcher):
    """Runs arms in parallel processes that fork from one with the heavy libraries imported.

    Args:
        n_jobs: arms at a time; None: one for each GPU, else one.
        timeout_min: longest time for an arm, in minutes; None: no limit.
    """

    def __init__(self, n_jobs: int | None = None, timeout_min: float | None = None) -> None:
        self.n_jobs = n_jobs
        self.timeout_min = timeout_min

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """For sweepers that choose arms as they go (Optuna): plan these arms, run them, give their values."""
        with plainly():
            return self._launch(job_overrides)

    def _launch(self, job_overrides: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
        session = begin(self.hydra_context.config_loader, self.config, Path(str(self.config.hydra.sweep.dir)))
        fixed = list(self.config.hydra.overrides.task)
        keys = list(dict.fromkeys(key for words in job_overrides for key in swept_keys(words, fixed)))
        self.run_arms(session, session.prepare(job_overrides, keys))
        return session.returns()

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
        metric=(session.record.facts.get("metadata") or {}).get("success_metric"),
        n_jobs=n_jobs,
        timeout_min=timeout_min,
    )


def run_directories(
    experiment: Path,
    directories: Sequence[Path],
    *,
    metric: str | None,
    n_jobs: int | None = None,
    timeout_min: float | None = None,
) -> None:
    """Run arms' directories in a pool while a thread tells of them."""
    watch = Watch(directories, metric)
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY_S):
            watch.look()

    teller = threading.Thread(target=look, daemon=True)
    teller.start()
    try:
        LocalPool(experiment, n_jobs=n_jobs, timeout_min=timeout_min).run(directories)
    finally:
        over.set()
        teller.join()
        watch.look()
