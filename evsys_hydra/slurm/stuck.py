"""Pending jobs that will not start by themselves: what to tell of them, and which to give up.

Most reasons pass (Resources, Priority, BeginTime, ...). Others last until somebody acts, and some for ever: SLURM
keeps such jobs in its queue, and whoever waits for them would wait without end.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..sweep.process import write_exit
from .client import QueuedJob, SlurmError, call, cancel, facts_of

LAUNCH_TRIES = 3
HOPELESS_S = 8.0
LAUNCH_FAILED = "launchfailedrequeuedheld"
HOPELESS = {
    "badconstraints": "no node of the cluster fits what the job asks for",
    "dependencyneversatisfied": "the job depends on one that did not end as it had to",
    "invalidaccount": "the account is not valid any more",
    "invalidqos": "the QOS is not valid any more",
    LAUNCH_FAILED: f"the nodes failed to launch the job {LAUNCH_TRIES} times",
}
RELEASE = "let it go: scontrol release {job}"
ELSEWHERE = "evsys-hydra cancel it, then resume with other hydra.launcher settings"
LASTING = {
    "jobhelduser": f"held by its user; {RELEASE}",
    "jobheldadmin": f"held by an administrator, who alone can {RELEASE}",
    LAUNCH_FAILED: f"a node failed to launch it; {RELEASE}",
    "partitiontimelimit": f"timeout_min is more than the partition allows; {ELSEWHERE}",
    "partitionnodelimit": f"more nodes than the partition has or allows; {ELSEWHERE}",
    "partitiondown": "the partition is down",
    "partitioninactive": "the partition is inactive",
    "reqnodenotavail": "a node that it asks for is not available",
}
LIMITS = re.compile(r"^(qos|assoc|maxcpuper|maxmemper|maxgresper)")


def advice(job: QueuedJob) -> str | None:
    """What holds a pending job up and what to do, where waiting alone may not help; else None."""
    reason = _plain(job.reason)
    if job.state != "PENDING":
        return None
    known = LASTING.get(reason) or HOPELESS.get(reason)
    if known is None and LIMITS.match(reason):
        known = "a limit of the account or its QOS; it starts when the limit allows"
    return known.format(job=job.task) if known is not None else None


@dataclass
class Stuck:
    """Tells of such jobs once, and gives up those that can never start, as the driver polls.

    Args:
        tell: prints a line for the person who waits.
    """

    tell: Callable[[str], None]
    _told: set[tuple[str, str]] = field(default_factory=set)
    _since: dict[str, float] = field(default_factory=dict)

    def look(self, arms: Mapping[Path, QueuedJob]) -> None:
        """Look at the jobs of arms, by the arms' directories.

        A failed launch is released twice before it is given up: another node may do better.
        """
        waiting: dict[str, list[Path]] = {}
        jobs = {job.task: job for job in arms.values() if advice(job) is not None}
        for directory, job in arms.items():
            if job.task in jobs:
                waiting.setdefault(job.task, []).append(directory)
        for number, job in jobs.items():
            reason = _plain(job.reason)
            self._say(waiting[number], job)
            since = self._since.setdefault(number, time.monotonic())
            if reason == LAUNCH_FAILED and _launches(number) < LAUNCH_TRIES:
                _release(number)
            elif reason in HOPELESS and time.monotonic() - since >= HOPELESS_S:
                give_up(job, waiting[number])
        self._since = {number: since for number, since in self._since.items() if number in jobs}

    def _say(self, directories: Sequence[Path], job: QueuedJob) -> None:
        names = [directory.name for directory in directories if (directory.name, job.reason) not in self._told]
        if names:
            self._told.update((name, job.reason) for name in names)
            self.tell(f"{', '.join(names)}: SLURM holds job {job.task} back ({job.reason}): {advice(job)}")


def give_up(job: QueuedJob, directories: Sequence[Path]) -> None:
    """Say of the arms of a job that they never started, with SLURM's reason, and cancel it."""
    why = HOPELESS[_plain(job.reason)]
    for directory in directories:
        text = f"NeverStarted: SLURM holds job {job.task} back for good ({job.reason}): {why}"
        write_exit(directory, "never_started", text, job=job.task)
    cancel([job.task])


def _launches(job: str) -> int:
    """How often SLURM has tried to launch a job that it requeued each time."""
    facts = next(iter(facts_of(job)), {})
    return int(facts.get("Restarts") or 0)


def _release(job: str) -> None:
    try:
        call("scontrol", "release", job, patience_s=0)
    except SlurmError as error:
        print(error, flush=True)


def _plain(reason: str) -> str:
    """SLURM writes the same reason as `JobHeldUser`, `launch failed requeued held` or `launch_failed_requeued_held`."""
    return re.sub(r"[\s_]+", "", reason).lower()
