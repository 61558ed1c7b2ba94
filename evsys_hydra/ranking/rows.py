"""The verdict as rows, one a group: what ranking.csv holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

Row = Mapping[str, object]
COLUMNS = (
    "rank", "group", "role", "n_seeds", "estimate", "se", "ci_low", "ci_high", "missing",
    "diff_to_best", "diff_to_best_low", "diff_to_best_high", "p", "p_eff", "in_best_set", "winner",
    "vs_baseline", "vs_baseline_low", "vs_baseline_high", "vs_baseline_p_adj",
)  # fmt: skip


def ranking_rows(verdict: Row) -> list[dict[str, object]]:
    """One row a ranked group, best first, then the references (rank None), with the columns COLUMNS.

    Differences are group - best and group - baseline in the metric's units; None where there is nothing to compare.
    """
    ranking = cast("list[str]", verdict["ranking"])
    arms, references = _by_group(verdict, "arms"), _by_group(verdict, "references")
    rows = [_row(verdict, group, arms[group], rank) for rank, group in enumerate(ranking, start=1)]
    return rows + [_row(verdict, group, row, None) for group, row in references.items()]


def _row(verdict: Row, group: str, arm: Row, rank: int | None) -> dict[str, object]:
    to_best = _by_group(verdict, "differences").get(group, {})
    to_baseline = _by_group(verdict, "vs_baseline").get(group, {})
    low, high = _ends(arm)
    best_low, best_high = _ends(to_best)
    base_low, base_high = _ends(to_baseline)
    return {
        "rank": rank,
        "group": group,
        "role": "reference" if rank is None else "ranked",
        "n_seeds": arm["n_seeds"],
        "estimate": arm["estimate"],
        "se": arm["se"],
        "ci_low": low,
        "ci_high": high,
        "missing": cast("dict[str, int]", verdict["missing"]).get(group),
        "diff_to_best": to_best.get("diff", 0.0 if rank == 1 else None),
        "diff_to_best_low": best_low,
        "diff_to_best_high": best_high,
        "p": to_best.get("p"),
        "p_eff": to_best.get("p_eff"),
        "in_best_set": group in cast("list[str]", verdict["best_set"]),
        "winner": group == verdict["winner"],
        "vs_baseline": to_baseline.get("diff"),
        "vs_baseline_low": base_low,
        "vs_baseline_high": base_high,
        "vs_baseline_p_adj": to_baseline.get("p_adj"),
    }


def _ends(row: Row) -> tuple[float | None, float | None]:
    ends = cast("list[float] | None", row.get("ci"))
    return (None, None) if ends is None else (ends[0], ends[1])


def _by_group(verdict: Row, field: str) -> dict[str, Row]:
    return cast("dict[str, Row]", verdict[field])
