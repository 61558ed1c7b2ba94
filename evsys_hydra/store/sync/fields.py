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
from ...secrets import referenced, scrub
from ..protocol import MetricPoint

SPLITS = ("train", "val", "test")
HASH = re.compile(r"[0-9a-f]{16,64}")
JUDGED_BY = ("success_metric", "direction", "baseline", "compare", "min_effect")


def experiment_fields(facts: Mapping[str, Any], secrets: list[str]) -> dict[str, Any]:
    """create_experiment's arguments from experiment.json."""
    metadata = facts.get("metadata") or {}
    more = {
        "command": facts.get("command"),
        "git": facts.get("git"),
        "versions": facts.get("versions"),
        "created": facts.get("created"),
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
        "run_config": dict(config),
        "status": "running",
        "role": view.role,
        "swept": view.facts.get("swept"),
        "record_id": record_id,
    }
    return {key: value for key, value in fields.items() if value is not None}


def outcome_fields(view: ArmView, state: str, secrets: list[str]) -> dict[str, Any]:
    """update_run's patch: status, error_message and summary as the record has them now."""
    summary = {
        "metrics": view.result.get("metrics"),
        "train_seconds": view.result.get("train_seconds"),
        "eval_seconds": view.result.get("eval_seconds"),
        "cause": view.cause if state == "failed" else None,
        "attempt": view.attempt or None,
        "started": view.status.get("started"),
        "ended": view.status.get("ended") or view.exit.get("ended"),
        "node": view.status.get("node"),
    }
    patch: dict[str, Any] = {"status": state if state in ("completed", "failed") else "running"}
    if state == "failed":
        patch["error_message"] = masked(view.error or "unknown", secrets)
    if state in ("completed", "failed"):
        patch["summary"] = {key: value for key, value in summary.items() if value is not None}
    return patch


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


def benchmark_of(event: Mapping[str, Any]) -> tuple[str | None, str, str | None]:
    """An eval's benchmark: (id in the store that the user gave, name, hash of its content)."""
    given, content = event.get("benchmark_id"), event.get("benchmark_hash")
    if given == content or (given and content is None and HASH.fullmatch(str(given))):
        given, content = None, content or given
    return given, str(event.get("name", "benchmark")), content


def prediction_fields(row: Mapping[str, Any], run: str, eval_id: str, record_id: str) -> dict[str, Any]:
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
