"""Arms as their files and the queue tell of them: only the queue knows what is pending or will be run again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..record import ArmView, ExperimentRecord, State
from .client import QueuedJob, SlurmError, queued
from .submission import FOLDER, latest_places, submissions


@dataclass(frozen=True)
class QueuedArm(ArmView):
    """An arm that SLURM has a job for, in the state that the job lets believe.

    Args:
        job: what squeue says of it.
    """

    job: QueuedJob | None = None

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
    """The arms of an experiment, with the queue's knowledge where it was sent to SLURM and SLURM answers."""
    if not (record.directory / FOLDER).is_dir():
        return [ArmView(record.arm_directory(name)) for name in record.arm_names]
    places = latest_places(submissions(record.directory))
    arrays = {job for _, job, _ in places.values() if job is not None}
    try:
        listed = by_place(queued(arrays, patience_s=patience_s))
    except SlurmError:
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


def queue_state(view: ArmView) -> str | None:
    """What squeue says of an arm, for example "PENDING (Resources)"; None for one that has no job now."""
    job = view.job if isinstance(view, QueuedArm) else None
    if job is None:
        return None
    return f"{job.state} ({job.reason})" if job.state == "PENDING" else job.state
