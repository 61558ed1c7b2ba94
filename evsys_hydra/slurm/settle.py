"""Speaking for arms that could not: their job is gone, and their record does not say how it ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..record import ArmView, ExperimentRecord
from ..sweep.process import write_exit
from .client import accounted, facts_of
from .states import Ending, ending_of, exit_of
from .submission import Submission, latest_places, submissions

TAIL_LINES = 5


def settle(
    experiment: Path,
    alive: Collection[tuple[str, int | None]],
    *,
    only: Collection[str] | None = None,
    final: bool = False,
) -> None:
    """Write exit.json for every submitted arm whose job has ended without the arm saying how.

    Args:
        alive: (array, index) of the jobs that are still queued or running.
        only: names of the arms that `alive` speaks of; None: all of them.
        final: nobody submits any more: arms that have no job at all were never started.
    """
    record = ExperimentRecord.load(experiment)
    places = latest_places(submissions(experiment))
    remembered: dict[str, dict[int, dict[str, str]]] = {}
    for name in record.arm_names:
        if only is not None and name not in only:
            continue
        arm = ArmView(record.arm_directory(name))
        submission, job, index = places.get(name, (None, None, 0))
        if has_ended(arm, f"{job}_{index}"):
            continue
        if submission is None or job is None:
            if final and arm.state == "pending":
                text = f"the sweep ended before this arm was submitted. Run it: evsys-hydra resume {experiment}"
                write_exit(arm.directory, "never_started", f"NeverStarted: {text}")
            continue
        if (job, index) in alive:
            continue
        if job not in remembered:
            remembered[job] = _remembered(job)
        ending = _explain(arm, submission, job, index, remembered[job].get(index))
        write_exit(arm.directory, ending.cause, ending.error, job=f"{job}_{index}")


def has_ended(arm: ArmView, job: str) -> bool:
    """Whether the arm's files say how its job, the last one that was submitted for it, ended for good."""
    said = arm.exit if arm.exit.get("attempt", 0) > arm.attempt else arm.status
    if arm.status.get("state") == "completed":
        return True
    if said and not _is_of(said, job):  # an earlier job's end: what became of this one is not said
        return False
    if arm.status.get("state") == "failed":
        return True
    return bool(arm.exit) and not arm.exit.get("again")


def _is_of(facts: Mapping[str, Any], job: str) -> bool:
    """Whether a status.json or exit.json was written of this job."""
    return bool(facts) and facts.get("job") in (None, job)


def _remembered(job: str) -> dict[int, dict[str, str]]:
    """Index -> what the controller, or else the accounting, knows."""
    known = {int(facts["ArrayTaskId"]): facts for facts in accounted(job) if facts["ArrayTaskId"].isdigit()}
    fresh = {int(facts["ArrayTaskId"]): facts for facts in facts_of(job) if facts.get("ArrayTaskId", "").isdigit()}
    return {**known, **fresh}


def _explain(arm: ArmView, submission: Submission, job: str, index: int, facts: dict[str, str] | None) -> Ending:
    started = _is_of(arm.status, f"{job}_{index}")
    ending = ending_of(facts) if facts else None
    if ending is not None and ending.cause == "cancelled" and not started:
        return Ending("cancelled", "Cancelled: the job was cancelled before the arm started")
    if ending is not None:
        return ending
    if _is_of(arm.exit, f"{job}_{index}"):
        return Ending(arm.exit["cause"], arm.exit["error"])
    if not started:
        said = _log_tail(submission, job, index)
        return Ending("never_started", f"NeverStarted: job {job}_{index} ended before the arm began{said}")
    noted = exit_of(facts) if facts else None
    if noted is not None and noted.cause != "user_error":
        return noted
    tail = "\n".join(arm.log_tail(TAIL_LINES))
    said = f". Last lines of its log:\n{tail}" if tail else ""
    return Ending("killed", f"Killed: job {job}_{index} is gone and left no word of its end{said}")


def _log_tail(submission: Submission, job: str, index: int) -> str:
    lines: list[str] = []
    for path in sorted(Path(submission.folder).glob(f"{job}_{index}_*_log.*")):
        lines += path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    return ":\n" + "\n".join(lines) if lines else ""
