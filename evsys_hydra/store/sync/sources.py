"""What arms were trained and scored on: benchmarks with their tasks, datasets with their rows if they are few.

Each is made once in a store, for all experiments, and found again by its name and the hash of its content. Tasks and
rows are read from where the config says, and go along only if they still have the hash that the arm recorded.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...composed import load_config, typed_config
from ...config import DataConfig, ExperimentConfig
from ..errors import BadRequest, UnknownId
from . import fields
from .cursor import ExperimentCursor
from .sender import Sender, namespace

FEW_ROWS = 1000
"""A dataset of no more rows goes to the store with them; of a larger one only the record."""
ROWS_AT_ONCE = 200
Kind = Literal["benchmark", "dataset"]
Content = Callable[[], Sequence[Any] | None]


@dataclass
class Sources:
    """Gives the ids in the store of what the arms' events name, and makes there what is new.

    Args:
        cursor: remembers the ids.
        sender: sends.
    """

    cursor: ExperimentCursor
    sender: Sender

    def benchmark(self, event: Mapping[str, Any], arm: Path) -> str | None:
        """The id of an eval's benchmark; it carries the eval's name. None in a store without benchmarks.

        Args:
            event: the eval.
            arm: the directory of the arm that recorded it.
        """
        given, name, content = fields.benchmark_of(event)
        if given is not None:
            return given
        metadata = {"hash": content} if content else {}
        args = {"name": name, "format": "evsys", "metadata": metadata}
        return self._known_or_new("benchmark", args, lambda: tasks_of(arm, name, content, event.get("settings")))

    def dataset(self, event: Mapping[str, Any], arm: Path) -> str | None:
        """The id of the dataset of an arm's provenance event; None if it names none."""
        content, n_rows = event.get("data_sha256"), event.get("n_rows") or 0
        data = fields.read_config(arm / "config.yaml").get("data")
        if not content or not isinstance(data, Mapping):
            return None
        args = {**fields.dataset_fields(data), "metadata": {"hash": content, "n_rows": n_rows}}
        few = n_rows <= FEW_ROWS and data.get("hub") is None
        return self._known_or_new("dataset", args, lambda: rows_of(arm, content) if few else None)

    def _known_or_new(self, kind: Kind, args: dict[str, Any], content: Content) -> str | None:
        if not hasattr(self.sender.store, f"create_{kind}"):
            return None
        known = self.cursor.benchmarks if kind == "benchmark" else self.cursor.datasets
        key = f"{args['name']}@{args['metadata'].get('hash') or ''}"
        if key not in known:
            try:
                made = self._find(kind, args) or self._make(kind, args)
                self._fill(kind, made, content)
            except (BadRequest, UnknownId):  # a store without benchmarks: the eval goes without
                return None
            known[key] = made
            self.cursor.save()
        return known[key]

    def _find(self, kind: Kind, args: Mapping[str, Any]) -> str | None:
        for row in self.sender.call(f"list_{kind}s"):
            hashes = ((row.get("metadata") or {}).get("hash"), args["metadata"].get("hash"))
            if row.get("name") == args["name"] and hashes[0] == hashes[1]:
                return str(row["id"])
        return None

    def _make(self, kind: Kind, args: dict[str, Any]) -> str:
        whose = (kind, str(self.sender.store.project_id), args["name"], str(args["metadata"].get("hash")))
        id = uuid.uuid5(namespace("evsys_hydra"), "\n".join(whose)).hex  # the same for all experiments
        return self.sender.make(f"create_{kind}", self.cursor, f"{kind} {args['name']}", args, id=id, known=())

    def _fill(self, kind: Kind, id: str, content: Content) -> None:
        """Send the rows that are not there: an earlier sync may have been cut off in between."""
        rows = content()
        if not rows:
            return
        there = int((self.sender.call(f"get_{kind}", **{f"{kind}_id": id}) or {}).get("n_rows") or 0)
        for start in range(there, len(rows), ROWS_AT_ONCE):
            part = list(rows[start : start + ROWS_AT_ONCE])
            self.sender.call(f"add_{kind}_rows", **{f"{kind}_id": id}, rows=part, start_idx=start)


def tasks_of(
    arm: Path, name: str, content: str | None, settings: Mapping[str, Any] | None = None
) -> list[dict[str, Any]] | None:
    """The tasks of a benchmark of an arm's config; None if they are not to be had here, or are others by now.

    Args:
        settings: the benchmark of an eval that the config does not name.
    """
    from ...benchmark import Benchmark
    from ...config import BenchmarkConfig

    config = _config(arm)
    entries: list[Any] = [*(config.metadata.benchmark if config is not None else []), *([settings] if settings else [])]
    for entry in entries:
        try:
            entry = BenchmarkConfig.model_validate(entry)
            benchmark = Benchmark.load(entry)
        except Exception:  # a folder that is not on this machine, a generator of a plugin
            continue
        if benchmark.hash == content and (entry.name or benchmark.name) == name:
            return [task.model_dump(mode="json", exclude_none=True) for task in benchmark.tasks]
    return None


def rows_of(arm: Path, content: str) -> Sequence[Any] | None:
    """The training rows of an arm; None if they are not to be had here, or are others by now."""
    from ...training.rows import load_rows, rows_hash

    config = _config(arm)
    data: DataConfig | None = config.data if config is not None else None
    try:
        rows = load_rows(data) if data is not None else None
    except Exception:  # a file that is not on this machine, a generator of a plugin
        return None
    return rows if rows and rows_hash(rows) == content else None


def _config(arm: Path) -> ExperimentConfig | None:
    try:
        return typed_config(load_config(arm / "config.yaml"))
    except Exception:  # a plugin or a secret that only the arm's own process has
        return None
