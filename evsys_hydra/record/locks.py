"""Locks that die with their process: one at a time runs an arm, drives an experiment, or concludes it."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from ..errors import RecordError

UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


def lock(path: Path, *, wait: bool = False) -> int:
    """Make a file, if it is not there, and lock it; returns its handle, whose closing gives the lock back.

    Raises:
        BlockingIOError: another process has it, and `wait` is False.
        RecordError: the file system has no locks.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        os.close(handle)
        if error.errno in UNSUPPORTED:
            raise RecordError(
                f"{path.parent} lies on a file system without locks ({error.strerror}); they keep two processes from "
                "running one arm. Choose another place with hydra.sweep.dir=..., or have it mounted with them "
                "(Lustre: the mount option flock)."
            ) from error
        raise
    return handle


def is_locked(path: Path) -> bool:
    """Whether a process of this machine has the lock; False where there is no file, or no lock to be had."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False
