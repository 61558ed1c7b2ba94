"""What a person sees in the terminal: the arms as they run, and the ranking at the end."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..record import ArmView
from ..results import ExperimentResult

if TYPE_CHECKING:
    from .session import Session


class Watch:
    """Tells of arms that start and end, a line each, and how far the running ones have come.

    Args:
        directories: the arms of the sweep.
        metric: the success metric, shown when an arm completed.
        out: where to write; a terminal also gets a line of progress that is written over.
    """

    def __init__(self, directories: Sequence[Path], metric: str | None, out: IO[str] | None = None) -> None:
        self._directories = list(directories)
        self._metric = metric
        self._out = out or sys.stderr
        self._terminal = self._out.isatty()
        self._told: dict[Path, str] = {}
        self._started = time.monotonic()
        self._shown_progress = False

    def look(self) -> None:
        """Compare the arms' states with what was told; never raises (a terminal may be gone)."""
        with contextlib.suppress(OSError, ValueError):
            for directory in self._directories:
                if self._told.get(directory) not in ("completed", "failed"):
                    self._tell(self._view(directory))
            if self._terminal:
                self._progress()

    def _view(self, directory: Path) -> ArmView:
        return ArmView(directory)

    def _counts(self) -> str:
        """How many arms are in which state; shown before the progress of the running ones."""
        return ""

    def _tell(self, arm: ArmView) -> None:
        state = arm.state
        if state == "pending" or self._told.get(arm.directory) == state:
            return
        self._told[arm.directory] = state
        done = sum(told in ("completed", "failed") for told in self._told.values())
        self._line(f"[{done}/{len(self._directories)}] {arm.name}  {self._words(arm, state)}")

    def _words(self, arm: ArmView, state: str) -> str:
        if state == "failed":
            return f"failed: {arm.cause}: {(arm.error or '').splitlines()[0][:160]}"
        if state != "completed":
            return state
        from .collect import read_arm

        score = read_arm(arm).score(self._metric) if self._metric else None
        shown = f"  {self._metric}={score:.4f}" if score is not None else ""
        return f"completed{shown}  ({arm.seconds or 0:.1f} s)"

    def _progress(self) -> None:
        counts = self._counts()
        parts = [counts] if counts else []
        for directory in self._directories:
            if self._told.get(directory) == "running":
                progress = ArmView(directory).progress
                if progress is not None:
                    parts.append(f"{directory.name}: {progress}")
        if not parts and not self._told:
            parts = ["starting: importing what the arms need"]
        text = f"{time.monotonic() - self._started:.0f} s  " + "  |  ".join(parts)
        self._out.write(f"\r\x1b[K{text[:150]}" if parts else "\r\x1b[K")
        self._out.flush()
        self._shown_progress = bool(parts)

    def _line(self, text: str) -> None:
        self._out.write(("\r\x1b[K" if self._shown_progress else "") + text + "\n")
        self._out.flush()
        self._shown_progress = False


def announce(session: Session) -> None:
    """Before anything is spent: what will run, where, and what it could tell."""
    from .power import expected_power

    arms = [arm for group in session.requested for arm in group]
    groups = len({arm.group for arm in arms})
    power = expected_power(arms, session.directory.parent)
    with contextlib.suppress(OSError):
        beside = f" beside {len(session.baselines)} untrained" if session.baselines else ""
        print(f"{len(arms)} arm(s) in {groups} group(s){beside}: {_shown(session.directory)}", file=sys.stderr)
        if power is not None:
            print(power["text"], file=sys.stderr)


def show_result(result: ExperimentResult, directory: Path) -> None:
    """Print the ranking, the conclusion and where everything is."""
    with contextlib.suppress(OSError):
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        if result.ranking.get("ranking"):
            console.print(_table(result))
        console.print(result.conclusion, markup=False)
        console.print(f"\n{_shown(directory)}", markup=False)


def _table(result: ExperimentResult) -> object:
    from rich.table import Table

    verdict = result.ranking
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    for column in ("group", "seeds", "estimate", "95% interval", ""):
        table.add_column(column, justify="left" if column in ("group", "") else "right")
    best = set(verdict.get("best_set") or [])
    groups = [*verdict["ranking"], *(verdict.get("references") or {})]
    for group in groups:
        arm = verdict["arms"].get(group) or verdict["references"][group]
        low, high = arm.get("ci") or (None, None)
        interval = f"{low:.3f} to {high:.3f}" if low is not None else "-"
        known = verdict.get("verdict") in ("winner", "tie_at_top", "inconclusive")
        mark = "winner" if verdict.get("winner") == group else "best set" if known and group in best else ""
        if group not in verdict["ranking"]:
            mark = "baseline" if group == verdict.get("baseline") else "reference"
        seeds = sum(1 for row in result.arms if row.group_name == group and row.status == "completed")
        estimate = arm.get("estimate")
        table.add_row(group, str(seeds or 1), f"{estimate:.4f}" if estimate is not None else "-", interval, mark)
    return table


def _shown(directory: Path) -> str:
    try:
        return str(directory.relative_to(Path.cwd()))
    except ValueError:
        return str(directory)
