"""Runs a program that nobody trusts: without network, keys or files of yours, within limits, and gone when it is over.

bubblewrap makes the rooms (its own network, processes, users, IPC and file tree), a seccomp filter takes away what
would go round them (sandbox_syscalls.py), and process 1 of the sandbox watches over the limits (sandbox_init.py). The
only way out is what the program prints and whether it succeeds; nothing that it wrote is ever read from a disk.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import ConfigError, EvaluationError
from . import sandbox_init as init
from .sandbox_syscalls import MACHINES, filter_for

GRACE_S = 3.0
DYNAMIC_UIDS = range(61184, 65520)
"""Users that systemd keeps for processes that come and go."""
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/alternatives", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
HOW = (
    "It needs Linux, bubblewrap 0.7 or newer (Debian and Ubuntu: apt-get install bubblewrap), Linux 5.14 or newer "
    "where it runs as a normal user, and user namespaces that a normal user may make"
)


class Limits(NamedTuple):
    """What a program may use; see SandboxLimits in config.py."""

    seconds: int = 5
    memory_mb: int = 1024
    processes: int = 32
    disk_mb: int = 64
    output_kb: int = 64


class Ran(NamedTuple):
    """How a program ended.

    Args:
        passed: it ended by itself, with exit status 0.
        output: what it printed, on stdout and stderr.
        stopped: the limit it ran into; None: none.
    """

    passed: bool
    output: str
    stopped: str | None


_allowed: Limits | None = None


def allow(limits: Limits | None) -> None:
    """Let this (verifier) process run sandboxed programs; the kernel ends it first when memory runs out."""
    global _allowed
    _allowed = limits
    if limits is not None:
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")


def run(program: str, files: Mapping[str, str] | None = None, limits: Limits | None = None) -> Ran:
    """Run a Python program (which may exec another one) in a sandbox of its own.

    Args:
        files: name -> text; the program finds them in /tests, read-only. It may write in /tmp, where it starts.
        limits: None: those that this verifier process was allowed.

    Raises:
        ConfigError: no sandbox is allowed here.
        EvaluationError: the sandbox could not be made; nothing was run.
    """
    limits = limits or _allowed
    if limits is None:
        raise ConfigError("running code is not allowed here: set benchmark.sandbox=bubblewrap")
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(_in_memory(text.encode(errors="replace"))) for text in (files or {}).values()]
        seccomp = stack.enter_context(_in_memory(filter_for(os.uname().machine)))
        command = [*_rooms(), "--size", str(limits.disk_mb * init.MEGABYTE), "--perms", "1777", "--tmpfs", "/tmp"]
        command += _file_tree(tuple(sys.path))  # after /tmp: this environment may be in it
        for name, descriptor in zip(files or {}, held, strict=True):
            command += ["--perms", "0444", "--ro-bind-data", str(descriptor), f"/tests/{name}"]
        command += ["--remount-ro", "/proc", "--remount-ro", "/", "--chdir", "/tmp", "--seccomp", str(seccomp)]
        command += ["--", _python(), "-I", "-S", "-c", _init_source()]
        process = stack.enter_context(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(),
                cwd="/",
                pass_fds=(*held, seccomp),
                bufsize=0,
            )
        )
        output, stopped = _talk(process, _input(program, limits), limits)
    return _ran(process.returncode, output, stopped, limits)


@functools.cache
def problem(limits: Limits) -> str | None:
    """Why programs cannot be sandboxed on this machine; None: they can. Tried by a program that forks to its limit."""
    if sys.platform != "linux" or os.uname().machine not in MACHINES:
        return f"no sandbox on {sys.platform} {os.uname().machine}, only on Linux on {' and '.join(MACHINES)}"
    if shutil.which("bwrap") is None:
        return f"bwrap, of the package bubblewrap, is not installed on {os.uname().nodename}. {HOW}"
    try:
        tried = run(_FORKS.format(processes=limits.processes), limits=limits)
    except (EvaluationError, OSError) as error:
        return f"{error} (on {os.uname().nodename}). {HOW}"
    if tried.passed:
        return None
    said = tried.stopped or tried.output.strip() or "it printed nothing"
    return f"the sandbox does not hold its limit of processes on {os.uname().nodename}: {said}. {HOW}"


_FORKS = """
import os, time
for made in range({processes} + 1):
    try:
        child = os.fork()
    except BlockingIOError:
        break
    if not child:
        time.sleep(60)
        os._exit(0)
else:
    raise SystemExit("a program could fork without end")
if made < min(2, {processes} - 1):
    raise SystemExit(f"a program could fork {{made}} times only")
"""


def _input(program: str, limits: Limits) -> bytes:
    uid = DYNAMIC_UIDS[os.getpid() % len(DYNAMIC_UIDS)] if os.geteuid() == 0 else 0
    text = f"{':'.join(_packages())}\n{program}".encode(errors="replace")
    numbers = f"{len(text)} {limits.seconds} {limits.memory_mb} {limits.processes} {limits.disk_mb} {uid}"
    return numbers.ljust(48).encode() + text


def _talk(process: subprocess.Popen[bytes], given: bytes, limits: Limits) -> tuple[bytes, str | None]:
    """Feed the sandbox and listen to it until it is over, in time or not; what it said, and why it was stopped."""
    assert process.stdin is not None and process.stdout is not None
    most, output, stopped = limits.output_kb * 1024, b"", None
    deadline = time.monotonic() + limits.seconds + GRACE_S
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(given)
    while select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
        more = process.stdout.read(65536)
        if not more:
            break
        output += more
        if len(output) > most:
            stopped = f"it printed more than {limits.output_kb} kB"
            break
    else:
        stopped = f"it took longer than {limits.seconds} s"
    process.stdin.close()
    if stopped is not None:
        process.kill()
        while select.select([process.stdout], [], [], GRACE_S)[0] and process.stdout.read(65536):
            pass  # the end of the output is the end of its last process
    process.wait()
    return output[:most], stopped


def _ran(status: int, output: bytes, stopped: str | None, limits: Limits) -> Ran:
    begun = output.startswith(init.STARTED)
    text = output.removeprefix(init.STARTED).decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    reasons = {
        init.TIME: f"it took longer than {limits.seconds} s",
        init.MEMORY: f"it used more than {limits.memory_mb} MB of memory",
        init.FILES: f"it made more than {init.MAX_FILES} files",
    }
    stopped = stopped or reasons.get(status)
    if stopped is None and status not in (init.PASSED, init.FAILED):
        if begun:
            return Ran(False, text, "it broke its sandbox")
        raise EvaluationError(f"the sandbox could not be made: exit status {status}: {text.strip()[-500:]}")
    return Ran(status == init.PASSED and stopped is None, text, stopped)


def _rooms() -> list[str]:
    """bubblewrap's command line up to what differs from program to program."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise EvaluationError("the sandbox could not be made: bwrap is not installed")
    return [bwrap, *_namespaces(os.geteuid() == 0)]


@functools.cache
def _namespaces(root: bool) -> tuple[str, ...]:
    """A normal user's sandbox is in a user namespace; root's is not, but process 1 becomes a user of its own.

    The kernel does not hold root to a number of processes, not even under another name in a user namespace.
    """
    own = ("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
    user = ("--unshare-user", "--uid", "65534", "--gid", "65534")
    becoming = ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
    life = ("--hostname", "sandbox", "--as-pid-1", "--die-with-parent", "--new-session")
    return (*own, *(becoming if root else user), *life)


@functools.cache
def _file_tree(path: tuple[str, ...]) -> tuple[str, ...]:
    """The system's programs and this interpreter with its packages, read-only; nothing of a home, no /etc, no /sys."""
    python = [f"{prefix}/{part}" for prefix in (sys.base_prefix, sys.prefix) for part in ("bin", "lib", "lib64")]
    mounts: list[str] = []
    seen: list[Path] = []
    for name in (*SYSTEM, *python, f"{sys.prefix}/pyvenv.cfg", *_packages()):
        place = Path(name)
        if not place.exists() or any(place.is_relative_to(other) for other in seen):
            continue
        mounts += ["--symlink", os.readlink(place), name] if place.is_symlink() else ["--ro-bind", name, name]
        seen.append(place)
    # bubblewrap makes missing parents for itself alone, and process 1 may be another user
    parents = {str(parent) for place in seen for parent in place.parents} | {"/dev", "/tests"}
    folders = [word for parent in sorted(parents - {"/"} - set(map(str, seen))) for word in ("--dir", parent)]
    devices = [word for name in DEVICES for word in ("--dev-bind", name, name)]
    links = ("--symlink", "/tmp", "/dev/shm", "--symlink", "/proc/self/fd", "/dev/fd")
    return (*folders, *mounts, *devices, *links, "--proc", "/proc")


def _packages() -> Sequence[str]:
    return [folder for folder in sys.path if folder.endswith(("site-packages", "dist-packages"))]


@functools.cache
def _python() -> str:
    return os.path.realpath(sys.executable)


@functools.cache
def _init_source() -> str:
    return Path(init.__file__).read_text()


def _environment() -> dict[str, str]:
    """All of a program's environment."""
    folders = dict.fromkeys((f"{sys.prefix}/bin", os.path.dirname(_python()), "/usr/bin", "/bin"))
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {"PATH": ":".join(folders), "HOME": "/tmp", "LANG": "C.UTF-8", **one_thread}


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[int]:
    """A descriptor from which the data can be read, without a file on a disk."""
    descriptor = os.memfd_create("sandbox")
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
