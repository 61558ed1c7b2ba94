"""The ranking as a forest plot: estimate and interval a group, the best set marked, the baseline as a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .phrases import count, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, object]
BLUE, GREY, INK, AMBER, TINT, RULE = "#0b5cad", "#8a8f98", "#1c1f24", "#b4541a", "#eaf2fb", "#d9dce1"
NAME_LENGTH = 40
ROW_INCHES = 0.3
# Above this many groups only the first are drawn; the others are in ranking.csv.
SHOWN_GROUPS = 60


@dataclass(frozen=True)
class Entry:
    """One line of the picture. role: best (may still be the best), behind, or reference."""

    label: str
    estimate: float
    ends: tuple[float, float] | None
    role: str


def forest_plot(verdict: Row, path_png: str | Path, path_svg: str | Path | None = None) -> None:
    """Draw a verdict (as `rank` returned it) to PNG (200 dpi) and, if asked, SVG.

    Groups from best to worst: filled circles for those that may still be the best, on a tint; grey for those behind;
    hollow diamonds for references; the baseline as a dashed line. A verdict without ranked groups gives a picture that
    says so. The same verdict gives the same bytes.

    Raises:
        OSError: when a file cannot be written.
    """
    # Imported here because ranking needs numpy and scipy only; the object API leaves pyplot's global state alone.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    entries = _entries(verdict)
    with rc_context({"svg.hashsalt": "evsys_hydra", "font.family": "DejaVu Sans", "svg.fonttype": "path"}):
        height = 1.9 + ROW_INCHES * max(len(entries), 2)
        figure = Figure(
            figsize=(8.0, height),
            facecolor="white",
        )
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
        FigureCanvasAgg(figure)
        _draw(figure.add_subplot(), verdict, entries)
        figure.savefig(path_png, dpi=200)
        if path_svg is not None:
            figure.savefig(path_svg, metadata={"Date": None})


def _entries(verdict: Row) -> list[Entry]:
    """The lines from top to bottom."""
    arms, references = (cast("dict[str, Row]", verdict[field]) for field in ("arms", "references"))
    best_set = cast("list[str]", verdict["best_set"])
    ranking = cast("list[str]", verdict["ranking"])[:SHOWN_GROUPS]
    # Where nothing is inferred no group is marked.
    marked = best_set if verdict["verdict"] not in ("no_inference", "single_arm") else []
    ranked = [_entry(group, arms[group], "best" if group in marked else "behind") for group in ranking]
    return ranked + [_entry(group, row, "reference") for group, row in references.items()]


def _entry(group: str, row: Row, role: str) -> Entry:
    seeds = cast(int, row["n_seeds"])
    ends = cast("list[float] | None", row["ci"])
    label = _short(group) if seeds == 1 else f"{_short(group)}  ({seeds} seeds)"
    return Entry(label, cast(float, row["estimate"]), (ends[0], ends[1]) if ends else None, role)


def _short(group: str) -> str:
    return group if len(group) <= NAME_LENGTH else f"{group[: NAME_LENGTH - 16]}...{group[-13:]}"


def _draw(axes: Axes, verdict: Row, entries: list[Entry]) -> None:
    if not entries:
        axes.set_axis_off()
        axes.text(0.5, 0.5, f"Nothing to rank: {verdict['reason']}.", ha="center", color=INK)
        return
    for y, entry in enumerate(entries):
        _draw_entry(axes, y, entry)
    _draw_baseline(axes, verdict)
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_yticks(range(len(entries)), [entry.label for entry in entries], fontsize=9, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", colors=INK, labelsize=9)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    better = "lower" if verdict["direction"] == "minimize" else "higher"
    axes.set_xlabel(f"{verdict['metric']} ({better} is better)", fontsize=9, color=INK)
    axes.set_title(_title(verdict), loc="left", fontsize=11, fontweight="bold", color=INK, pad=22)
    axes.annotate(
        _subtitle(verdict), (0, 1), (0, 7), xycoords="axes fraction", textcoords="offset points", fontsize=8, color=GREY
    )
    _number_column(axes, entries)


def _draw_entry(axes: Axes, y: int, entry: Entry) -> None:
    color = {"best": BLUE, "behind": GREY, "reference": AMBER}[entry.role]
    if entry.role == "best":
        axes.axhspan(y - 0.5, y + 0.5, color=TINT, linewidth=0, zorder=0)
    if entry.ends is not None:
        axes.plot(entry.ends, (y, y), color=color, linewidth=1.8, solid_capstyle="butt", zorder=2)
    marker, face = ("D", "white") if entry.role == "reference" else ("o", color)
    size = 5.5 if entry.role == "reference" else 6.5
    axes.plot(entry.estimate, y, marker, color=color, markerfacecolor=face, markersize=size, zorder=3)


def _draw_baseline(axes: Axes, verdict: Row) -> None:
    baseline = verdict["baseline"]
    for field in ("arms", "references"):
        row = cast("dict[str, Row]", verdict[field]).get(str(baseline))
        if row is not None:
            axes.axvline(cast(float, row["estimate"]), color=AMBER, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)


def _number_column(axes: Axes, entries: list[Entry]) -> None:
    """The estimates and intervals as text at the right edge."""
    for y, entry in enumerate(entries):
        text = number(entry.estimate)
        if entry.ends is not None:
            text += f"  [{number(entry.ends[0])}, {number(entry.ends[1])}]"
        axes.text(1.02, y, text, transform=axes.get_yaxis_transform(), fontsize=8, color=INK, va="center")


def _title(verdict: Row) -> str:
    kind, best_set = verdict["verdict"], cast("list[str]", verdict["best_set"])
    if kind == "winner":
        return f"{_short(best_set[0])} is best"
    if kind == "tie_at_top":
        return f"{len(best_set)} of {len(cast('list[str]', verdict['ranking']))} groups tied at the top"
    if kind == "inconclusive":
        return f"{count(len(best_set), 'group')}, none can be told apart from the highest"
    return "One group, nothing to compare" if kind == "single_arm" else "Order only: no inference is possible"


def _subtitle(verdict: Row) -> str:
    parts = [f"{100 * (1 - cast(float, verdict['alpha'])):.4g}% intervals of each group alone"]
    if verdict["kind"] == "per_task":
        parts.append(count(cast(int, verdict["n_common_tasks"]), "task"))
    if verdict["clustered"]:
        parts.append(count(cast(int, verdict["n_units"]), "cluster"))
    if verdict["verdict"] not in ("no_inference", "single_arm"):
        parts.append(
            "tinted: the best" if verdict["verdict"] == "winner" else "tinted: may be the best, by paired tests"
        )
    if verdict["baseline"] is not None:
        parts.append("dashed: baseline")
    hidden = len(cast("list[str]", verdict["ranking"])) - SHOWN_GROUPS
    return " · ".join([*parts, f"{hidden:,} lower groups not shown"] if hidden > 0 else parts)
