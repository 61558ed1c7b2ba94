"""From the arms' records to results, and from results to the table that `rank` takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..composed import load_plain, typed_config
from ..config import RunConfig
from ..record import ArmView, ExperimentRecord
from ..record.files import read_json
from ..record.names import safe_name
from ..results import ArmResult, EvalResult, RunResult, direction_of

ALPHA = 0.05
PER_TASK = re.compile(r"mean_reward|pass_rate|pass@(\d+)")
EVAL_FIELDS = tuple(EvalResult.__dataclass_fields__)


def read_arm(arm: ArmView) -> ArmResult:
    """An arm's result as its record tells it now."""
    metrics = dict(arm.result.get("metrics") or {})
    result = ArmResult(
        name=arm.name,
        run_config=_run_config(arm),
        status=arm.state,
        metrics=metrics,
        evals=_evals(arm),
        run_id=arm.name,
        error=arm.error,
        cause=arm.cause,
        train_seconds=arm.result.get("train_seconds"),
        group_name=arm.group,
    )
    primary = result.primary
    if primary is not None:
        result.eval_metrics, result.eval_breakdowns = primary.metrics, primary.breakdowns
        result.eval_seconds = primary.eval_seconds
    if arm.result:
        result.run_result = RunResult(arm.name, "completed", metrics, dict(arm.result.get("artifacts") or {}))
    return result


def ranking_table(
    record: ExperimentRecord, arms: Sequence[ArmView], results: Sequence[ArmResult]
) -> dict[str, Any] | None:
    """The table of evsys_hydra.ranking.rank for the experiment's success metric.

    Rewards task by task where the metric is a mean over tasks (mean_reward, pass_rate, pass@k), else one scalar an arm.

    Returns:
        None without a success metric or without arms.
    """
    metadata = record.facts.get("metadata") or {}
    metric = metadata.get("success_metric")
    if not metric or not arms:
        return None
    entries = [_entry(metric, arm, result) for arm, result in zip(arms, results, strict=True)]
    benchmark = next((found for *_, found in entries if found), None)
    key = metric.rsplit(".", 1)[-1] if benchmark and metric.startswith(f"{benchmark}.") else metric
    per_task = bool(benchmark and PER_TASK.fullmatch(key))
    drawn = re.fullmatch(r"pass@(\d+)", key)
    spent = [_adaptive(result, benchmark).get("alpha", 0.0) for _, result, _ in entries] if per_task else [0.0]
    rows = []
    for (arm, result, _), view in zip(entries, arms, strict=True):
        ok = result.status == "completed"
        scores = rewards(view, benchmark, binary=key != "mean_reward") if ok and per_task and benchmark else None
        rows.append(
            {
                "name": arm,
                "group": view.group,
                "seed": view.seed,
                "status": "ok" if ok else "failed",
                "per_task": scores,
                "scalar": result.score(metric) if ok and not per_task else None,
                "ranked": view.role == "arm",
                "lost_to": lost_to(result, benchmark) if ok and per_task else None,
            }
        )
    return {
        "metric": {
            "name": metric,
            "direction": direction_of(key, metadata.get("direction")),
            "kind": "per_task" if per_task else "scalar",
            "bounds": [0, 1] if per_task else None,
            **({"pass_at_k": int(drawn[1])} if drawn else {}),
        },
        "arms": rows,
        "clusters": _clusters(record, benchmark, rows) if per_task and benchmark else None,
        "baseline": _known_group(metadata.get("baseline"), rows),
        "hypothesis": _known_pair(metadata.get("compare"), rows),
        "min_effect": metadata.get("min_effect"),
        "alpha": ALPHA - max(spent),
        "rng_seed": 0,
    }


def _entry(metric: str, arm: ArmView, result: ArmResult) -> tuple[str, ArmResult, str | None]:
    """Name, result, and the benchmark that the metric of this arm comes from."""
    for name in sorted({row.name for row in result.evals if row.model is None}, key=len, reverse=True):
        if metric.startswith(f"{name}."):
            return arm.name, result, name
    primary = result.primary
    return arm.name, result, primary.name if primary and metric in primary.metrics else None


def lost_to(result: ArmResult, benchmark: str | None = None) -> str | None:
    """The group that an adaptive evaluation found this arm's behind, where that ended it early.

    Args:
        benchmark: the eval's name; None: the primary eval.
    """
    found = _adaptive(result, benchmark or (result.primary.name if result.primary else None))
    return found.get("lost_to")


def _adaptive(result: ArmResult, benchmark: str | None) -> dict[str, Any]:
    row = result.eval(benchmark) if benchmark else None
    return (row.facts.get("adaptive") if row is not None else None) or {}


def _evals(arm: ArmView) -> list[EvalResult]:
    latest: dict[tuple[str, int | None, str | None], EvalResult] = {}
    for event in arm.events("eval"):
        row = EvalResult(**{key: event[key] for key in EVAL_FIELDS if key in event})
        latest[row.name, row.step, row.model] = row
    return list(latest.values())


def _run_config(arm: ArmView) -> RunConfig | None:
    try:
        return typed_config(load_plain(arm.directory / "config.yaml")).run
    except Exception:  # a plugin or a secret that only the arm's own process has: the record stays readable
        return None


def rewards(arm: ArmView, benchmark: str, *, binary: bool) -> dict[str, list[float]]:
    """task -> rewards of its samples; an errored sample is absent."""
    samples: dict[tuple[str, int], float | None] = {}
    for row in arm.predictions(benchmark):
        samples[str(row.get("task_id")), int(row.get("sample_idx") or 0)] = row.get("reward")
    found: dict[str, list[float]] = {}
    for (task, _), reward in sorted(samples.items()):
        if reward is not None:
            found.setdefault(task, []).append(float(reward >= 1) if binary else float(reward))
    return found


def _clusters(record: ExperimentRecord, benchmark: str, rows: Iterable[dict[str, Any]]) -> dict[str, str] | None:
    """task -> cluster as the sweep's start wrote it down; None without a cluster_key."""
    known = read_json(clusters_path(record, benchmark))
    if not isinstance(known, dict):
        return None
    tasks = {task for row in rows for task in row["per_task"] or {}}
    return {task: str(known.get(task, f"__missing__{task}")) for task in tasks}


def clusters_path(record: ExperimentRecord, benchmark: str) -> Path:
    """benchmarks/<name>.clusters.json of an experiment."""
    return record.directory / "benchmarks" / f"{safe_name(benchmark)}.clusters.json"


def _known_pair(compare: dict[str, str] | None, rows: Iterable[dict[str, Any]]) -> dict[str, str] | None:
    known = {row["group"] for row in rows}
    return compare if compare and set(compare.values()) <= known else None


def _known_group(group: str | None, rows: Iterable[dict[str, Any]]) -> str | None:
    return group if group is not None and any(row["group"] == group for row in rows) else None
