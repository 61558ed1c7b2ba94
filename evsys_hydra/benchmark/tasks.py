"""Tasks and benchmarks: what is asked, and how an answer is checked.

A benchmark is a folder with `tasks.jsonl` (one task a line) and an optional `metadata.yaml`, or rows made by code.
Reading one finds every bad line, and names it by file and line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from pydantic import Field, ValidationError

from .. import registry
from ..config import BenchmarkConfig, ChatTemplate, Strict
from ..errors import DataError
from ..problems import describe_validation

if TYPE_CHECKING:
    from ..inference.client import InferenceClient, PlainClient
    from .results import BenchmarkScore

MAX_SHOWN = 10


class InProcess(Strict):
    """Checked by a registered verifier, called as `fn(output, expected, params) -> reward`."""

    kind: Literal["in_process"]
    fn_name: str
    """Which registered verifier."""
    expected: Any = None
    """What the verifier compares with."""
    params: dict[str, Any] = {}
    """The verifier's settings."""


class LlmJudge(Strict):
    """Judged by an API model that reads the rubric and gives a score."""

    kind: Literal["llm_judge"]
    judge_model: str
    """Name of the judging model."""
    rubric: str
    """What a good answer is, for the judge."""
    expected: Any = None
    """A reference answer shown to the judge; null: none."""


class E2B(Strict):
    """Checked by running code in a sandbox."""

    kind: Literal["e2b"]
    dockerfile: str
    test_sh: str
    test_state_py: str
    expected: Any = None


Verifier = Annotated[InProcess | LlmJudge | E2B, Field(discriminator="kind")]


class Task(Strict):
    """One task: an instruction, and how an answer to it is checked."""

    task_id: str = Field(min_length=1)
    """Unique in its benchmark."""
    instruction: str
    """What the model is asked."""
    verifier: Verifier
    """How an answer is checked."""
    system_prompt: str | None = None
    """System message of this task; null: the benchmark entry's."""
    metadata: dict[str, Any] = {}
    """Anything about the task; breakdown_keys and cluster_key are paths into it."""


@dataclass
class Benchmark:
    """A named list of tasks.

    Args:
        name: what its scores are called.
        tasks: at least one, each with its own task_id.
        metadata: about the benchmark, from metadata.yaml.
        root: its folder; None if it was made by code.
    """

    name: str
    tasks: Sequence[Task]
    metadata: dict[str, Any] = field(default_factory=dict)
    root: Path | None = None

    @cached_property
    def hash(self) -> str:
        """sha256 over the tasks in their order: equal hashes mean equal tasks, wherever they came from."""
        digest = hashlib.sha256()
        for task in self.tasks:
            digest.update(orjson.dumps(task.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS) + b"\n")
        return digest.hexdigest()

    @classmethod
    def from_dir(cls, path: str | Path) -> Benchmark:
        """Read a benchmark folder.

        Raises:
            DataError: a missing file, or every bad line (the first ten shown), each with file and line.
        """
        root = Path(path)
        file = root / "tasks.jsonl"
        if not file.is_file():
            what = "no tasks.jsonl in" if root.is_dir() else "no such benchmark folder:"
            raise DataError(f"{what} {root} (looked for {file.absolute()})")
        metadata = _metadata(root / "metadata.yaml")
        lines = enumerate(file.read_bytes().splitlines(), start=1)
        tasks = _read((f"{file}:{number}", line) for number, line in lines if line.strip())
        if not tasks:
            raise DataError(f"{file}: the file has no tasks")
        return cls(str(metadata.get("name") or root.absolute().name), tasks, metadata, root)

    @classmethod
    def from_iterable(
        cls, name: str, rows: Iterable[Mapping[str, Any] | Task], metadata: Mapping[str, Any] | None = None
    ) -> Benchmark:
        """A benchmark of rows as they would stand in tasks.jsonl.

        Raises:
            DataError: every bad row (the first ten shown).
        """
        tasks = _read((f"{name}: row {number}", row) for number, row in enumerate(rows, start=1))
        if not tasks:
            raise DataError(f"{name}: the benchmark has no tasks")
        return cls(name, tasks, dict(metadata or {}))

    @classmethod
    def load(cls, entry: BenchmarkConfig) -> Benchmark:
        """The benchmark of a config entry: its folder, or its rows made by registered code.

        Raises:
            DataError: tasks that cannot be read.
            UnknownKind: no such generator.
        """
        if entry.generate is None:
            loaded = cls.from_dir(str(entry.path))
            loaded.name = entry.name or loaded.name
            return loaded
        make = registry.benchmarks.get(entry.generate.kind).target
        return cls.from_iterable(entry.name or entry.generate.kind, make(entry.generate))

    def score(
        self,
        client: InferenceClient | PlainClient,
        *,
        max_tokens: int = 512,
        temperature: float = 0.0,
        stop: Sequence[str] | None = None,
        breakdown_keys: Sequence[str] | None = None,
        limit: int | None = None,
        num_samples: int = 1,
        metrics: Sequence[str] = (),
        chat_template: ChatTemplate | None = None,
        seed: int = 0,
        predictions: str | Path | None = None,
    ) -> BenchmarkScore:
        """Score a client on this benchmark.

        Args:
            client: answers requests in bulk, or one prompt at a time.
            metrics: more than the default ones: `pass@k`, `pass^k`, registered ones.
            seed: drives sampling, each sample by its own seed.
            predictions: a .jsonl file for the prediction rows; what is in it already is not generated again.

        Raises:
            ConfigError, DataError: a metric, verifier or setting that cannot be used.
        """
        from ..inference.plain import as_client
        from .scoring import score

        entry = BenchmarkConfig(
            name=self.name,
            path=str(self.root or self.name),
            max_tokens=max_tokens,
            temperature=temperature,
            stop=list(stop or []),
            breakdown_keys=list(breakdown_keys or []),
            limit=limit,
            num_samples=num_samples,
            metrics=list(metrics),
            chat_template=chat_template or ChatTemplate(),
        )
        return score(self, as_client(client), entry, seed=seed, predictions=predictions and Path(predictions))


def check_benchmark(entry: BenchmarkConfig) -> list[str]:
    """Every problem of a benchmark entry that can be found before anything runs; an empty list if there is none."""
    from .verification import unusable

    try:
        tasks = Benchmark.load(entry).tasks[: entry.limit]
    except DataError as error:
        return [f"benchmark: {error}"]
    problems = [f"benchmark: {problem}" for problem in unusable(tasks)]
    keys = [("breakdown_keys", key) for key in entry.breakdown_keys]
    keys += [("cluster_key", entry.cluster_key)] if entry.cluster_key else []
    for name, key in keys:
        if all(at_path(task.metadata, key) is None for task in tasks):
            known = sorted({known for task in tasks for known in task.metadata})
            problems.append(
                f"benchmark.{name}: no task has {key!r} in its metadata; it has {', '.join(known) or 'nothing'}"
            )
    return problems


def at_path(metadata: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted path; None if there is nothing. A key that itself has dots is matched first."""
    if key in metadata:
        return metadata[key]
    value: Any = metadata
    for step in key.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return None
        value = value[step]
    return value


def _metadata(file: Path) -> dict[str, Any]:
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


def _read(rows: Iterable[tuple[str, bytes | Mapping[str, Any] | Task]]) -> list[Task]:
    tasks: list[Task] = []
    problems: list[str] = []
    first: dict[str, str] = {}
    for where, row in rows:
        try:
            task = _task(row)
        except (ValidationError, orjson.JSONDecodeError) as error:
            problems += [f"{where}: {problem}" for problem in _describe(error)]
            continue
        problems += [f"{where}: {problem}" for problem in _verifier_problems(task)]
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


def _verifier_problems(task: Task) -> list[str]:
    if not isinstance(task.verifier, InProcess):
        return []
    try:
        registry.verifiers.get(task.verifier.fn_name)
    except registry.UnknownKind as error:
        return [f"verifier.fn_name: {error}"]
    return []
