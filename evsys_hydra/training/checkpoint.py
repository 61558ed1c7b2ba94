"""Checkpoints that are complete or absent, whatever kills the process.

A checkpoint is written into a hidden directory, every file is on the disk before its manifest (names, sizes, sha256)
is, and then the directory gets its name. `newest_complete` believes only what its manifest confirms.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..record.files import read_json, write_json
from .errors import CheckpointError

MANIFEST = "manifest.json"
STEP_PREFIX = "step-"
_TEMPORARY_PREFIX = ".writing-"


def step_name(step: int) -> str:
    """Directory name of a step's checkpoint."""
    return f"{STEP_PREFIX}{step:08d}"


def write_checkpoint(path: Path, fill: Callable[[Path], None], facts: dict[str, Any] | None = None) -> Path:
    """Make the checkpoint `path`: all of it or nothing.

    Args:
        path: the directory it will be; a complete one with these facts that is there already is left as it is.
        fill: writes the files into the directory it is given.
        facts: kept in the manifest.

    Raises:
        OSError: the disk refused; nothing of the checkpoint is left.
    """
    if problem_of(path) is None and facts_of(path) == (facts or {}):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{_TEMPORARY_PREFIX}{path.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        fill(temporary)
        files = {str(file.relative_to(temporary)): _sealed(file) for file in _files(temporary)}
        write_json(temporary / MANIFEST, {"files": files, "facts": facts or {}})
        _sync_directory(temporary)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return path


def problem_of(path: Path) -> str | None:
    """Why a checkpoint is not complete and intact; None: it is."""
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        return f"{path} has no {MANIFEST}"
    for name, expected in manifest["files"].items():
        file = path / name
        if not file.is_file():
            return f"{file} is missing"
        if file.stat().st_size != expected["size"] or _sha256(file) != expected["sha256"]:
            return f"{file} is not the file that was written"
    return None


def facts_of(path: Path) -> dict[str, Any]:
    """The facts in a checkpoint's manifest.

    Raises:
        CheckpointError: the checkpoint is not complete.
    """
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict):
        raise CheckpointError(f"{path} has no {MANIFEST}")
    facts: dict[str, Any] = manifest["facts"]
    return facts


def step_checkpoints(directory: Path) -> list[Path]:
    """The step checkpoints of a directory, oldest first, complete or not."""
    return sorted(path for path in directory.glob(f"{STEP_PREFIX}*") if path.is_dir())


def newest_complete(directory: Path, **facts: Any) -> Path | None:
    """The newest step checkpoint that is complete, intact and has these facts; None: there is none."""
    for path in reversed(step_checkpoints(directory)):
        if problem_of(path) is None and facts.items() <= facts_of(path).items():
            return path
    return None


def keep_newest(directory: Path, keep: int) -> None:
    """Remove all but the newest step checkpoints."""
    for path in step_checkpoints(directory)[: -keep or None]:
        shutil.rmtree(path, ignore_errors=True)


def remove_unfinished(directory: Path) -> None:
    """Remove what killed processes left half written."""
    for path in directory.glob(f"{_TEMPORARY_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _sealed(file: Path) -> dict[str, Any]:
    """Wait until a file is on the disk; its size and hash."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    return {"size": file.stat().st_size, "sha256": _sha256(file)}


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        digest = hashlib.sha256()
        while block := opened.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
