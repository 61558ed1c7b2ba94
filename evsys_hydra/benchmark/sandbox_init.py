"""Process 1 of a sandbox: sets limits, runs one Python program in a child, ends the sandbox when it is time.

Run as a text by the bare interpreter (`python -I -S -c`), so it imports nothing but C modules that start at once.
The kernel ends every process of the sandbox with process 1, which the others cannot signal; its exit status says why
it ended. Its input is a line of numbers (see main), folders to import from, and the program; when the input closes,
whoever asked is gone.
"""

import _signal  # type: ignore[import-not-found]
import os
import resource
import select
import sys
import time

PASSED, FAILED, TIME, MEMORY, FILES, ALONE = range(64, 70)
STARTED = b"\0"
"""Said before the program: whatever ends the sandbox after it is the program's doing."""
LOOK_EVERY_S = 0.02
MAX_FILES = 20_000
MEGABYTE = 1 << 20


def main() -> str:
    """In process 1: never returns. In its child: the program."""
    size, seconds, memory, processes, disk, uid = (int(number) for number in read(48).split())
    path, _, program = read(size).decode().partition("\n")
    bound(seconds, memory * MEGABYTE, processes, disk * MEGABYTE)
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    _signal.signal(_signal.SIGCHLD, lambda *_: None)
    _signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    os.write(1, STARTED)
    child = os.fork()
    if child:
        watch(child, woken, time.monotonic() + seconds, memory * MEGABYTE)
    _signal.set_wakeup_fd(-1)
    for number in (_signal.SIGINT, _signal.SIGCHLD, _signal.SIGPIPE):
        _signal.signal(number, _signal.SIG_DFL)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.closerange(3, 64)
    sys.path += path.split(":")
    return program


def read(size: int) -> bytes:
    """Exactly this many bytes of the input."""
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            os._exit(ALONE)
        data += more
    return data


def bound(seconds: int, memory: int, processes: int, disk: int) -> None:
    """Limits that this process and all its children are born with."""
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds + 1),
        (resource.RLIMIT_FSIZE, disk),
        (resource.RLIMIT_NPROC, processes + 1),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def watch(child: int, woken: int, deadline: float, memory: int) -> None:
    """Reap, look at time, memory and files; leave when the child ends, and take everything along."""
    while True:
        ready = select.select([0, woken], [], [], LOOK_EVERY_S)[0]
        if 0 in ready:
            os._exit(ALONE)
        if woken in ready:
            os.read(woken, 512)
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                os._exit(FAILED if ended[1] else PASSED)
        if time.monotonic() > deadline:
            os._exit(TIME)
        if resident() > memory:
            os._exit(MEMORY)
        disk = os.statvfs("/tmp")
        if disk.f_files - disk.f_ffree > MAX_FILES:
            os._exit(FILES)


def resident() -> int:
    """Bytes of memory of all processes here; a page that several share counts for each."""
    pages = 0
    for name in os.listdir("/proc"):
        if name.isdigit() and name != "1":
            try:
                with open(f"/proc/{name}/statm", "rb") as file:
                    pages += int(file.read().split()[1])
            except (OSError, IndexError):  # it has just ended
                continue
    return pages * resource.getpagesize()


if __name__ == "__main__":
    exec(compile(main(), "<program>", "exec"), {"__name__": "__main__"})
