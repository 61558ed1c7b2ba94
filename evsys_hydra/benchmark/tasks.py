"""Benchmarks: named lists of tasks, from a folder or made by code.

A benchmark is a folder with `tasks.jsonl` (one task a line) and an optional `metadata.yaml`, or rows made by code.
Reading one finds every bad line, and names it by file and line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from .. import registry
from ..config import BenchmarkConfig, ChatTemplate, KindConfig, SandboxLimits
from ..errors import DataError
from .reading import read_metadata, read_tasks
from .task import E2B, InProcess, LlmJudge, Task, at_path

if TYPE_CHECKING:
    from ..inference.client import InferenceClient, PlainClient
    from .results import BenchmarkScore

ADDED_LATER = ("max_tokens", "stop", "choices", "choice_delimiter", "choice_norm")
"""Fields of a task that the hash leaves out where they are null: tasks without them keep the hash they had before."""
__all__ = ["E2B", "Benchmark", "InProcess", "LlmJudge", "Task", "check_benchmark"]


@dataclass
class Benchmark:
    """A named list of tasks.

    Args:
        name: what its scores are called.
        tasks: at least one, each with its own task_id.
        metadata: about the benchmark, from metadata.yaml.
        root: its folder; None if it was made by code.
        places: where each task stands, for messages; empty: they are named by their ids.
    """

    name: str
    tasks: Sequence[Task]
    metadata: dict[str, Any] = field(default_factory=dict)
    root: Path | None = None
    places: Sequence[str] = ()

    @cached_property
    def hash(self) -> str:
        """sha256 over the tasks in their order: equal hashes mean equal tasks, wherever they came from."""
        digest = hashlib.sha256()
        for task in self.tasks:
            unset = {name for name in ADDED_LATER if getattr(task, name) is None}
            row = task.model_dump(mode="json", exclude=unset)
            digest.update(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) + b"\n")
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
        metadata = read_metadata(root / "metadata.yaml")
        lines = enumerate(file.read_bytes().splitlines(), start=1)
        rows = {f"{file}:{number}": line for number, line in lines if line.strip()}
        tasks = read_tasks(rows.items())
        if not tasks:
            raise DataError(f"{file}: the file has no tasks")
        return cls(str(metadata.get("name") or root.absolute().name), tasks, metadata, root, list(rows))

    @classmethod
    def from_iterable(
        cls, name: str, rows: Iterable[Mapping[str, Any] | Task], metadata: Mapping[str, Any] | None = None
    ) -> Benchmark:
        """A benchmark of rows as they would stand in tasks.jsonl.

        Raises:
            DataError: every bad row (the first ten shown).
        """
        tasks = read_tasks((f"{name}: row {number}", row) for number, row in enumerate(rows, start=1))
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
        verifier_timeout: float = 10.0,
        sandbox: Literal["bubblewrap"] | None = None,
        sandbox_limits: SandboxLimits | None = None,
        seed: int = 0,
        predictions: str | Path | None = None,
        identity: str | None = None,
    ) -> BenchmarkScore:
        """Score a client on this benchmark.

        Args:
            client: answers requests in bulk, or one prompt at a time.
            metrics: more than the default ones: `pass@k`, `pass^k`, registered ones.
            verifier_timeout: seconds one verification may take.
            sandbox: allows verifiers that run the answers' code, in a sandbox; None: they are refused.
            sandbox_limits: what one sandboxed program may use; None: the default ones.
            seed: drives sampling, each sample by its own seed.
            predictions: a .jsonl file for the prediction rows; what is in it of the same identity is not generated
                again.
            identity: which weights answer; None: the client's own `identity`. Without either, nothing is taken from
                the file.

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
            verifier_timeout=verifier_timeout,
            sandbox=sandbox,
            sandbox_limits=sandbox_limits or SandboxLimits(),
        )
        path = Path(predictions) if predictions is not None else None
        return score(self, as_client(client), entry, seed=seed, predictions=path, identity=identity)


def name_of(entry: BenchmarkConfig) -> str:
    """What the scores of a config entry are called, whether its tasks can be read or not."""
    if entry.name is not None:
        return entry.name
    if entry.generate is not None:
        return entry.generate.kind
    root = Path(str(entry.path))
    try:
        return str(read_metadata(root / "metadata.yaml").get("name") or root.absolute().name)
    except (DataError, OSError):
        return root.absolute().name


def check_benchmark(entry: BenchmarkConfig, inference: KindConfig | None = None) -> list[str]:
    """Every problem of a benchmark entry that can be found before anything runs; an empty list if there is none.

    Args:
        inference: what will answer; None: not known.
    """
    from .choices import choice_problems
    from .verification import limits_of, unusable

    try:
        loaded = Benchmark.load(entry)
    except DataError as error:
        return [f"benchmark: {error}"]
    tasks = loaded.tasks[: entry.limit]
    allowed = limits_of(entry.sandbox, entry.sandbox_limits)
    problems = [f"benchmark: {problem}" for problem in unusable(tasks, allowed, loaded.places)]
    problems += choice_problems(tasks, entry, inference)
    keys = [("breakdown_keys", key) for key in entry.breakdown_keys]
    keys += [("cluster_key", entry.cluster_key)] if entry.cluster_key else []
    for name, key in keys:
        if all(at_path(task.metadata, key) is None for task in tasks):
            known = sorted({known for task in tasks for known in task.metadata})
            problems.append(
                f"benchmark.{name}: no task has {key!r} in its metadata; it has {', '.join(known) or 'nothing'}"
            )
    return problems
