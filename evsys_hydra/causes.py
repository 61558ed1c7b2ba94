"""Why an arm failed, as one word: from its exception, or from how its process ended."""

from __future__ import annotations

import errno
import signal
from pathlib import Path

from .record.arm import Cause

OUT_OF_MEMORY_TEXTS = ("out of memory", "can't allocate memory", "cannot allocate memory")


def describe(error: BaseException) -> str:
    """ "<Type>: <text>", as the dashboard shows it; never raises."""
    try:
        text = str(error)
    except Exception:
        text = "(its text cannot be shown)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def cause_of(error: BaseException) -> Cause:
    """The cause behind an exception that ended an arm; one that knows it has it as `arm_cause`."""
    known: Cause | None = getattr(error, "arm_cause", None)
    if known is not None:
        return known
    if isinstance(error, KeyboardInterrupt):
        return "cancelled"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return "out_of_memory"
    if "OutOfMemory" in type(error).__name__:
        return "out_of_memory"
    if isinstance(error, RuntimeError) and any(text in describe(error).lower() for text in OUT_OF_MEMORY_TEXTS):
        return "out_of_memory"
    return "user_error"


def cause_of_exit(code: int, *, oom_kills: int = 0) -> tuple[Cause, str]:
    """The cause behind a process that ended without a word in its record.

    Args:
        code: exit code; negative: the signal that ended it.
        oom_kills: how often the kernel killed a process for memory while this one ran.

    Returns:
        The cause and a sentence about it.
    """
    if code >= 0:
        return "user_error", f"ExitedEarly: the process ended with exit code {code} before its record was complete"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    if -code == signal.SIGKILL and oom_kills > 0:
        return "out_of_memory", "OutOfMemory: the kernel killed the process for its memory (SIGKILL)"
    return "killed", f"Killed: the process was ended by {name}"


def kernel_oom_kills() -> int:
    """How many processes the kernel has killed for memory since this machine started; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
