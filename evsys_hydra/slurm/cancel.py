"""Cancelling what an experiment has on SLURM; its finalizer then concludes."""

from __future__ import annotations

from pathlib import Path

from ..errors import RecordError
from ..sweep.process import write_exit
from .client import cancel as scancel
from .client import queued
from .submission import latest_places, submissions
from .view import by_place


def cancel(experiment: Path, arm: str | None = None) -> list[str]:
    """Cancel the jobs of an arm, or of all arms, that are queued or running.

    Returns:
        The names of the arms whose jobs were cancelled.

    Raises:
        RecordError: the arm has no job, or shares it with others.
        SlurmError: SLURM refused.
    """
    known = submissions(experiment)
    places = latest_places(known)
    if not places:
        raise RecordError(f"{experiment} was not sent to SLURM.")
    if arm is not None and arm not in places:
        raise RecordError(f"No arm {arm!r} in {experiment}. Arms: {', '.join(places)}")
    alive = by_place(queued((job for one in known for job in one.jobs()), patience_s=60))
    doomed = {name: (job, index) for name, (_, job, index) in places.items() if (job, index) in alive}
    if arm is not None:
        beside = [name for name, place in doomed.items() if place == doomed.get(arm) and name != arm]
        if beside:
            raise RecordError(
                f"{arm} shares its job with {', '.join(beside)}: cancel them together, without naming an arm."
            )
        doomed = {name: place for name, place in doomed.items() if name == arm}
    scancel(dict.fromkeys(f"{job}_{index}" for job, index in doomed.values()))
    text = "Cancelled: the job was cancelled before the arm started"
    for name, (job, index) in doomed.items():
        if job is not None and alive[job, index].state == "PENDING":  # SLURM keeps no word of a task without a job
            write_exit(experiment / "arms" / name, "cancelled", text, job=f"{job}_{index}")
    return list(doomed)
