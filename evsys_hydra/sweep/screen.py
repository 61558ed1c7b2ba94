"""The arms of a running sweep as a table on a terminal, rewritten in place; of many arms those that matter most.

Reading is cheap: of an arm's events only what is new, and nothing of an arm that has ended.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..record import ArmView, State
from ..store.sync.lines import lines_from

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

AROUND = 4
"""Lines of the terminal that are not for arms: heading, summary, the prompt."""
WIDE = 100
"""Columns of a terminal from which on the speed is shown too."""
STYLES: dict[str, str] = {"pending": "dim", "running": "cyan", "completed": "green", "failed": "red"}
SHOWN_METRICS = ("loss", "reward")


@dataclass
class Row:
    """One arm as the table shows it.

    Args:
        directory: the arm's.
    """

    directory: Path
    state: State = "pending"
    words: str = ""
    """What became of an arm that has ended, or why it waits."""
    phase: str = ""
    done: int = 0
    total: int = 0
    tokens_per_s: float | None = None
    metric: tuple[str, float] | None = None
    """The last value of a curve."""
    changed: float = 0.0
    """When the state changed, on the monotonic clock."""
    started: float | None = None
    seconds: float | None = None
    _offset: int = 0
    _since: tuple[float, int] = (0.0, 0)
    """Time and count of the phase's first word."""
    _latest: float = 0.0

    def update(self, view: ArmView, words: str) -> None:
        """Take what the arm's files tell now."""
        if view.state != self.state:
            self.state, self.changed = view.state, time.monotonic()
        self.words = words
        self.started, self.seconds = view.status.get("started"), view.seconds
        if self.state == "running":
            self._read()

    @property
    def left_s(self) -> float | None:
        """Seconds until the present phase is over, at its pace so far."""
        moment, before = self._since
        if self.done <= before or self._latest <= moment:
            return None
        pace = (self.done - before) / (self._latest - moment)
        return max(0.0, (self.total - self.done) / pace - (time.time() - self._latest))

    def _read(self) -> None:
        for event, end in lines_from(self.directory / "events.jsonl", self._offset):
            self._offset = end
            if event.get("kind") == "progress":
                self._progress(event)
            elif event.get("kind") == "metrics" and event.get("split", "train") == "train":
                self._metrics(event.get("values") or {})
            elif event.get("kind") == "attempt":
                self.phase, self.done, self.total, self.tokens_per_s, self.metric = "", 0, 0, None, None

    def _progress(self, event: dict[str, Any]) -> None:
        phase, done, moment = str(event.get("phase")), int(event.get("done") or 0), float(event.get("t") or 0)
        if phase != self.phase or done < self.done:
            self.phase, self._since = phase, (moment, done)
        self.done, self.total, self._latest = done, int(event.get("total") or 0), moment
        if event.get("loss") is not None:
            self.metric = ("loss", float(event["loss"]))

    def _metrics(self, values: dict[str, Any]) -> None:
        self.tokens_per_s = values.get("tokens_per_s") or self.tokens_per_s
        name = next((name for name in SHOWN_METRICS if isinstance(values.get(name), int | float)), None)
        if name is not None:
            self.metric = (name, float(values[name]))


@dataclass
class Screen:
    """Draws rows on a terminal.

    Args:
        directories: the arms, in the order they were planned.
        out: the terminal.
    """

    directories: Sequence[Path]
    out: IO[str]
    rows: dict[Path, Row] = field(default_factory=dict)
    _live: Live | None = None
    _started: float = field(default_factory=time.monotonic)

    def update(self, view: ArmView, words: str) -> None:
        """Take what is known of an arm."""
        self.rows.setdefault(view.directory, Row(view.directory)).update(view, words)

    def draw(self, counts: str = "") -> None:
        """Show the rows as they are now.

        Args:
            counts: how many arms are in which state; "": counted here.
        """
        if self._live is None:
            self._live = self._begin()
        self._live.update(self._table(counts), refresh=True)

    def line(self, text: str) -> None:
        """Print a line that stays, above the table."""
        if self._live is None:
            self._live = self._begin()
        self._live.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Leave the table as it is now, and the cursor below it; never raises (a terminal may be gone)."""
        live, self._live = self._live, None
        if live is not None:
            atexit.unregister(self.close)
            with contextlib.suppress(Exception):
                live.stop()

    def _begin(self) -> Live:
        from rich.console import Console
        from rich.live import Live

        live = Live(
            console=Console(file=self.out, highlight=False),
            auto_refresh=False,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=self.out is sys.stderr,
            vertical_overflow="crop",
        )
        live.start()
        atexit.register(self.close)  # whoever forgets to close does not leave a terminal without cursor
        return live

    def _table(self, counts: str) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        assert self._live is not None
        width, height = self._live.console.size
        rows = [self.rows.get(directory) or Row(directory) for directory in self.directories]
        shown = window(rows, max(1, height - AROUND))
        table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
        wide = width >= WIDE
        widths = {"arm": max(12, width // 4), "": 9, "progress": 28 if wide else 22, "tok/s": 7, "left": 7}
        if not wide:
            del widths["tok/s"]
        for name, most in widths.items():
            right = name in ("tok/s", "left")
            least = None if name == "arm" else most
            table.add_column(
                name,
                no_wrap=True,
                overflow="ellipsis",
                justify="right" if right else "left",
                min_width=least,
                max_width=most,
            )
        rest = width - sum(widths.values()) - 2 * len(widths)
        table.add_column("", no_wrap=True, overflow="ellipsis", max_width=max(8, rest))
        for row in shown:
            progress, speed, left, last = _cells(row, wide)
            cells = [progress, speed, left, last] if wide else [progress, left, last]
            table.add_row(Text(row.directory.name), Text(row.state, STYLES[row.state]), *cells)
        elapsed = _time(time.monotonic() - self._started)
        hidden = f"  ({len(rows) - len(shown)} not shown)" if len(shown) < len(rows) else ""
        return Group(table, Text(f"{elapsed}  {counts or summary(rows)}{hidden}", "bold"))


def window(rows: Sequence[Row], size: int) -> list[Row]:
    """The rows that fit, in their order: the running ones, then by halves what failed, what is done, what comes."""
    if len(rows) <= size:
        return list(rows)
    by_state: dict[str, list[Row]] = {state: [] for state in STYLES}
    for row in rows:
        by_state[row.state].append(row)
    for state in ("failed", "completed"):
        by_state[state].sort(key=lambda row: -row.changed)
    chosen = by_state["running"][:size]
    for state in ("failed", "completed", "pending"):
        left = size - len(chosen)
        chosen += by_state[state][: left if state == "pending" else (left + 1) // 2]
    rest = [row for state in ("completed", "failed") for row in by_state[state] if row not in chosen]
    kept = {row.directory for row in [*chosen, *rest[: size - len(chosen)]]}
    return [row for row in rows if row.directory in kept]


def summary(rows: Sequence[Row]) -> str:
    """How many arms are in which state."""
    counts = Counter(row.state for row in rows)
    starting = " (starting: importing what the arms need)" if counts["pending"] == len(rows) else ""
    order: tuple[State, ...] = ("completed", "failed", "running", "pending")
    return f"{len(rows)} arms: " + ", ".join(f"{counts[state]} {state}" for state in order if counts[state]) + starting


def _cells(row: Row, wide: bool) -> list[Any]:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    if row.state != "running":
        seconds = _time(row.seconds) if row.seconds is not None and row.state != "pending" else ""
        return [Text(seconds), "", "", Text(row.words, "red" if row.state == "failed" else "")]
    spent = Text(_time(max(0.0, time.time() - row.started)) if row.started else "")
    metric = Text(f"{row.metric[0]} {row.metric[1]:.4g}" if row.metric else "")
    if not row.total:
        return [Text(row.phase or "starting"), "", spent, metric]
    progress = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=row.total, completed=row.done, width=10 if wide else 6)
    progress.add_row(bar, Text(f"{row.phase} {row.done}/{row.total}", no_wrap=True))
    speed = f"{row.tokens_per_s:,.0f}" if row.tokens_per_s and row.phase == "train" else ""
    left = _time(row.left_s) if row.left_s is not None else ""
    return [progress, Text(speed), Text(left), metric]


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
