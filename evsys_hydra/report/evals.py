"""Which evaluations of an arm count: of one benchmark at one moment the last, as an arm may be scored again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..store.protocol import Record


def latest(evals: Sequence[Record]) -> list[Record]:
    """Of several evaluations of one benchmark at one step the last, in the order in which they first came."""
    found: dict[tuple[Any, Any], Record] = {}
    for row in evals:
        found[row.get("benchmark"), row.get("step")] = row
    return list(found.values())


def primary(evals: Sequence[Record], benchmark: str | None) -> Record | None:
    """What an arm is judged by: its evaluation after training on `benchmark`, else on its first."""
    after = [row for row in latest(evals) if row.get("step") is None]
    named = (row for row in after if row.get("benchmark") == benchmark)
    return next(named, after[0] if after else None)
