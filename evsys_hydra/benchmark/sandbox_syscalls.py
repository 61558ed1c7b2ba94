"""The system calls that a sandboxed program may not make, as a seccomp filter in the kernel's own form.

Namespaces and limits hold most things; the filter takes away what would go round them: new namespaces (a fresh tmpfs
has no size limit), memory that no limit counts (memfd, System V), sockets that no network namespace holds (vsock),
other processes' memory, keyrings, and the kernel's rarely used doors.
"""

from __future__ import annotations

import errno
import struct

SAME_NUMBER = {
    "io_uring_setup": 425,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "memfd_secret": 447,
}  # fmt: skip
X86_64 = {
    "shmget": 29, "semget": 64, "msgget": 68, "ptrace": 101, "syslog": 103, "personality": 135, "pivot_root": 155,
    "chroot": 161, "acct": 163, "mount": 165, "umount2": 166, "swapon": 167, "init_module": 175, "delete_module": 176,
    "quotactl": 179, "mq_open": 240, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250,
    "unshare": 272, "vmsplice": 278, "perf_event_open": 298, "name_to_handle_at": 303, "open_by_handle_at": 304,
    "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313,
    "memfd_create": 319, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
}  # fmt: skip
AARCH64 = {
    "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "quotactl": 60, "vmsplice": 75, "acct": 89,
    "personality": 92, "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106, "syslog": 116,
    "ptrace": 117, "mq_open": 180, "msgget": 186, "semget": 190, "shmget": 194, "add_key": 217, "request_key": 218,
    "keyctl": 219, "swapon": 224, "perf_event_open": 241, "name_to_handle_at": 264, "open_by_handle_at": 265,
    "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "finit_module": 273,
    "memfd_create": 279, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
}  # fmt: skip
CLONE3 = 435
MACHINES = {"x86_64": (0xC000003E, X86_64, 56, 41), "aarch64": (0xC00000B7, AARCH64, 220, 198)}
"""Machine -> audit architecture, refused calls, number of clone, number of socket."""
FOREIGN_ABI = 0x40000000
NEW_NAMESPACES = 0x7E020000
SOCKET_FAMILIES = (1, 2, 10, 16)
"""unix, inet, inet6, netlink: those that the network namespace holds."""

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
KILL, REFUSE, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000


def filter_for(machine: str) -> bytes:
    """The filter as an array of `struct sock_filter`.

    Args:
        machine: as `os.uname().machine` names it.

    Raises:
        KeyError: a machine whose system calls are not known here.
    """
    architecture, refused, clone, socket = MACHINES[machine]
    code = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, FOREIGN_ABI),
        (RETURN, 0, 0, REFUSE | errno.ENOSYS),
        (EQUAL, 0, 1, CLONE3),  # its flags are in memory, where no filter can look; libc falls back to clone
        (RETURN, 0, 0, REFUSE | errno.ENOSYS),
        (EQUAL, 0, 4, clone),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (ANY_BIT, 0, 1, NEW_NAMESPACES),
        (RETURN, 0, 0, REFUSE | errno.EPERM),
        (RETURN, 0, 0, ALLOW),
        (EQUAL, 0, 3 + len(SOCKET_FAMILIES), socket),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        *((EQUAL, len(SOCKET_FAMILIES) - place, 0, family) for place, family in enumerate(SOCKET_FAMILIES)),
        (RETURN, 0, 0, REFUSE | errno.EAFNOSUPPORT),
        (RETURN, 0, 0, ALLOW),
    ]
    for number in sorted({*refused.values(), *SAME_NUMBER.values()}):
        code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE | errno.EPERM)]
    return b"".join(struct.pack("HBBI", *step) for step in (*code, (RETURN, 0, 0, ALLOW)))
