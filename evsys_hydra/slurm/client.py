"""SLURM's command line tools: called with patience, because a busy controller refuses now and then.

Only sbatch, squeue, scontrol and scancel are needed; sacct is asked for an explanation where a cluster has accounting.
"""

from __future__ import annotations

import getpass
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ..errors import EvsysError

PATIENCE_S = 300.0
CALL_TIMEOUT_S = 120.0
KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS")
FILTERS = ("SLURM_", "SQUEUE_", "SACCT_", "SCANCEL_")
"""What changes the answers of SLURM's tools: a user's SQUEUE_STATES=RUNNING would make pending jobs vanish."""
TRANSIENT = re.compile(
    r"unable to contact slurm controller|socket timed out|connection (refused|reset|timed out)|communication"
    r"|temporarily unable to accept|resource temporarily unavailable|zero bytes were transmitted"
    r"|slurm backup controller in standby|slurmctld.*not (up|responding)|try again|unexpected message received"
    r"|insane message length|protocol authentication error|munge encode failed|connect failure",
    re.IGNORECASE,
)


class SlurmError(EvsysError):
    """SLURM refused a command; the text is SLURM's own with the command."""


class SlurmUnreachable(SlurmError):
    """SLURM did not answer for as long as we were ready to wait."""


@dataclass(frozen=True)
class QueuedJob:
    """A job, or one task of an array, that squeue lists.

    Args:
        job: id that scontrol knows this task by.
        array: id of its array (of itself without one).
        index: its index in the array.
        state: PENDING, RUNNING, COMPLETING, ...
        reason: why it is pending, in SLURM's words.
        comment: what it was tagged with.
    """

    job: str
    array: str
    index: int | None
    state: str
    reason: str
    comment: str

    @property
    def task(self) -> str:
        """What scontrol and scancel take: tasks that pend have no id of their own yet."""
        return self.job if self.index is None else f"{self.array}_{self.index}"


def call(*command: str, patience_s: float = PATIENCE_S) -> str:
    """Run a SLURM command; transient failures are retried with growing pauses.

    Args:
        patience_s: how long to go on trying; 0: once.

    Returns:
        Its standard output.

    Raises:
        SlurmUnreachable: SLURM did not answer in time.
        SlurmError: SLURM refused, or the command is not installed.
    """
    deadline = time.monotonic() + patience_s
    pause = 0.5
    while True:
        try:
            return once(*command)
        except SlurmUnreachable as error:
            if time.monotonic() + pause > deadline:
                raise
            if 2 < pause <= 4:
                print(f"{error}; trying again for {patience_s:.0f} s", file=sys.stderr, flush=True)
        time.sleep(pause * random.uniform(0.8, 1.2))
        pause = min(pause * 2, 20.0)


def once(*command: str) -> str:
    """Run a SLURM command a single time; raises as `call` does."""
    try:
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=CALL_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise SlurmError(
            f"{command[0]} is not installed here: this machine has no SLURM. "
            "Start from a login node of the cluster, or use hydra/launcher=isolated."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SlurmUnreachable(f"{command[0]} did not answer within {CALL_TIMEOUT_S:.0f} s") from error
    if done.returncode == 0:
        return done.stdout
    text = (done.stderr or done.stdout).strip()
    # ended by a signal: SLURM signals every process of a job that it ends, this one too
    transient = done.returncode < 0 or TRANSIENT.search(text)
    kind = SlurmUnreachable if transient else SlurmError
    raise kind(f"{command[0]}: {text or f'exit code {done.returncode}'}")


def environment() -> dict[str, str]:
    """This process's environment without what SLURM set for the job it may run in: a new job is not a part of it.

    And without what the user has set to see other answers than these modules can read.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith(FILTERS) or key in KEPT}
    return {**kept, "SLURM_TIME_FORMAT": "standard"}


def queued(jobs: Iterable[str], *, ended_too: bool = False, patience_s: float = 0) -> list[QueuedJob]:
    """What squeue lists of these jobs, a line for each task of an array; jobs it does not know are absent.

    Args:
        ended_too: also those that ended so short ago that the controller still knows them.
    """
    ids = sorted(set(jobs))
    if not ids:
        return []
    try:
        return _squeue(["-j", ",".join(ids)], ended_too, patience_s)
    except SlurmUnreachable:
        raise
    except SlurmError as error:
        if "invalid job id" in str(error).lower():
            return []
        raise


def tagged(tag: str, *, patience_s: float = PATIENCE_S) -> list[QueuedJob]:
    """This user's jobs whose comment ends in `tag`, those that ended a short while ago included."""
    found = _squeue(["-u", getpass.getuser()], True, patience_s)
    return [job for job in found if job.comment.split(" ")[-1] == tag]


def _squeue(which: list[str], ended_too: bool, patience_s: float) -> list[QueuedJob]:
    states = ["-t", "all"] if ended_too else []
    text = call("squeue", "-h", "-r", "-o", "%A|%F|%K|%T|%r|%k", *states, *which, patience_s=patience_s)
    found = []
    for line in text.splitlines():
        job, array, index, state, reason, comment = (line.split("|", 5) + [""] * 6)[:6]
        number = int(index) if index.isdigit() else None
        found.append(QueuedJob(job, array, number, state, reason, "" if comment == "(null)" else comment))
    return found


def facts_of(job: str) -> list[dict[str, str]]:
    """What the controller remembers of a job, or of each task of an array: JobState, ExitCode, ArrayTaskId, ...

    [] for a job it has forgotten (MinJobAge after its end, usually five minutes) and where it does not answer.
    """
    try:
        text = call("scontrol", "show", "job", "-o", job, patience_s=5)
    except SlurmError:
        return []
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in text.splitlines() if line.strip()]


def accounted(job: str) -> list[dict[str, str]]:
    """What the accounting database knows of a job, in scontrol's words; [] on a cluster without one."""
    try:
        text = call("sacct", "-X", "-n", "-P", "-j", job, "-o", "JobID,State,ExitCode,Timelimit", patience_s=5)
    except SlurmError:
        return []
    found = []
    for line in text.splitlines():
        identity, state, code, limit = (line.split("|") + [""] * 4)[:4]
        index = identity.partition("_")[2]
        found.append({"ArrayTaskId": index, "JobState": state.split(" ")[0], "ExitCode": code, "TimeLimit": limit})
    return found


def max_array_size() -> int:
    """The cluster's MaxArraySize: indices of an array stay below it."""
    match = re.search(r"MaxArraySize\s*=\s*(\d+)", call("scontrol", "show", "config"))
    return int(match[1]) if match else 1001


def cancel(jobs: Iterable[str], *, only_pending: bool = False) -> None:
    """scancel these jobs (or tasks, as "<array>_<index>")."""
    ids = list(jobs)
    if ids:
        call("scancel", *(["--state=PENDING"] if only_pending else []), *ids, patience_s=60)


def sbatch(script: str, options: Mapping[str, str], tag: str, besides: Collection[str] = ()) -> str:
    """Submit a script file and return the job's id.

    Args:
        options: flags of sbatch; an empty value means a flag without one.
        tag: the end of the script's comment. When an answer got lost, the job is looked up by it before it is sent
            again.
        besides: jobs with this tag that were there before.
    """
    words = [f"--{key}={value}" if value else f"--{key}" for key, value in options.items()]
    deadline = time.monotonic() + PATIENCE_S
    pause = 1.0
    while True:
        try:
            return once("sbatch", "--parsable", *words, script).strip().split(";")[0]
        except SlurmUnreachable as error:
            if time.monotonic() + pause > deadline:
                raise
            print(f"{error}; trying again", file=sys.stderr, flush=True)
        time.sleep(pause)
        pause = min(pause * 2, 20.0)
        known = [job.array for job in tagged(tag) if job.array not in besides]
        if known:
            return known[0]
