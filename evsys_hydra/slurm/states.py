"""From what SLURM says of a job to the cause of its arm."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ..causes import cause_of_exit
from ..record import Cause

TIMEOUTS = ("TIMEOUT", "DEADLINE")
CLOCK_S = 2.0
NODE_FAILURES = ("NODE_FAIL", "BOOT_FAIL")
CANCELLATIONS = ("CANCELLED", "REVOKED")
ALIVE = ("RUNNING", "SIGNALING", "COMPLETING")
"""States of a job that is being ended: SIGNALING while a node has not said yet that it took a signal."""


@dataclass(frozen=True)
class Ending:
    """Why a job's processes ended.

    Args:
        cause: as in the record.
        error: "<Type>: <text>".
        again: SLURM runs the job again.
    """

    cause: Cause
    error: str
    again: bool = False


REQUEUED = Ending("preempted", "Preempted: the job was requeued", again=True)


def ending_of(facts: Mapping[str, str], *, restarts: int = 1_000_000) -> Ending | None:
    """What SLURM's words about a job (scontrol's or sacct's) mean; None if they do not say why it ended.

    Read while the job is being ended (its state may then be COMPLETING, whatever it becomes) or after.

    Args:
        restarts: how often the job had been restarted when the run in question began.
    """
    state = facts.get("JobState", "").rstrip("+")
    limit = facts.get("TimeLimit", "")
    if state in TIMEOUTS or facts.get("Reason") == "TimeLimit" or over_limit(facts):
        return Ending("timeout", f"Timeout: SLURM ended the job at its time limit{f' ({limit})' if limit else ''}")
    if state == "OUT_OF_MEMORY":
        return Ending("out_of_memory", "OutOfMemory: SLURM ended the job for its memory (OUT_OF_MEMORY)")
    if state in NODE_FAILURES or facts.get("Reason") == "NodeDown":
        return Ending("node_failure", f"NodeFailure: the node of the job failed ({state})", state not in NODE_FAILURES)
    if state in CANCELLATIONS:
        return Ending("cancelled", "Cancelled: the job was cancelled")
    preempted = facts.get("PreemptTime", "None") not in ("None", "", "Unknown")
    if state == "PREEMPTED":
        return Ending("preempted", "Preempted: a job of higher priority took the resources")
    if preempted and state in (*ALIVE, "PENDING", "REQUEUED"):
        again = facts.get("Requeue") == "1"
        return Ending("preempted", "Preempted: a job of higher priority took the resources", again)
    if state in ("PENDING", "REQUEUED") or int(facts.get("Restarts") or 0) > restarts:
        return REQUEUED
    return None


def over_limit(facts: Mapping[str, str]) -> bool:
    """Whether a job that still runs, or is just being ended, has used up its time: srun can know before the state."""
    limit = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", facts.get("TimeLimit", ""))
    if limit is None or facts.get("JobState") not in ALIVE:
        return False
    days, hours, minutes, seconds = (int(part or 0) for part in limit.groups())
    try:
        started = datetime.fromisoformat(facts.get("StartTime", "")).timestamp()
    except ValueError:
        return False
    return time.time() - started >= ((days * 24 + hours) * 60 + minutes) * 60 + seconds - CLOCK_S


def seconds_left(facts: Mapping[str, str]) -> float | None:
    """Until the job's time limit; None if it has none."""
    try:
        return datetime.fromisoformat(facts.get("EndTime", "")).timestamp() - time.time()
    except ValueError:
        return None


def exit_of(facts: Mapping[str, str]) -> Ending | None:
    """What the exit code says that SLURM noted for an ended job; None if it noted none."""
    code, _, signal = facts.get("ExitCode", "").partition(":")
    if facts.get("JobState", "").rstrip("+") not in ("FAILED", "COMPLETED") or not code.isdigit():
        return None
    number = int(signal) if signal.isdigit() else 0
    status = -number if number else 128 - int(code) if 128 < int(code) < 160 else int(code)
    cause, error = cause_of_exit(status)
    return Ending(cause, error)
