"""What an experiment found, in a word and a line: from its verdict, or from how far it has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ..store.protocol import Record
from .arms import Arm

LABELS = {
    "winner": "Winner",
    "tie_at_top": "Tie at the top",
    "inconclusive": "Inconclusive",
    "single_arm": "One group",
    "no_inference": "Order only",
}
OVER = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Headline:
    """kind: one of LABELS, running, failed or unranked (what it looks like); label and text for people."""

    kind: str
    label: str
    text: str


def headline(record: Record) -> Headline:
    """The headline of a tidied experiment; works on the short ranking of a list too."""
    status = str(record.get("status") or "pending")
    if record.get("is_valid") is False:
        return Headline("failed", "Invalid", str(record.get("error_message") or "Its results should not be used."))
    if status not in OVER:
        return Headline("running", status.capitalize(), "The arms are running; there is no conclusion yet.")
    if status == "failed":
        return Headline("failed", "Failed", "No arm completed.")
    ranking = record["ranking"]
    if ranking.get("verdict") not in LABELS:
        return Headline("unranked", status.capitalize(), "The groups were not ranked.")
    return Headline(ranking["verdict"], LABELS[ranking["verdict"]], _claim(ranking))


def _claim(ranking: Mapping[str, Any]) -> str:
    kind, total, best = ranking["verdict"], ranking.get("n_groups") or 0, list(ranking.get("best_set") or [])
    if kind == "winner":
        among = f"of {total} groups" if total > 1 else "group: all others were stopped early"
        return f"{ranking.get('winner')} is the best {among}"
    if kind == "tie_at_top":
        return f"{ranking.get('n_best') or len(best)} of {total} groups are tied at the top"
    if kind == "inconclusive":
        return f"None of {total} groups can be told apart from the highest"
    if kind == "single_arm":
        return "One group, nothing to compare it with"
    return "The groups are in order of their scores; nothing can be inferred from it"


def provisional(arms: Sequence[Arm], metric: str, *, minimize: bool) -> dict[str, Any]:
    """A ranking's shape from scores alone, for an experiment without a verdict: means of groups, no intervals."""
    rows: dict[str, dict[str, Any]] = {}
    for role in ("arm", "baseline"):
        groups: dict[str, list[float]] = {}
        for arm in arms:
            if arm.score is not None and (arm.role == "arm") == (role == "arm"):
                groups.setdefault(arm.group, []).append(arm.score)
        rows[role] = {
            group: {"estimate": fmean(scores), "ci": None, "n_seeds": len(scores)} for group, scores in groups.items()
        }
    own = rows["arm"]
    order = sorted(own, key=lambda group: (own[group]["estimate"] if minimize else -own[group]["estimate"], group))
    return {
        "verdict": "no_inference",
        "ranking": order,
        "arms": own,
        "references": rows["baseline"],
        "n_groups": len(order),
        "metric": metric,
        "direction": "minimize" if minimize else "maximize",
    }
