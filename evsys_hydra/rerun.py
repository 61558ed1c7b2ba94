"""`evsys-hydra rerun`: run an arm again from its record alone, and say whether the numbers are the same.

The new run is an experiment of its own; the original is only read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from .composed import load_plain
from .errors import RecordError
from .record import ArmView, ExperimentRecord
from .record.files import read_json, write_atomic, write_json
from .reproduced import comparisons, environment_differences

COMPARISON = "rerun.json"


def rerun(arm: Path, out: Path | None = None) -> dict[str, Any]:
    """Run a completed arm again on this machine and compare.

    Args:
        arm: the arm's directory in its experiment.
        out: the new experiment's directory; None: beside the original, `<experiment>-rerun-<n>`.

    Returns:
        {identical, directory, original, error, compared, environment}, also written to rerun.json in `directory`.
        compared: {what, n, differs, first} each; `first` is {where, before, now}. environment: {what, before, now}.

    Raises:
        RecordError: there is no completed arm to compare with, or `out` is taken.
    """
    from .sweep.conclude import conclude
    from .sweep.isolated import run_directories

    arm = arm.resolve()
    before = ArmView(arm)
    if not (arm / "config.yaml").is_file():
        raise RecordError(f"{arm} is not an arm's directory: it has no config.yaml. Give EXPERIMENT/arms/NAME.")
    if before.state != "completed":
        raise RecordError(
            f"{before.name} is {before.state}: there are no numbers to compare with. {before.error or ''}"
        )
    original = ExperimentRecord.load(arm.parent.parent)
    record = _experiment(original, before, out)
    directory = _arm(record, before)
    with _as_it_was(original, before):
        run_directories(record.directory, [directory])
    conclude(record.directory)
    after = ArmView(directory)
    compared = comparisons(before, after) if after.state == "completed" else []
    facts = {
        "identical": after.state == "completed" and not any(part["differs"] for part in compared),
        "directory": str(record.directory),
        "original": str(arm),
        "error": after.error,
        "compared": compared,
        "environment": environment_differences(original, before, record, after),
    }
    write_json(record.directory / COMPARISON, facts)
    return facts


def rerun_text(facts: Mapping[str, Any]) -> str:
    """The comparison for people."""
    if facts["error"] is not None:
        lines = [f"The rerun failed: {facts['error']}"]
    elif facts["identical"]:
        lines = [f"Identical: {', '.join(_counted(part) for part in facts['compared'])}."]
    else:
        lines = ["Different:"]
        for part in facts["compared"]:
            if not part["differs"]:
                lines.append(f"  {_counted(part)}: the same")
                continue
            first = part["first"]
            lines.append(f"  {_counted(part)}: {part['differs']} differ")
            lines.append(f"    first: {first['where']}: was {first['before']!r}, is {first['now']!r}")
    if facts["environment"]:
        lines += ["", "What is not as it was:"]
        lines += [f"  {part['what']}: was {part['before']!r}, is {part['now']!r}" for part in facts["environment"]]
    else:
        lines += ["", "Code, packages, machine and data are as they were."]
    return "\n".join([*lines, "", str(facts["directory"])])


def _experiment(original: ExperimentRecord, arm: ArmView, out: Path | None) -> ExperimentRecord:
    where = out or _free(original.directory.resolve())
    of = {"experiment": str(original.directory.resolve()), "id": original.id, "arm": arm.name}
    kept = {key: original.facts[key] for key in ("launcher", "base_seed", "dry") if key in original.facts}
    metadata = {**(original.facts.get("metadata") or {}), "baseline": None, "compare": None}
    record = ExperimentRecord.create(
        where.resolve(), name=original.name, metadata=metadata, store="none", rerun_of=of, **kept
    )
    for path in (original.directory / "benchmarks").glob("*.json"):
        (record.directory / "benchmarks").mkdir(exist_ok=True)
        write_json(record.directory / "benchmarks" / path.name, read_json(path))
    return record


def _free(experiment: Path) -> Path:
    number = 1
    while (path := experiment.with_name(f"{experiment.name}-rerun-{number}")).exists():
        number += 1
    return path


def _arm(record: ExperimentRecord, original: ArmView) -> Path:
    """The arm's directory in the new experiment: the same config, and a stage still starts from the original's."""
    directory = record.arm_directory(original.name)
    directory.mkdir(parents=True)
    text = (original.directory / "config.yaml").read_text()
    start = load_plain(original.directory / "config.yaml").get("start_from")
    if start:
        start = {**start, "experiment": start.get("experiment") or str(original.directory.parent.parent)}
        text = yaml.safe_dump({**yaml.safe_load(text), "start_from": start}, sort_keys=False, allow_unicode=True)
    hydra = load_plain(original.directory / "hydra.yaml")
    hydra["sweep"] = {"dir": str(record.directory), "subdir": f"arms/{original.name}"}
    write_atomic(directory / "config.yaml", text)
    write_atomic(directory / "hydra.yaml", yaml.safe_dump(hydra, sort_keys=False, allow_unicode=True))
    facts = {key: value for key, value in original.facts.items() if key != "stage"}
    write_json(directory / "arm.json", {**facts, "role": "arm" if original.role == "stage" else original.role})
    record.add_arms([original.name])
    return directory


@contextlib.contextmanager
def _as_it_was(original: ExperimentRecord, arm: ArmView) -> Iterator[None]:
    """In the working directory and with the number of threads of the original, if that can be had here."""
    noted: dict[str, Any] = {}
    for event in arm.events("provenance"):
        noted = event.get("environment") or {}
    threads, old = noted.get("OMP_NUM_THREADS"), os.environ.get("OMP_NUM_THREADS")
    cwd = Path(original.facts.get("cwd") or ".")
    with contextlib.chdir(cwd if cwd.is_dir() else Path.cwd()):
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads
        try:
            yield
        finally:
            if old is None:
                os.environ.pop("OMP_NUM_THREADS", None)
            else:
                os.environ["OMP_NUM_THREADS"] = old


def _counted(part: Mapping[str, Any]) -> str:
    return f"{part['n']} {part['what']}"
