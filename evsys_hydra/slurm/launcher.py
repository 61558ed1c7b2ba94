"""`submitit_slurm`: the plugin's launcher with its settings, except that arms are isolated and the end always comes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

from ..errors import ConfigError
from ..record import ArmView
from ..sweep.driver import Driver
from ..sweep.launcher import ArmsLauncher
from ..sweep.session import Session
from .client import SlurmError, call
from .submission import Submission, submissions
from .submit import say, submit
from .wait import Leave, wait


class SubmititSlurmLauncher(ArmsLauncher, SlurmLauncher):
    """Sends arms' directories to SLURM and shows how they come along; results are read from their records.

    Args:
        params: the plugin's settings, and
            detach: return when everything is queued;
            arms_per_job: how many arms run in one allocation;
            finalizer: sbatch parameters of the finalizer where it must differ from the arms.
    """

    def _launch(self, job_overrides: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
        if self.params.get("detach"):
            raise ConfigError(
                "hydra.launcher.detach=true: this sweeper chooses its arms by the results of earlier ones."
            )
        return super()._launch(job_overrides)

    def run_arms(self, session: Session, directories: Sequence[Path]) -> None:
        """Queue planned arms and, unless detached, wait for their end; never raises for what an arm does.

        Raises:
            SlurmError, ConfigError: the jobs could not be queued.
        """
        assert session.record is not None
        session.left = os.EX_UNAVAILABLE  # until they are queued
        metric = (session.record.facts.get("metadata") or {}).get("success_metric")
        session.concluded = lambda: drop_finalizer(session.directory)
        session.left = run(session.record.directory, directories, self.params, metric, driver=session.driver)


def run(
    experiment: Path,
    directories: Sequence[Path],
    parameters: Mapping[str, Any],
    metric: str | None,
    *,
    driver: Driver | None = None,
) -> int | None:
    """Submit arms and wait for their end.

    Args:
        driver: this process's claim on the experiment, released when the arms are queued.

    Returns:
        None: they have ended, conclude. Else the exit status of a driver that leaves that to the finalizer.
    """
    names = [directory.name for directory in directories if ArmView(directory).status.get("state") != "completed"]
    if not names:
        return None
    with Leave() as leave:  # a submission that has begun is finished
        try:
            submission = submit(experiment, names, parameters)
        except SlurmError as error:
            raise SlurmError(
                f"{error}\nWhat was not submitted can be run later: evsys-hydra resume {experiment}"
            ) from error
    if driver is not None:
        driver.release()
    say(
        f"{_jobs(submission)}\n"
        f"look at them: evsys-hydra status {experiment}\n"
        f"cancel them:  evsys-hydra cancel {experiment}"
    )
    caught = leave.caught
    if caught is None and not parameters.get("detach"):
        caught = wait(submission, metric)
        if caught is None:
            return None
    if caught is not None:
        say(f"{signal.Signals(caught).name}: this terminal is let go, the arms run on.")
    say(f"Job {submission.finalizer} concludes when the last arm has ended: {experiment}/conclusion.md")
    return os.EX_OK if caught is None else 128 + caught


def drop_finalizer(experiment: Path) -> None:
    """Cancel the last finalizer if it has not started: its driver has concluded, and it may be held for ever."""
    finalizer = submissions(experiment)[-1].finalizer
    with contextlib.suppress(SlurmError):
        if finalizer is not None:
            call("scancel", "--state=PENDING", finalizer, patience_s=0)


def _jobs(submission: Submission) -> str:
    count = len(submission.tasks)
    arms = sum(len(task) for task in submission.tasks)
    return f"{arms} arms in {count} jobs: {', '.join(submission.jobs())}"
