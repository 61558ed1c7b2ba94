"""Whether the kernel killed for memory in this job: from its cgroup, because others use the machine as well."""

from __future__ import annotations

from pathlib import Path

V1 = "memory.oom_control"
V2 = "memory.events"


def cgroup_oom_kills(process: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """How many processes of this process's cgroup the kernel killed for memory; None where no cgroup tells.

    A cgroup of version 2 counts what happens below it, one of version 1 does not: SLURM's step is the one asked.
    """
    try:
        lines = process.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if path == "/":
            continue
        if controllers == "":
            count = _count(root / path.lstrip("/") / V2)
        elif "memory" in controllers.split(","):
            count = _count(root / "memory" / path.lstrip("/") / V1)
        else:
            continue
        if count is not None:
            return count
    return None


def _count(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
