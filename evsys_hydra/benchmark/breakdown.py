"""Scores by the value of a task's metadata, with the definitions of `ranking.breakdown`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .metrics import TaskSamples
from .task import at_path


def breakdowns(tasks: Sequence[TaskSamples], keys: Iterable[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Dotted key -> value -> {n, mean_reward, pass_rate and their standard errors}.

    A task without the key is in `__missing__`; a task without a scored sample is left out. A standard error that is
    unknown (a single task) is left out.
    """
    from ..ranking.breakdown import breakdown

    return {
        key: {
            value: {name: number for name, number in row.items() if number is not None}
            for value, row in breakdown((_label(at_path(task.metadata, key)), task.scored) for task in tasks).items()
        }
        for key in keys
    }


def _label(value: Any) -> str | None:
    """A value as its JSON text, so that true, 1 and "1" of a tasks.jsonl keep readable names."""
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)
