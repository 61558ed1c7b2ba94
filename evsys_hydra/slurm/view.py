"""Arms as their files and the queue tell of them: only the queue knows what is pending or will be run again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..record import ArmView, ExperimentRecord, State
from .client import QueuedJob, SlurmError, queued
from .stuck import advice
from .submission import latest_places, submissions


@dataclass(frozen=True)
class QueuedArm(ArmView):
    """An arm that SLURM has a job for, in the state that the job lets believe.

    Args:
        job: what squeue says of it.
    """

    job: QueuedJob | None = None

    @property
    def queue(self) -> str | None:
        if self.job is None:
            return None
        if self.job.state != "PENDING":
            return self.job.state
        held = advice(self.job)
        return f"PENDING ({self.job.reason})" + (f": {held}" if held else "")

    @cached_property
    def state(self) -> State:
        said = self.status.get("state", "pending")
        if self.job is None or said == "completed":
            return ArmView(self.directory).state
        if said == "failed" and self.status.get("job_id") == self.job.job and self.job.state != "PENDING":
            return "failed"
        if self.job.state == "PENDING" or said == "pending":
            return "pending"
        return "running"


def arm_views(record: ExperimentRecord, *, patience_s: float = 0) -> list[ArmView]:
    """The arms of an experiment that was sent to SLURM; by their files alone where SLURM does not answer.

    Args:
        patience_s: how long to wait for SLURM's answer, and until no job is just ending: whether such a one will be
            run again shows only then. Where it is 0, silence is not an error.

    Raises:
        SlurmError: patience was asked for, and SLURM did not answer.
    """
    if patience_s:
        for submission in submissions(record.directory):
            if not submission.complete:  # its driver died before it could write down what SLURM had taken
                submission.find_lost()
    deadline = time.monotonic() + patience_s
    while True:
        views = _views_now(record, patience_s)
        ending = any(view.job is not None and view.job.state == "COMPLETING" for view in views)
        if not ending or time.monotonic() > deadline:
            return list(views)
        time.sleep(0.5)


def _views_now(record: ExperimentRecord, patience_s: float) -> list[QueuedArm]:
    places = latest_places(submissions(record.directory))
    arrays = {job for _, job, _ in places.values() if job is not None}
    try:
        listed = by_place(queued(arrays, patience_s=patience_s))
    except SlurmError:
        if patience_s:
            raise
        listed = {}
    return [queued_arm(record.arm_directory(name), places.get(name), listed) for name in record.arm_names]


def queued_arm(
    directory: Path,
    place: tuple[object, str | None, int] | None,
    listed: dict[tuple[str, int | None], QueuedJob],
) -> QueuedArm:
    """The view of one arm, given where it was submitted."""
    job = listed.get((place[1], place[2])) if place is not None and place[1] is not None else None
    return QueuedArm(directory, job)


def by_place(jobs: Sequence[QueuedJob]) -> dict[tuple[str, int | None], QueuedJob]:
    """(array, index) -> job."""
    return {(job.array, job.index): job for job in jobs}
