"""The arm's process from inside its job: started, signals understood, its end written down.

SLURM ends a job with SIGTERM and, seconds later, SIGKILL. What it is for is asked at the first signal and written to
exit.json at once, and asked again for as long as SLURM does not say; an arm that still completes in the time left is
believed over it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from ..causes import kernel_oom_kills
from ..record import ArmView, array_task, is_running
from ..record.files import read_json
from ..sweep.process import Launched, become_arm, finish, rotate_log, write_exit
from .client import SlurmError, call, facts_of
from .memory import cgroup_oom_kills
from .states import REQUEUED, Ending, ending_of, seconds_left

EXIT_BUSY = 75
REQUEUE_BEFORE_S = 15.0
REQUEUE_WAIT_S = 20.0
GRACE_S = 5.0
LOOK_S = 5.0
ASK_AGAIN_S, ASK_AT_MOST_S = 1.0, 30.0
EXPLAIN_S = 3.0
PR_SET_PDEATHSIG = 1
UNEXPLAINED = Ending("cancelled", "Cancelled: the job was told to end (SIGTERM)")


class Supervisor:
    """Runs an arm in a child of this process and writes down how it ended.

    Args:
        directory: where the child records: the arm's directory, or that of one of its ranks.
        max_num_timeout: how often an arm that reached its time limit is run again.
        prepare: called in the child before the arm.
        body: what the child runs instead of `arm.run_arm`.
        peer_failed: says why the child must end because of another rank; None while all is well.
        requeues: whether it is for this process to have the job run again.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_num_timeout: int = 0,
        prepare: Callable[[], None] | None = None,
        body: Callable[[Path], int] | None = None,
        peer_failed: Callable[[], Ending | None] | None = None,
        requeues: bool = True,
    ) -> None:
        self.directory = directory
        self._max_num_timeout = max_num_timeout
        self._prepare = prepare
        self._body = body
        self._peer_failed = peer_failed
        self._requeues = requeues
        self._ending: Ending | None = None
        self._requeue_at: float | None = None
        self._kill_at: float | None = None
        self._busy = False
        self._ask_at = 0.0
        self._ask_every = ASK_AGAIN_S

    def run(self) -> int:
        """Run the arm to its end; returns the exit code for SLURM."""
        believe_restart(self.directory)
        with Signals() as signals:
            code = self._attempt(signals)
            while self._busy and self._ending is None:  # an attempt that SLURM has given up still runs
                while is_running(self.directory) and not self._told(signals, LOOK_S):
                    pass
                code = self._attempt(signals)
        if ArmView(self.directory).status.get("state") == "completed":
            return 0
        if self._ending is not None and self._ending.again and self._requeues:
            requeue()
        return code if 0 < code < 128 else 128 - code if code < 0 else 1

    def _attempt(self, signals: Signals) -> int:
        rotate_log(self.directory)
        kills = oom_kills()
        pid = os.fork()
        if pid == 0:
            signals.forget()
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if self._prepare is not None:
                self._prepare()
            become_arm(self.directory, None, self._body)
        launched = Launched(self.directory, pid, time.monotonic(), [], kills)
        code = self._wait(pid, signals)
        said = ArmView(self.directory).status
        self._busy = code == EXIT_BUSY and said.get("pid") != pid
        if said.get("pid") == pid and said.get("state") in ("completed", "failed"):
            return code
        if self._ending is None and code in (-signal.SIGTERM, -signal.SIGKILL) and self._told(signals, 1.0):
            self._terminated(pid)
        if self._ending is None and code == -signal.SIGTERM:  # SLURM's own SIGTERM can come to the arm alone
            self._ending = own_ending()
        if self._ending is UNEXPLAINED:
            self._ending = explained() or UNEXPLAINED
        if self._ending is not None:
            self._write(self._ending, code)
        elif not self._busy:
            launched.oom_kills = kernel_oom_kills() - (oom_kills() - kills)
            finish(self.directory, code, launched)
        return code

    def _wait(self, pid: int, signals: Signals) -> int:
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            for number in signals.wait(self._patience()):
                if number == signal.SIGTERM:
                    self._terminated(pid)
                elif number == signal.SIGUSR2:
                    self._time_is_short()
            now = time.monotonic()
            if self._requeue_at is not None and now >= self._requeue_at:
                self._out_of_time(pid)
            if self._ending is UNEXPLAINED and now >= self._ask_at:
                self._explain()
            if self._peer_failed is not None and self._ending is None:
                self._ending = self._peer_failed()
                if self._ending is not None:
                    self._end(pid)
            if self._kill_at is not None and now >= self._kill_at:
                signal_group(pid, signal.SIGKILL)

    def _patience(self) -> float:
        ask_at = self._ask_at if self._ending is UNEXPLAINED else None
        moments = [moment for moment in (self._requeue_at, self._kill_at, ask_at) if moment is not None]
        soon = [moment - time.monotonic() for moment in moments]
        return max(0.05, min([LOOK_S, *soon, *([0.5] if self._peer_failed is not None else [])]))

    def _told(self, signals: Signals, seconds: float) -> bool:
        """Wait for SIGTERM."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if signal.SIGTERM in signals.wait(left):
                return True
        return False

    def _terminated(self, pid: int) -> None:
        if self._ending is None:
            self._explain()
        signal_group(pid, signal.SIGTERM)

    def _explain(self) -> None:
        self._ending = own_ending() or UNEXPLAINED
        self._ask_at = time.monotonic() + self._ask_every
        self._ask_every = min(2 * self._ask_every, ASK_AT_MOST_S)
        self._write(self._ending)

    def _time_is_short(self) -> None:
        """SLURM's warning before the time limit: run the job again if that is allowed, at the last moment."""
        if self._requeue_at is None and timeouts(self.directory) < self._max_num_timeout:
            left = seconds_left(own_facts())
            if left is not None:
                self._requeue_at = time.monotonic() + left - REQUEUE_BEFORE_S

    def _out_of_time(self, pid: int) -> None:
        self._requeue_at = None
        limit = f"time limit, {timeouts(self.directory) + 1} of {self._max_num_timeout} times run again"
        self._ending = Ending("timeout", f"Timeout: the job came to its {limit}", again=True)
        self._write(self._ending)
        self._end(pid)

    def _end(self, pid: int) -> None:
        signal_group(pid, signal.SIGTERM)
        self._kill_at = time.monotonic() + GRACE_S

    def _write(self, ending: Ending, code: int | None = None) -> None:
        attempted = ArmView(self.directory).status.get("state") == "running"
        facts: dict[str, Any] = {"again": ending.again, "job": own_job()}
        if attempted or not ending.again:
            write_exit(self.directory, ending.cause, ending.error, code=code, **facts)


class Signals:
    """SIGTERM, SIGUSR2 and SIGCHLD as numbers to wait for instead of interruptions."""

    NUMBERS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGCHLD)

    def __enter__(self) -> Signals:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old = {number: signal.signal(number, lambda *_: None) for number in self.NUMBERS}
        self._old_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def wait(self, seconds: float) -> list[int]:
        """The signals that came, at the latest after `seconds`."""
        ready, _, _ = select.select([self._read], [], [], max(0.0, seconds))
        return list(os.read(self._read, 4096)) if ready else []

    def forget(self) -> None:
        """In a fork: signals do what they do by default."""
        signal.set_wakeup_fd(-1)
        os.close(self._read)
        os.close(self._write)
        for number in self.NUMBERS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM's warning goes to every process of the job


def own_job() -> str:
    """The id by which scontrol knows the job of this process."""
    job = array_task()
    assert job is not None, "every job of ours is a task of an array"
    return job


def own_facts() -> dict[str, str]:
    """What the controller says of the job of this process now; {} if it does not answer."""
    return next(iter(facts_of(own_job())), {})


def requeue() -> None:
    """Have SLURM run this job again, and wait for it to end this process.

    A preempted job whose processes end at the first signal counts as failed and is not run again by SLURM itself.
    """
    try:
        call("scontrol", "requeue", own_job(), patience_s=REQUEUE_BEFORE_S - 5)
    except SlurmError as error:
        print(error, flush=True)  # it is being requeued already, or may not be
    time.sleep(REQUEUE_WAIT_S)


def own_ending() -> Ending | None:
    """Why SLURM is ending the job of this process, if it says so."""
    facts = own_facts()
    told = ("JobState", "Reason", "PreemptTime", "Restarts", "StartTime", "EndTime", "TimeLimit")
    print("SLURM:", ", ".join(f"{key}={facts.get(key)}" for key in told), flush=True)
    return ending_of(facts, restarts=int(os.environ.get("SLURM_RESTART_COUNT") or 0))


def explained() -> Ending | None:
    """Why SLURM is ending the job of this process, asked for a few seconds; None if it never says."""
    deadline = time.monotonic() + EXPLAIN_S
    while (ending := own_ending()) is None and time.monotonic() < deadline:
        time.sleep(0.5)
    return ending


def believe_restart(directory: Path) -> None:
    """Correct what an earlier run of this job took for a cancellation: a cancelled job is not run again."""
    said = read_json(directory / "exit.json") or {}
    taken = said.get("cause") == UNEXPLAINED.cause and not said.get("again") and said.get("job") == own_job()
    if not taken or not int(os.environ.get("SLURM_RESTART_COUNT") or 0):
        return
    if not ArmView(directory).status:  # it waited in the job for its turn
        (directory / "exit.json").unlink(missing_ok=True)
    else:
        write_exit(directory, REQUEUED.cause, REQUEUED.error, code=said.get("code"), again=True, job=own_job())


def timeouts(directory: Path) -> int:
    """How many earlier attempts of this job came to its time limit."""
    files = [directory / "exit.json", *(directory / "attempts").glob("*/exit.json")]
    ends = [read_json(path) or {} for path in files]
    return sum(end.get("cause") == "timeout" and end.get("job") == own_job() for end in ends)


def oom_kills() -> int:
    """How many processes the kernel killed for memory: in this job's cgroup if there is one, else on this machine."""
    own = cgroup_oom_kills()
    return kernel_oom_kills() if own is None else own


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the arm's process and all it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
