"""Where an experiment came from: the code, the packages, the machine, the command."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = (
    "evsys_hydra",
    "hydra-core",
    "omegaconf",
    "pydantic",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "numpy",
    "scipy",
    "submitit",
)
MAX_DIFF_BYTES = 20_000_000


def command_line() -> str:
    """The command of this process, as it would be typed."""
    arguments = getattr(sys, "orig_argv", sys.argv)
    return shlex.join([Path(arguments[0]).name, *arguments[1:]])


@cache
def versions() -> dict[str, str]:
    """Installed versions of the packages that decide the numbers, read without importing them."""
    found = {"python": platform.python_version()}
    named = _named_versions()
    for package in PACKAGES:
        version = named.get(_normal(package)) or _declared_version(package)
        if version is not None:
            found[package] = version
    return found


def _named_versions() -> dict[str, str]:
    """Package -> version as the names of the .dist-info folders say: that takes a tenth of reading the metadata."""
    found: dict[str, str] = {}
    for folder in sys.path:
        for path in Path(folder).glob("*-*.dist-info"):
            package, version = path.name.removesuffix(".dist-info").rsplit("-", 1)
            found.setdefault(_normal(package), version)
    return found


def _declared_version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


@cache
def hardware() -> dict[str, Any]:
    """The machine this process runs on; GPUs by name if the driver lists them."""
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for path in gpus for line in path.read_text().splitlines()]
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model")]
    return {
        "node": platform.node(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": names,
    }


def git(diff_path: Path | None = None) -> dict[str, Any] | None:
    """Commit of the working directory's repository, and whether files differ from it.

    Args:
        diff_path: the difference to the commit is written here if there is one.

    Returns:
        {"commit", "dirty", "diff_sha256"}; None outside a repository or without git.
    """
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _git("diff", "HEAD", "--no-color", "--no-ext-diff") or b""
    untracked = _git("ls-files", "--others", "--exclude-standard") or b""
    facts: dict[str, Any] = {"commit": commit.decode().strip(), "dirty": bool(diff or untracked)}
    if diff:
        facts["diff_sha256"] = hashlib.sha256(diff).hexdigest()
        if diff_path is not None and len(diff) <= MAX_DIFF_BYTES:
            diff_path.write_bytes(diff)
    return facts


def _git(*arguments: str) -> bytes | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
