"""The forest plot of a ranking as rows of a table: estimate and interval a group, in percent of the axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .scale import Scale, Tick, scale_over

SHOWN_GROUPS = 40
UNMARKED = ("no_inference", "single_arm")


@dataclass(frozen=True)
class ForestRow:
    """A group; places in percent, None where there is no interval. role: best, behind or reference."""

    group: str
    role: str
    seeds: int
    estimate: float
    ends: tuple[float, float] | None
    at: float
    span: tuple[float, float] | None
    behind: float | None
    """Difference to the highest group, in the metric's units."""
    p: float | None


@dataclass(frozen=True)
class Forest:
    """The plot; `baseline` is the place of the baseline's estimate, `hidden` the groups that are left out."""

    rows: list[ForestRow]
    ticks: list[Tick]
    baseline: float | None
    hidden: int


def forest(ranking: Mapping[str, Any], shown: int = SHOWN_GROUPS) -> Forest | None:
    """The plot of a verdict as the store keeps it; None if there is nothing to plot."""
    arms, references = ranking.get("arms") or {}, ranking.get("references") or {}
    order = [group for group in ranking.get("ranking") or [] if group in arms][:shown]
    entries = [(group, arms[group], _role(group, ranking)) for group in order]
    entries += [(group, row, "reference") for group, row in references.items() if row.get("estimate") is not None]
    if not entries:
        return None
    values = [value for _, row, _ in entries for value in (row["estimate"], *(row.get("ci") or ()))]
    scale = scale_over(values)
    baseline = arms.get(ranking.get("baseline")) or references.get(ranking.get("baseline"))
    total = ranking.get("n_groups") or len(ranking.get("ranking") or [])
    return Forest(
        rows=[_row(group, row, role, scale, ranking.get("differences") or {}) for group, row, role in entries],
        ticks=scale.ticks(),
        baseline=scale.at(baseline["estimate"]) if baseline else None,
        hidden=max(total - len(order), 0),
    )


def _role(group: str, ranking: Mapping[str, Any]) -> str:
    marked = ranking.get("verdict") not in UNMARKED
    return "best" if marked and group in (ranking.get("best_set") or []) else "behind"


def _row(group: str, row: Mapping[str, Any], role: str, scale: Scale, differences: Mapping[str, Any]) -> ForestRow:
    ends = row.get("ci")
    return ForestRow(
        group=group,
        role=role,
        seeds=int(row.get("n_seeds") or 1),
        estimate=row["estimate"],
        ends=(ends[0], ends[1]) if ends else None,
        at=scale.at(row["estimate"]),
        span=(scale.at(ends[0]), scale.at(ends[1])) if ends else None,
        behind=(differences.get(group) or {}).get("diff"),
        p=(differences.get(group) or {}).get("p_eff"),
    )
