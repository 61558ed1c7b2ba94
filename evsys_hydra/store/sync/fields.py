"""From the record's words to the contract's: the arguments of each operation.

Configs go as they are on disk, secrets unresolved. Texts that a running process wrote (an error, a command line) are
cleaned of the values of those environment variables that the config names as secrets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ... import __version__
from ...record import ArmView
from ...resolve import followed
from ...results import ArmResult, EvalResult
from ...secrets import referenced, scrub
from ..protocol import MetricPoint

SPLITS = ("train", "val", "test")
HASH = re.compile(r"[0-9a-f]{16,64}")
LOG_LINES = 60
MOST_GROUPS = 2000
EVAL_FIELDS = tuple(EvalResult.__dataclass_fields__)
JUDGED_BY = ("success_metric", "direction", "baseline", "compare", "min_effect")


def experiment_fields(facts: Mapping[str, Any], secrets: list[str]) -> dict[str, Any]:
    """create_experiment's arguments from experiment.json."""
    metadata = facts.get("metadata") or {}
    more = {
        "command": facts.get("command"),
        "git": facts.get("git"),
        "versions": facts.get("versions"),
        "created": facts.get("created"),
        "n_arms": len(facts.get("arms") or []) or None,
        **{key: metadata.get(key) for key in JUDGED_BY},
    }
    fields = {
        "experiment_name": facts.get("name"),
        "hypothesis": metadata.get("hypothesis"),
        "project_goal_id": metadata.get("project_goal_id"),
        "tags": list(metadata.get("tags") or []),
        "status": "running",
        "metadata": masked({key: value for key, value in more.items() if value is not None}, secrets),
        "record_id": facts.get("id"),
    }
    return {key: value for key, value in fields.items() if value is not None}


def run_fields(view: ArmView, config: Mapping[str, Any], record_id: str) -> dict[str, Any]:
    """create_run's arguments, beside the ids, from arm.json and config.yaml."""
    algorithm = config.get("algorithm")
    fields = {
        "name": view.name,
        "seed": view.seed,
        "recipe_kind": algorithm.get("kind") if isinstance(algorithm, Mapping) else algorithm,
        "run_config": followed(dict(config)),
        "status": "running",
        "role": view.role,
        "group": view.group,
        "swept": view.facts.get("swept"),
        "directory": str(view.directory.resolve()),
        "record_id": record_id,
    }
    return {key: value for key, value in fields.items() if value is not None}


def outcome_fields(view: ArmView, state: str, secrets: list[str], metric: str | None = None) -> dict[str, Any]:
    """update_run's patch: status, error_message and summary as the record has them now.

    Args:
        metric: the success metric; the summary gets a completed arm's value of it, and the benchmark that is primary.
    """
    result = _result(view)
    summary = {
        "score": result.score(metric) if metric and state == "completed" else None,
        "primary": result.primary.name if result.primary else None,
        "eval_errors": _eval_errors(result, secrets),
        "metrics": view.result.get("metrics"),
        "train_seconds": view.result.get("train_seconds"),
        "eval_seconds": view.result.get("eval_seconds"),
        "cause": view.cause if state == "failed" else None,
        "attempt": view.attempt or None,
        "started": view.status.get("started"),
        "ended": view.status.get("ended") or view.exit.get("ended"),
        "node": view.status.get("node"),
        "job_id": view.status.get("job_id"),
        "traceback": masked(view.status.get("traceback"), secrets),
        "log": masked(view.log_tail(LOG_LINES), secrets) or None,
    }
    patch: dict[str, Any] = {"status": state if state in ("completed", "failed") else "running"}
    if state == "failed":
        patch["error_message"] = masked(view.error or "unknown", secrets)
    if state in ("completed", "failed"):
        patch["summary"] = {key: value for key, value in summary.items() if value is not None}
    return patch


def ranking_fields(concluded: Mapping[str, Any]) -> dict[str, Any]:
    """update_experiment's patch of how the groups stand: the verdict, as far as pages show it. {} without one."""
    verdict = concluded.get("verdict")
    if not isinstance(verdict, Mapping) or not verdict:
        return {}
    kept = {key: value for key, value in verdict.items() if key not in ("missing", "unranked")}
    order = list(verdict.get("ranking") or [])
    shown = set(order[:MOST_GROUPS])
    for key in ("arms", "differences", "vs_baseline"):
        kept[key] = {group: row for group, row in (verdict.get(key) or {}).items() if group in shown}
    for key in ("ranking", "best_set"):
        kept[key] = list(verdict.get(key) or [])[:MOST_GROUPS]
    counts = {"n_groups": len(order), "n_best": len(verdict.get("best_set") or [])}
    return {"ranking": {**kept, **counts, "best_arm": concluded.get("best_arm")}}


def _result(view: ArmView) -> ArmResult:
    """The arm's scores: of several evaluations of one benchmark the last."""
    latest: dict[Any, EvalResult] = {}
    for event in view.events("eval"):
        row = EvalResult(**{key: event[key] for key in EVAL_FIELDS if key in event})
        latest[row.name, row.step, row.model] = row
    result = ArmResult(view.name, None, view.state, dict(view.result.get("metrics") or {}), evals=[*latest.values()])
    result.eval_metrics = result.primary.metrics if result.primary else {}
    return result


def _eval_errors(result: ArmResult, secrets: list[str]) -> dict[str, Any] | None:
    """Benchmark -> why it could not be scored after training; None if all could."""
    failed = [row for row in result.evals if row.step is None and row.error]
    return {row.model or row.name: masked(row.error, secrets) for row in failed} or None


def metric_point(event: Mapping[str, Any]) -> MetricPoint | None:
    """The metrics of one step; None for an event that holds none, such as a run's summary."""
    split, values = event.get("split", "train"), event.get("values")
    if split not in SPLITS or not isinstance(values, dict) or not isinstance(event.get("step"), int):
        return None
    numbers = {name: value for name, value in values.items() if value is None or isinstance(value, int | float)}
    return MetricPoint(event["step"], numbers, split) if numbers else None


def checkpoint_fields(event: Mapping[str, Any], directory: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """add_checkpoint's arguments, beside the run."""
    model = config.get("model")
    base = model.get("name") if isinstance(model, Mapping) else None
    final = bool(event.get("is_final"))
    step = event.get("step")
    fields = {
        "uri": os.path.normpath(directory.resolve() / str(event.get("uri", ""))),
        "label": "final" if final else f"step {step}",
        "step": step,
        "base_model": str(base) if base is not None else None,
        "is_final": final,
    }
    return {key: value for key, value in fields.items() if value is not None}


def eval_fields(event: Mapping[str, Any], arm: str, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """create_eval's arguments, beside run and benchmark. `model_ref` always says what was scored."""
    own, step = event.get("model") is None, event.get("step")
    if not own:
        scored = str(event["model"])
    else:
        scored = f"{arm}@{step}" if step is not None else str(checkpoint.get("uri") or arm)
    fields = {
        "checkpoint_id": checkpoint.get("id") if own and step is None else None,
        "model_ref": scored,
        "step": step,
        "metrics": {name: value for name, value in (event.get("metrics") or {}).items() if value is not None},
        "breakdowns": event.get("breakdowns") or None,
        "sdk_version": f"evsys_hydra {__version__}",
    }
    return {key: value for key, value in fields.items() if value is not None}


def dataset_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """create_dataset's arguments, beside the metadata, from the `data` of a config."""
    hub, generate, path = data.get("hub"), data.get("generate"), data.get("path")
    if hub is not None:
        name, kind, uri = str(hub.get("name") if isinstance(hub, Mapping) else hub), "hub", None
    elif path is not None:
        name, kind, uri = Path(str(path)).name, "file", str(path)
    elif generate is not None:
        name, kind, uri = str(generate.get("kind") if isinstance(generate, Mapping) else generate), "generated", None
    else:
        name, kind, uri = "rows", "config", None
    steps = {key: data[key] for key in ("template", "transforms", "limit") if data.get(key)}
    fields = {"name": name, "format": "rows", "source_kind": kind, "storage_uri": uri, "transform": steps or None}
    return {key: value for key, value in fields.items() if value is not None}


def benchmark_of(event: Mapping[str, Any]) -> tuple[str | None, str, str | None]:
    """An eval's benchmark: (id in the store that the user gave, name, hash of its content)."""
    given, content = event.get("benchmark_id"), event.get("benchmark_hash")
    if given == content or (given and content is None and HASH.fullmatch(str(given))):
        given, content = None, content or given
    return given, str(event.get("name", "benchmark")), content


def prediction_fields(row: Mapping[str, Any], run: str, eval_id: str | None, record_id: str) -> dict[str, Any]:
    """add_prediction's arguments. The model's output goes along; an error travels in the metadata."""
    metadata = dict(row.get("metadata") or {})
    if row.get("error") is not None:
        metadata["error"] = row["error"]
    fields = {
        "run_id": run,
        "kind": row.get("kind", "eval"),
        "eval_id": eval_id,
        "task_id": None if row.get("task_id") is None else str(row["task_id"]),
        "instruction": row.get("instruction"),
        "model_output": row.get("output"),
        "expected": row.get("expected"),
        "reward": row.get("reward"),
        "advantage": row.get("advantage"),
        "step": row.get("step"),
        "sample_idx": int(row.get("sample_idx") or 0),
        "metadata": {**metadata, "record_id": record_id},
    }
    return {key: value for key, value in fields.items() if value is not None}


def read_config(path: Path) -> dict[str, Any]:
    """config.yaml as it is on disk, nothing resolved; {} if there is none."""
    try:
        found = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def secrets_named_in(path: Path) -> list[str]:
    """The environment variables whose values must not get into the store: what a config refers to, and the key."""
    try:
        found = referenced(path.read_text(errors="replace"))
    except OSError:
        found = []
    return [*found, "EVSYS_API_KEY"]


def masked(value: Any, secrets: list[str]) -> Any:
    """The value with every secret in its texts replaced by its reference."""
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, Mapping):
        return {key: masked(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, secrets) for item in value]
    return value
