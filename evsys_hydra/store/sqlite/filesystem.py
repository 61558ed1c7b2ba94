"""Whether a path lies on a network file system, where SQLite's WAL must not be used.

WAL needs memory shared between the processes, which works on one machine only. Linux names the type of each mounted
file system in /proc/self/mountinfo; a path belongs to the mount with its device number.
"""

from __future__ import annotations

import os
from pathlib import Path

NETWORK = frozenset(
    {
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "panfs",
        "pvfs2",
        "smb3",
        "smbfs",
        "virtiofs",
        "wekafs",
        "9p",
    }
)


def is_network(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether `path` (or the nearest folder above that exists) is on a network file system.

    False where the system does not say.
    """
    kind = filesystem_type(path, mountinfo)
    return kind in NETWORK or kind.startswith("fuse.")


def filesystem_type(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Type of the file system of `path`, as mount(8) names it; "" if unknown."""
    there = path.resolve()
    while not there.exists() and there != there.parent:
        there = there.parent
    device = os.stat(there).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mountinfo.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split()
        if len(fields) > 4 and fields[2] == wanted and " - " in line:
            return line.split(" - ", 1)[1].split()[0]
    return ""
