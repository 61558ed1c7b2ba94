"""The tables of an experiment: one row an observation, streamed from the records.

arms         one row an arm: group, seed, state, cause, what was swept, its figures, its group's interval
evals        one row a metric of an eval
breakdowns   one row a metric of a value of a breakdown
predictions  one row a sample
rollouts     one row a sample that an arm was trained on, with its advantage
metrics      one row a value of a curve
ranking      one row a group, as in ranking.csv
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ranking import ranking_rows
from ..record import ArmView, ExperimentRecord
from ..record.arm import predictions_path
from ..record.files import read_json, to_json
from ..results import ArmResult
from ..store.sync.lines import lines_from
from ..store.sync.reading import current_rows, latest_evals, predictions_of
from ..sweep.collect import read_arm

ROLLOUTS = "rollouts"
Kind = type[str] | type[int] | type[float] | type[bool]
Row = Sequence[Any]
ARM: dict[str, Kind] = {"arm": str, "group": str, "seed": int, "role": str}
EVAL: dict[str, Kind] = {**ARM, "benchmark": str, "model": str, "step": int}


@dataclass(frozen=True)
class Table:
    """A table that is read while it is written.

    Args:
        columns: name -> type; every value is of it, or None.
        rows: gives the rows anew at each call.
    """

    name: str
    columns: Mapping[str, Kind]
    rows: Callable[[], Iterable[Row]]


def tables_of(directory: Path) -> list[Table]:
    """The tables of the experiment in `directory`, as its records are now.

    Raises:
        RecordError: there is none.
    """
    record = ExperimentRecord.load(directory)
    views = [ArmView(record.arm_directory(name)) for name in record.arm_names]
    concluded = read_json(directory / "conclusion.json") or {}
    verdict = concluded.get("verdict") or {}
    arms = [arm_facts(view, record, verdict) for view in views]
    ranking = list(ranking_rows(verdict)) if verdict else []
    return [
        wide("arms", arms),
        Table("evals", {**EVAL, "metric": str, "value": float}, lambda: eval_rows(views)),
        Table(
            "breakdowns", {**EVAL, "key": str, "level": str, "metric": str, "value": float}, lambda: level_rows(views)
        ),
        Table("predictions", {**EVAL, **PREDICTION}, lambda: prediction_rows(views)),
        Table("rollouts", {**ARM, "step": int, "advantage": float, **PREDICTION}, lambda: rollout_rows(views)),
        Table(
            "metrics",
            {**ARM, "step": int, "split": str, "metric": str, "value": float, "time": float},
            lambda: metric_rows(views),
        ),
        wide("ranking", ranking),
    ]


# -- arms --------------------------------------------------------------------------------------------------------------


def arm_facts(view: ArmView, record: ExperimentRecord, verdict: Mapping[str, Any]) -> dict[str, Any]:
    """One row of `arms`."""
    metric = (record.facts.get("metadata") or {}).get("success_metric")
    result = read_arm(view)
    ranked = {**(verdict.get("references") or {}), **(verdict.get("arms") or {})}.get(view.group) or {}
    low, high = ranked.get("ci") or (None, None)
    return {
        **dict(zip(ARM, arm_columns(view), strict=True)),
        "state": view.state,
        "cause": view.cause,
        "error": view.error,
        "attempt": view.attempt,
        "seconds": view.seconds,
        "train_seconds": view.result.get("train_seconds"),
        "eval_seconds": view.result.get("eval_seconds"),
        "node": view.status.get("node"),
        **{f"swept.{key}": plain(value) for key, value in (view.facts.get("swept") or {}).items()},
        "score": result.score(metric) if metric and view.state == "completed" else None,
        "group_estimate": ranked.get("estimate"),
        "group_ci_low": low,
        "group_ci_high": high,
        **{f"train.{name}": plain(value) for name, value in result.metrics.items()},
        **after_training(result),
    }


def after_training(result: ArmResult) -> dict[str, Any]:
    """The metrics of the checkpoint's evals as columns "<benchmark>.<metric>"."""
    own = [row for row in result.evals if row.step is None and row.model is None]
    return {f"{row.name}.{name}": plain(value) for row in own for name, value in row.metrics.items()}


def arm_columns(view: ArmView) -> tuple[Any, ...]:
    """The values of `ARM`."""
    return view.name, view.group, view.seed, view.role


def wide(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of few rows whose columns are those that any row has."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    columns = {key: common_kind(row.get(key) for row in rows) for key in names}
    made = [[cast(row.get(key), columns[key]) for key in names] for row in rows]
    return Table(name, columns, lambda: made)


def common_kind(values: Iterable[Any]) -> Kind:
    """The narrowest type that holds all of them."""
    kinds = {
        str if type(value) is int and abs(value) >= 2**63 else type(value) for value in values if value is not None
    }
    for kind, narrower in ((bool, {bool}), (int, {int}), (float, {int, float})):
        if kinds and kinds <= narrower:
            return kind
    return str


# -- what arms leave ---------------------------------------------------------------------------------------------------


def eval_rows(views: Iterable[ArmView]) -> Iterator[Row]:
    for view in views:
        for row in read_arm(view).evals:
            for name, value in row.metrics.items():
                yield *arm_columns(view), row.name, row.model, row.step, name, number(value)


def level_rows(views: Iterable[ArmView]) -> Iterator[Row]:
    for view in views:
        for row in read_arm(view).evals:
            for key, levels in row.breakdowns.items():
                for level, values in levels.items():
                    for name, value in values.items():
                        yield *arm_columns(view), row.name, row.model, row.step, key, level, name, number(value)


PREDICTION: dict[str, Kind] = {
    "task_id": str,
    "sample": int,
    "reward": float,
    "output": str,
    "expected": str,
    "instruction": str,
    "error": str,
    "latency_s": float,
    "prompt_tokens": int,
    "completion_tokens": int,
}


def prediction_rows(views: Iterable[ArmView]) -> Iterator[Row]:
    for view in views:
        for file, event in prediction_files(view).items():
            of = (*arm_columns(view), str(event.get("name")), event.get("model"), event.get("step"))
            for _, row in current_rows(view.directory / file, 0):
                yield *of, *prediction(row)


def rollout_rows(views: Iterable[ArmView]) -> Iterator[Row]:
    for view in views:
        for row, _ in lines_from(predictions_path(view.directory, ROLLOUTS), 0):
            yield *arm_columns(view), row.get("step"), number(row.get("advantage")), *prediction(row)


def prediction(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of `PREDICTION`."""
    metadata = row.get("metadata") or {}
    texts = (row.get("output"), row.get("expected"), row.get("instruction"), row.get("error"))
    return (
        cast(row.get("task_id"), str),
        int(row.get("sample_idx") or 0),
        number(row.get("reward")),
        *(cast(text, str) for text in texts),
        number(metadata.get("latency_s")),
        *(cast(number(metadata.get(name)), int) for name in ("prompt_tokens", "completion_tokens")),
    )


def prediction_files(view: ArmView) -> dict[str, dict[str, Any]]:
    """File of predictions -> the eval they belong to; of an eval that was cut off, only the name is known."""
    latest = latest_evals(view.directory, 0)
    events = {file: event for event in view.events("eval") if (file := predictions_of(view.directory, event)) in latest}
    folder = view.directory / "predictions"
    files = [path for path in sorted(folder.glob("*.jsonl")) if path.stem != ROLLOUTS]
    found = {str(path.relative_to(view.directory)): {"name": path.stem} for path in files}
    return {**found, **{str(file): event for file, event in events.items()}}


def metric_rows(views: Iterable[ArmView]) -> Iterator[Row]:
    """Of values that were recorded again, by an arm that went back to a checkpoint, the last."""
    for view in views:
        path = view.directory / "events.jsonl"
        last = {metric_key(event): end for event, end in lines_from(path, 0, b'"metrics"') if is_curve(event)}
        for event, end in lines_from(path, 0, b'"metrics"'):
            if not is_curve(event) or last.get(metric_key(event)) != end:
                continue
            for name, value in event["values"].items():
                moment = number(event.get("t"))
                yield *arm_columns(view), event["step"], event.get("split", "train"), name, number(value), moment


def metric_key(event: Mapping[str, Any]) -> tuple[Any, ...]:
    return event.get("split", "train"), event["step"], *event["values"]


def is_curve(event: Mapping[str, Any]) -> bool:
    """Whether an event holds values of one step, and not a run's summary."""
    curve = event.get("kind") == "metrics" and event.get("split") != "summary"
    return curve and isinstance(event.get("values"), dict) and isinstance(event.get("step"), int)


# -- values ------------------------------------------------------------------------------------------------------------


def number(value: Any) -> float | None:
    """A finite number as float; else None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def plain(value: Any) -> Any:
    """A scalar, or JSON."""
    return value if value is None or isinstance(value, str | int | float | bool) else to_json(value).decode()


def cast(value: Any, kind: Kind) -> Any:
    """A value of a column."""
    if value is None or type(value) is kind:
        return value
    return str(plain(value)) if kind is str else kind(value)
