"""Numbers and lists as a reader sees them: shared by the conclusion and the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

LISTED = 8


def number(value: float) -> str:
    """Three decimals, more for small values, thousands separated for large ones."""
    size = abs(value)
    if size == 0 or not math.isfinite(value):
        return "0" if size == 0 else "unknown"
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 0.01:
        return f"{value:.3f}"
    return f"{value:.2g}"


def probability(p: float) -> str:
    """'p = 0.031' or 'p < 0.001'."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def interval(ends: Sequence[float], alpha: float) -> str:
    """'95% CI 0.1 to 0.2'."""
    return f"{100 * (1 - alpha):.4g}% CI {number(ends[0])} to {number(ends[1])}"


def names(items: Sequence[str], limit: int = LISTED) -> str:
    """'A, B and C', shortened to 'A, B and 7 more' beyond the limit; semicolons where a name has a comma itself."""
    comma = "; " if any("," in item for item in items) else ", "
    if len(items) > limit:
        return f"{comma.join(items[: limit - 1])} and {len(items) - limit + 1:,} more"
    return " and ".join([comma.join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def count(n: int, noun: str) -> str:
    """'1 seed', '3 seeds'."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
