"""Whether two runs of one arm gave the same numbers, and what differs in what they ran on.

What a clock or a memory gauge says is not compared.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .record import ArmView, ExperimentRecord
from .record.files import read_json

CLOCK = re.compile(r"(seconds|per_s|_s|_ms|latency|memory|bytes|utilization)(_mean|_max)?$")
WEIGHTS = (".safetensors", ".bin", ".pt", ".txt")
HARDWARE = ("node", "platform", "cpus", "gpus")
Values = dict[str, Any]
"""Where -> value, in the order in which they came to be."""


def comparisons(before: ArmView, after: ArmView) -> list[dict[str, Any]]:
    """For train metrics, weights, eval metrics and predictions: {what, n, differs, first}.

    n: values that either of the two has. differs: how many are not equal, bit for bit. first: {where, before, now} of
    the first that differs, None if none does. A part that neither has is left out.
    """
    parts = (
        ("train metrics", _train_metrics),
        ("weight files", _weights),
        ("eval metrics", _eval_metrics),
        ("predictions", _predictions),
    )
    compared = []
    for what, read in parts:
        old, new = read(before), read(after)
        keys = list(dict.fromkeys([*old, *new]))
        different = [key for key in keys if old.get(key) != new.get(key)]
        first = different[0] if different else None
        if keys:
            found = {"where": first, "before": old.get(first), "now": new.get(first)} if first is not None else None
            compared.append({"what": what, "n": len(keys), "differs": len(different), "first": found})
    return compared


def environment_differences(
    original: ExperimentRecord, before: ArmView, record: ExperimentRecord, after: ArmView
) -> list[dict[str, Any]]:
    """What of code, packages, machine, data and plugins is not as it was: {what, before, now} each."""
    old, new = _environment(original, before), _environment(record, after)
    return [
        {"what": key, "before": old.get(key), "now": new.get(key)}
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def _train_metrics(arm: ArmView) -> Values:
    found: Values = {}
    for event in arm.events("metrics"):
        for name, value in event["values"].items():
            if not CLOCK.search(name):
                found[f"{event['split']} step {event['step']}, {name}"] = value
    return found


def _weights(arm: ArmView) -> Values:
    """sha256 of the final checkpoint's files; {} where they are not kept, or not the arm's own."""
    checkpoint = (arm.result.get("artifacts") or {}).get("checkpoint")
    path = arm.directory / checkpoint if checkpoint else None
    if path is None or not path.resolve().is_relative_to(arm.directory.resolve()) or not path.exists():
        return {}
    known = (read_json(path / "manifest.json") or {}).get("files") or {}
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    hashes = {}
    for file in files:
        if file.suffix in WEIGHTS:
            name = file.name if path.is_file() else str(file.relative_to(path))
            hashes[name] = (known.get(name) or {}).get("sha256") or _sha256(file)
    return hashes


def _eval_metrics(arm: ArmView) -> Values:
    found: Values = {}
    for event in arm.events("eval"):
        where = event["name"] if event.get("step") is None else f"{event['name']} at step {event['step']}"
        found[f"{where}, tasks (sha256)"] = event.get("benchmark_hash")
        figures = {**(event.get("metrics") or {}), **dict(_leaves(event.get("breakdowns") or {}))}
        found |= {f"{where}, {name}": value for name, value in figures.items() if not CLOCK.search(name)}
    return found


def _predictions(arm: ArmView) -> Values:
    found: Values = {}
    names = dict.fromkeys(event["name"] for event in arm.events("eval") if event.get("step") is None)
    for name in names:
        for row in arm.predictions(name):
            key = f"{name}, task {row.get('task_id')}, sample {row.get('sample_idx')}"
            found[key] = {field: row.get(field) for field in ("output", "reward", "error")}
    return dict(sorted(found.items()))


def _environment(record: ExperimentRecord, arm: ArmView) -> Values:
    noted: Mapping[str, Any] = {}
    for event in arm.events("provenance"):
        noted = event
    git, hardware = record.facts.get("git") or {}, noted.get("hardware") or {}
    plugins = {Path(path).name: digest for path, digest in (noted.get("plugins") or {}).items()}
    parts = {
        "git": {key: git.get(key) for key in ("commit", "dirty", "diff_sha256")},
        "version": noted.get("versions") or {},
        "hardware": {key: hardware.get(key) for key in HARDWARE},
        "environment": noted.get("environment") or {},
        "plugin": plugins,
        "data": {"sha256": noted.get("data_sha256"), "rows": noted.get("n_rows")},
    }
    return dict(_leaves(parts))


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}", value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
