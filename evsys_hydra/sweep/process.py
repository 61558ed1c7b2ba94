"""An arm's process from outside: becoming it, watching over it, and saying how it ended where it could not."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ..causes import cause_of_exit, kernel_oom_kills
from ..record import ArmView
from ..record.arm import Cause, array_task
from ..record.files import read_json, write_json


@dataclass
class Launched:
    """An arm's process as whoever started it sees it."""

    directory: Path
    pid: int
    started: float
    gpus: list[str]
    oom_kills: int
    ending: Cause | None = None
    kill_at: float | None = None


def supervise(directory: Path) -> int:
    """Run an arm in a child of this process and write down how it ended; returns its exit code.

    SIGTERM is passed on to the arm.
    """
    rotate_log(directory)
    oom_kills = kernel_oom_kills()
    pid = os.fork()
    if pid == 0:
        become_arm(directory, None)
    launched = Launched(directory, pid, time.monotonic(), [], oom_kills)

    def pass_on(number: int, frame: FrameType | None) -> None:
        launched.ending = "cancelled"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)

    old = signal.signal(signal.SIGTERM, pass_on)
    try:
        _, status = os.waitpid(pid, 0)
    finally:
        signal.signal(signal.SIGTERM, old)
    code = os.waitstatus_to_exitcode(status)
    finish(directory, code, launched)
    return code


def become_arm(directory: Path, gpu: str | None, body: Callable[[Path], int] | None = None) -> NoReturn:
    """In a fresh fork: run the arm of a directory with its output in arm.log, and end the process.

    Args:
        body: what runs instead of `run_arm`: a rank of a distributed arm.
    """
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        log = os.open(directory / "arm.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        if body is None:
            from ..arm import run_arm

            body = run_arm
        code = body(directory)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def rotate_log(directory: Path) -> None:
    """Put an earlier attempt's log beside what else that attempt left."""
    attempt = (read_json(directory / "status.json") or {}).get("attempt")
    log = directory / "arm.log"
    if attempt is not None and log.exists():
        kept = directory / "attempts" / str(attempt)
        kept.mkdir(parents=True, exist_ok=True)
        os.replace(log, kept / "arm.log")


def finish(directory: Path, code: int, launched: Launched) -> None:
    """Say how an arm's process ended, where the arm could not say it itself."""
    arm = ArmView(directory)
    if arm.status.get("state") in ("completed", "failed") and arm.status.get("pid") == launched.pid:
        return
    if arm.exit.get("cause") == "cancelled":  # who told it to end has said so
        return
    if launched.ending == "timeout":
        cause, error = "timeout", f"Timeout: the arm ran longer than its limit ({elapsed_text(launched)})"
    elif launched.ending == "cancelled":
        cause, error = "cancelled", "Cancelled: the sweep was interrupted while this arm ran"
    else:
        cause, error = cause_of_exit(code, oom_kills=kernel_oom_kills() - launched.oom_kills)
    write_exit(directory, cause, error, code=code)


def elapsed_text(launched: Launched) -> str:
    return f"{time.monotonic() - launched.started:.0f} s"


def write_exit(directory: Path, cause: str, error: str, *, code: int | None = None, **more: object) -> None:
    """exit.json: for the attempt that ran, or for the one that never will.

    Args:
        more: job: "<array>_<index>" of the cluster's job, where it is not the one this process runs in; again.
    """
    status = read_json(directory / "status.json") or {}
    attempt = int(status.get("attempt", 0))
    if code is None and status.get("state") in ("completed", "failed"):
        attempt += 1
    facts = {"attempt": max(attempt, 1), "cause": cause, "error": error, "code": code, "ended": time.time()}
    facts |= {"job": array_task(), **more}
    with contextlib.suppress(OSError):
        write_json(directory / "exit.json", facts)
