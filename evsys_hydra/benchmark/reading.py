"""Reading tasks: every bad row is found and named by where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from .. import registry
from ..errors import DataError, UnknownKind
from ..problems import describe_validation
from .task import InProcess, Task

MAX_SHOWN = 10


def read_metadata(file: Path) -> dict[str, Any]:
    """A benchmark's metadata.yaml; empty if there is none.

    Raises:
        DataError: a file that is no mapping.
    """
    if not file.is_file():
        return {}
    import yaml

    try:
        read = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise DataError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if read is not None and not isinstance(read, dict):
        raise DataError(f"{file}: must be a mapping, it is a {type(read).__name__}")
    return read or {}


def read_tasks(rows: Iterable[tuple[str, bytes | Mapping[str, Any] | Task]]) -> list[Task]:
    """Rows as tasks.

    Args:
        rows: where each stands (for messages), and the row: a line of JSON, a mapping or a task.

    Raises:
        DataError: every bad row, the first ten shown.
    """
    tasks: list[Task] = []
    problems: list[str] = []
    first: dict[str, str] = {}
    for where, row in rows:
        try:
            task = _task(row)
        except (ValidationError, orjson.JSONDecodeError) as error:
            problems += [f"{where}: {problem}" for problem in _describe(error)]
            continue
        problems += [f"{where}: {problem}" for problem in [*_verifier_problems(task), *_json_problems(row, task)]]
        if task.task_id in first:
            problems.append(f"{where}: task_id {task.task_id!r} is already that of {first[task.task_id]}")
        first.setdefault(task.task_id, where)
        tasks.append(task)
    if problems:
        more = [f"... and {len(problems) - MAX_SHOWN} more"] if len(problems) > MAX_SHOWN else []
        raise DataError("\n".join(problems[:MAX_SHOWN] + more))
    return tasks


def _task(row: bytes | Mapping[str, Any] | Task) -> Task:
    if isinstance(row, Task):
        return row
    return Task.model_validate(orjson.loads(row) if isinstance(row, bytes) else dict(row))


def _describe(error: ValidationError | orjson.JSONDecodeError) -> list[str]:
    if isinstance(error, ValidationError):
        return describe_validation(error, Task)
    return [f"not JSON: {error}"]


def _json_problems(row: bytes | Mapping[str, Any] | Task, task: Task) -> list[str]:
    """Why a task made by code could not be written down: it is hashed, and its predictions are lines of JSON."""
    if isinstance(row, bytes):
        return []
    try:
        orjson.dumps(task.model_dump(mode="json"))
    except (TypeError, ValueError) as error:  # pydantic's own error is a ValueError
        return [f"has a value that is no JSON: {error}"]
    return []


def _verifier_problems(task: Task) -> list[str]:
    if not isinstance(task.verifier, InProcess):
        return []
    try:
        registry.verifiers.get(task.verifier.fn_name)
    except UnknownKind as error:
        return [f"verifier.fn_name: {error}"]
    return []
