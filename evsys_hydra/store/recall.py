"""Did the store take it? For a gateway without client ids: look for the record that a lost answer was about.

A record is found again by listing its siblings and comparing every field that was sent and is given back. An
experiment is taken for ours only by its `record_id`, because other experiments may look the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .protocol import Record

Ask = Callable[[str, dict[str, Any]], Any]

LISTED_BY: dict[str, tuple[str, tuple[str, ...]]] = {
    "create_experiment": ("list_experiments", ("project_id",)),
    "create_group": ("list_groups", ("experiment_id",)),
    "create_run": ("list_runs", ("experiment_id",)),
    "create_dataset": ("list_datasets", ("project_id",)),
    "create_benchmark": ("list_benchmarks", ("project_id",)),
    "add_checkpoint": ("list_checkpoints", ("run_id",)),
    "create_eval": ("list_evals", ("run_id",)),
    "add_prediction": ("list_predictions", ("run_id", "kind")),
    "set_goal": ("list_goals", ("project_id",)),
    "log_metrics": ("get_metrics", ("run_id", "split")),
    "log_metric": ("get_metrics", ("run_id", "split")),
}
NAMED_OTHERWISE = {"experiment_name": "name"}


def can_recall(op: str) -> bool:
    """Whether records of this operation can be looked for."""
    return op in LISTED_BY


def recall(ask: Ask, op: str, wanted: Sequence[Mapping[str, Any]], known: set[str]) -> list[Record | None]:
    """For each call of `op`, the record that it made, or None.

    Args:
        ask: performs one operation.
        wanted: the arguments of each call.
        known: ids that belong to other calls; each record found is added, so that it is found once.
    """
    lists: dict[tuple[Any, ...], list[Record]] = {}
    found = []
    for args in wanted:
        lister, keys = LISTED_BY[op]
        scope = {key: args[key] for key in keys if key in args}
        if lister == "list_experiments":
            scope["valid_only"] = False
        at = tuple(scope.items())
        if at not in lists:
            lists[at] = [row for row in ask(lister, scope) or [] if isinstance(row, dict)]
        found.append(_logged(args, lists[at]) if lister == "get_metrics" else _made(op, args, lists[at], known))
    return found


def _made(op: str, args: Mapping[str, Any], rows: Sequence[Record], known: set[str]) -> Record | None:
    for row in rows:
        if row.get("id") in known or not _same_record(args, row):
            continue
        if op == "create_experiment" and row.get("record_id") != args.get("record_id"):
            continue
        known.add(str(row["id"]))
        return row
    return None


def _same_record(args: Mapping[str, Any], row: Record) -> bool:
    named = {NAMED_OTHERWISE.get(key, key): value for key, value in args.items()}
    compared = [key for key in named if key in row]
    return bool(row.get("id")) and bool(compared) and all(alike(named[key], row[key]) for key in compared)


def _logged(args: Mapping[str, Any], rows: Sequence[Record]) -> Record | None:
    metrics = args.get("metrics") or {args.get("name"): args.get("value")}
    there = {row.get("name"): row.get("value") for row in rows if row.get("step") == args["step"]}
    return {} if all(name in there and alike(value, there[name]) for name, value in metrics.items()) else None


def alike(sent: Any, found: Any) -> bool:
    """Whether a value may be what the store made of one that was sent: numbers nearly, what is empty as None."""
    if isinstance(sent, bool) or isinstance(found, bool):
        return bool(sent == found)
    if isinstance(sent, int | float) and isinstance(found, int | float):
        return math.isclose(sent, found, rel_tol=1e-6, abs_tol=1e-12)
    if isinstance(sent, Mapping) and isinstance(found, Mapping):
        return all(alike(value, found.get(key)) for key, value in sent.items())
    if isinstance(sent, list | tuple) and isinstance(found, list | tuple):
        return len(sent) == len(found) and all(alike(a, b) for a, b in zip(sent, found, strict=True))
    return sent == found or (not sent and not found and sent != 0 and found != 0)
