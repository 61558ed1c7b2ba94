"""What a person sees in the terminal: the arms as they run, and the ranking at the end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..record import ArmView
from ..results import ExperimentResult
from .screen import Screen

if TYPE_CHECKING:
    from .session import Session

ENDED = ("completed", "failed")


class Watch:
    """Tells of arms that start and end: a line each, or on a terminal a table that shows how far they have come.

    Args:
        directories: the arms of the sweep.
        metric: the success metric, shown when an arm completed.
        out: where to write; None: stderr.
        view: how an arm is looked at.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        metric: str | None,
        out: IO[str] | None = None,
        view: Callable[[Path], ArmView] = ArmView,
    ) -> None:
        self._directories = list(directories)
        self._metric = metric
        self._out = out or sys.stderr
        self._view_of = view
        self._screen = Screen(self._directories, self._out) if self._out.isatty() else None
        self._told: dict[Path, str] = {}
        views = (ArmView(directory) for directory in self._directories)
        self._before = {arm.directory: (arm.status, arm.exit) for arm in views if arm.state == "failed"}
        """How an earlier attempt ended, of arms that are about to run again."""

    def look(self) -> None:
        """Compare the arms' states with what was told; never raises (a terminal may be gone)."""
        with contextlib.suppress(OSError, ValueError):
            for directory in self._directories:
                if self._told.get(directory) not in ENDED:
                    arm = self._view(directory)
                    if self._before.get(directory) != (arm.status, arm.exit):
                        self._look_at(arm)
            if self._screen is not None:
                self._screen.draw(self._counts())
                if all(self._told.get(directory) in ENDED for directory in self._directories):
                    self.close()

    def close(self) -> None:
        """Leave the terminal as it was found."""
        screen, self._screen = self._screen, None
        if screen is not None:
            screen.close()

    def _look_at(self, arm: ArmView) -> None:
        before = self._told.get(arm.directory)
        self._tell(arm)
        if self._screen is not None:
            ended = self._told.get(arm.directory) in ENDED and before not in ENDED
            self._screen.update(arm, self._result(arm) if ended else arm.queue or "")

    def _view(self, directory: Path) -> ArmView:
        return self._view_of(directory)

    def _counts(self) -> str:
        """How many arms are in which state; "" as the table counts them."""
        return ""

    def _tell(self, arm: ArmView) -> None:
        state = arm.state
        if state == "pending" or self._told.get(arm.directory) == state:
            return
        self._told[arm.directory] = state
        if self._screen is None:
            done = sum(told in ENDED for told in self._told.values())
            self._out.write(f"[{done}/{len(self._directories)}] {arm.name}  {self._words(arm, state)}\n")
            self._out.flush()
        elif state == "failed":
            self._screen.line(f"{arm.name}  {self._words(arm, state)}")

    def _words(self, arm: ArmView, state: str) -> str:
        result = self._result(arm)
        if state == "failed":
            return f"failed: {result}"
        if state != "completed":
            return state
        return f"completed{f'  {result}' if result else ''}  ({arm.seconds or 0:.1f} s)"

    def _result(self, arm: ArmView) -> str:
        """Why it failed, or its score; "" while there is neither."""
        if arm.state == "failed":
            return f"{arm.cause}: {(arm.error or '').splitlines()[0][:160]}"
        if arm.state != "completed" or not self._metric:
            return ""
        from .collect import read_arm

        score = read_arm(arm).score(self._metric)
        return f"{self._metric}={score:.4f}" if score is not None else ""


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
    level = f"{100 * (1 - float(verdict.get('alpha') or 0.05)):.4g}% interval"
    for column in ("group", "seeds", "estimate", level, ""):
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
            is_stage = any(stage.group_name == group for stage in result.stages)
            mark = "stage" if is_stage else "baseline" if group == verdict.get("baseline") else "reference"
        seeds = sum(1 for row in result.arms if row.group_name == group and row.status == "completed")
        estimate = arm.get("estimate")
        table.add_row(group, str(seeds or 1), f"{estimate:.4f}" if estimate is not None else "-", interval, mark)
    return table


def _shown(directory: Path) -> str:
    try:
        return str(directory.relative_to(Path.cwd()))
    except ValueError:
        return str(directory)
