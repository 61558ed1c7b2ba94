"""The comparisons asked for beforehand: every group with the baseline, and the pre-registered pair."""

from __future__ import annotations

import numpy as np

from .analysis import Analysis
from .distributions import Floats

SUPPORTED, CONTRADICTED, NOT_RESOLVED, NOT_TESTED = "supported", "contradicted", "not_resolved", "not_tested"


def holm(p: Floats) -> Floats:
    """Holm's step-down adjusted p-values (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def compare_with(analysis: Analysis, reference: str, groups: list[str], sign: float) -> dict[str, dict[str, object]]:
    """Per group its difference to the reference: diff and ci in the metric's units, p, p_eff.

    The interval never claims more than the test: where p_eff > alpha it is widened to hold 0.
    """
    index = {group: position for position, group in enumerate(analysis.groups)}
    rows = np.array([index[group] for group in groups], dtype=np.intp)
    if not len(rows):
        return {}
    j = index[reference]
    others = np.full(len(rows), j, dtype=np.intp)
    diff = analysis.main.difference(rows, others)
    if not analysis.can_infer:
        return {
            g: {"diff": sign * float(d), "ci": None, "p": None, "p_eff": None}
            for g, d in zip(groups, diff, strict=True)
        }
    p, p_eff = analysis.p_column(j, rows)
    low, high = analysis.interval(rows, others)
    open_question = p_eff > analysis.alpha
    low, high = np.where(open_question, np.minimum(low, 0), low), np.where(open_question, np.maximum(high, 0), high)
    return {
        group: {
            "diff": sign * float(diff[n]),
            "ci": signed_interval(float(low[n]), float(high[n]), sign),
            "p": float(p[n]),
            "p_eff": float(p_eff[n]),
        }
        for n, group in enumerate(groups)
    }


def versus_baseline(analysis: Analysis, baseline: str, groups: list[str], sign: float) -> dict[str, dict[str, object]]:
    """Every group with the baseline: diff (group - baseline), ci (unadjusted), p (both readings), p_adj (Holm)."""
    rows = compare_with(analysis, baseline, [group for group in groups if group != baseline], sign)
    if not analysis.can_infer:
        return {group: {"diff": row["diff"], "ci": None, "p": None, "p_adj": None} for group, row in rows.items()}
    adjusted = holm(np.array([row["p_eff"] for row in rows.values()], dtype=float))
    return {
        group: {"diff": row["diff"], "ci": row["ci"], "p": row["p_eff"], "p_adj": float(p_adj)}
        for (group, row), p_adj in zip(rows.items(), adjusted, strict=True)
    }


def call_hypothesis(analysis: Analysis, better: str, than: str, sign: float) -> dict[str, object]:
    """The pre-registered pair, unadjusted: diff (better - than), ci, p and the call."""
    row = compare_with(analysis, than, [better], sign)[better]
    call, p = NOT_TESTED, row["p_eff"]
    if isinstance(p, float) and isinstance(row["diff"], float):
        ahead = sign * row["diff"] > 0
        call = NOT_RESOLVED if p > analysis.alpha else SUPPORTED if ahead else CONTRADICTED
    reason = None if analysis.can_infer else "nothing can be inferred from this table"
    return {
        "better": better,
        "than": than,
        "diff": row["diff"],
        "ci": row["ci"],
        "p": p,
        "call": call,
        "reason": reason,
    }


def signed_interval(low: float, high: float, sign: float) -> list[float]:
    """An interval of sign * value as [low, high] of value."""
    return [low, high] if sign > 0 else [-high, -low]
