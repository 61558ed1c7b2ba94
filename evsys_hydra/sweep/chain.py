"""Chains of stages as launchers see them: arms' directories that are run in order in one place.

A stage that does not complete stops the rest of its chain, and no other. Completed stages are not run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..record import ArmView
from .process import supervise, write_exit


def chains(directories: Sequence[Path]) -> list[list[Path]]:
    """Arms' directories as the units that can run side by side: each a list to be run in order."""
    found: dict[str, list[Path]] = {}
    for directory in directories:
        stage = ArmView(directory).facts.get("stage") or {}
        after = stage.get("after")
        if after in found:
            found[directory.name] = found.pop(after)
        found.setdefault(directory.name, []).append(directory)
    return list(found.values())


def chain_of(directory: Path) -> list[Path]:
    """An arm's directory after those of the stages before it."""
    after = (ArmView(directory).facts.get("stage") or {}).get("after")
    return [directory] if after is None else [*chain_of(directory.parent / after), directory]


def supervise_chain(directories: Sequence[Path]) -> int:
    """Run the stages of a chain in children of this process, one after another; returns the last one's exit code."""
    code = 0
    for place, directory in enumerate(directories):
        if not start_next(list(directories[place:])):
            return 1
        code = supervise(directory)
    return code


def blocked(directory: Path) -> str | None:
    """Why a stage cannot start: the one before has not completed. None: it can."""
    after = (ArmView(directory).facts.get("stage") or {}).get("after")
    if after is None:
        return None
    before = ArmView(directory.parent / after)
    if before.state == "completed":
        return None
    why = f"{before.state}: {before.cause}: {(before.error or '').splitlines()[0]}" if before.error else before.state
    return f"NeverStarted: stage {after}, from which it starts, has not completed ({why})"


def start_next(rest: list[Path]) -> bool:
    """Whether a chain goes on; if it cannot, every stage that is left says so in its record."""
    reason = blocked(rest[0]) if rest else None
    if reason is not None:
        for directory in rest:
            write_exit(directory, "never_started", reason)
    return bool(rest) and reason is None
