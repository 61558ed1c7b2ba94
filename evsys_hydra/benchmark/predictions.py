"""The file of an eval's predictions: written as samples finish, read back when an evaluation is resumed.

Each row carries a fingerprint of what it depends on (tasks, prompt and sampling settings, seed, the client's
identity), so rows of another benchmark or checkpoint are never taken for this one's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from ..config import BenchmarkConfig
from ..record.files import LineWriter, read_lines, to_json, write_atomic
from .results import PredictionRow

SampleKey = tuple[str, int]
UNVERIFIED = "unverified"
"""Marks, in a row's metadata, an answer that came but could not be verified."""


def fingerprint(entry: BenchmarkConfig, benchmark_hash: str, seed: int, identity: str | None) -> str:
    """What a sample depends on, as 16 hex digits; limit, num_samples and metrics are not part of it."""
    facts = {
        "benchmark": benchmark_hash,
        "seed": seed,
        "client": identity,
        "max_tokens": entry.max_tokens,
        "temperature": entry.temperature,
        "stop": entry.stop,
        "chat_template": entry.chat_template.model_dump(),
    }
    if entry.sandbox is not None:
        facts["sandbox"] = {"kind": entry.sandbox, **entry.sandbox_limits.model_dump()}
    return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def sample_seed(seed: int, task_id: str, sample_idx: int) -> int:
    """The seed of one sample, the same whatever else is scored; 31 bits, which every server accepts."""
    digest = hashlib.sha256(f"{seed}\0{task_id}\0{sample_idx}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class PredictionFile:
    """The prediction rows of one eval on disk.

    Args:
        path: the .jsonl file; None keeps nothing on disk.
        mark: the fingerprint of this evaluation.
        versions: task_id -> its verifier's version, where it is known.
        resume: whether rows that are there count.

    A row of the same fingerprint is kept if its verifier is of the same version; if it is of another one, or could not
    verify the answer, the row is in `unverified`: what was answered is to be verified again, not generated again. Other
    errored predictions are tried again. If other rows are there too, the whole old file is kept as `<name>.old`, and
    the file begins with the rows that count.
    """

    def __init__(
        self, path: Path | None, mark: str, versions: Mapping[str, str] | None = None, *, resume: bool = True
    ) -> None:
        self.mark = mark
        self.versions = versions or {}
        self.error: str | None = None
        self.kept: dict[SampleKey, PredictionRow] = {}
        self.unverified: dict[SampleKey, PredictionRow] = {}
        self._refused = False
        self._old_is_kept = False
        self._path = path
        self._writer = LineWriter(path) if path is not None else None
        if path is not None and path.exists():
            self._take_over(path, resume)

    def verified(self, rows: Mapping[SampleKey, PredictionRow]) -> None:
        """Put rows that were verified again in the place of what they were; the old file is kept."""
        self.unverified = {key: row for key, row in self.unverified.items() if key not in rows}
        self.kept.update(rows)
        if self._path is not None:
            self._rewrite(self._path)

    def write(self, row: PredictionRow) -> None:
        """Append a row; a disk that refuses is noted in `error`, and scoring goes on without it."""
        if self._writer is None or self._refused:
            return
        try:
            self._writer.append(row)
        except TypeError as error:  # no JSON: this row only
            self.error = self.error or f"the prediction of {row['task_id']} could not be written: {error}"
        except OSError as error:
            self._refused = True
            self.error = f"predictions could not be written to {self._writer.path}: {error}"

    def close(self) -> None:
        """Wait until the rows are on the disk."""
        if self._writer is None:
            return
        try:
            self._writer.sync()
        except OSError as error:
            self.error = self.error or f"predictions could not be written to {self._writer.path}: {error}"
        self._writer.close()

    def _take_over(self, path: Path, resume: bool) -> None:
        rows = list(read_lines(path))
        for row in rows if resume else []:
            metadata = row.get("metadata") or {}
            if metadata.get("eval") != self.mark:
                continue
            key, version = (row["task_id"], row["sample_idx"]), metadata.get("verifier")
            if row.get("error") is not None:
                if metadata.get(UNVERIFIED):
                    self.unverified[key] = row
            elif version is None or version == self.versions.get(row["task_id"], version):
                self.kept[key] = row
            else:
                self.unverified[key] = row
        if len(self.kept) + len(self.unverified) < len(rows):
            self._rewrite(path)

    def _rewrite(self, path: Path) -> None:
        rows = [*self.kept.values(), *self.unverified.values()]
        try:
            if not self._old_is_kept:
                write_atomic(path.with_name(f"{path.name}.old"), path.read_bytes())
                self._old_is_kept = True
            write_atomic(path, b"".join(to_json(row) + b"\n" for row in rows))
        except OSError as error:
            self._refused = True
            self.error = f"predictions could not be written to {path}: {error}"


def prediction_row(
    mark: str, task: Any, sample_idx: int, output: str, reward: float | None, error: str | None, facts: dict[str, Any]
) -> PredictionRow:
    """One row, the same whatever engine made the sample.

    Args:
        task: the benchmark's Task.
        facts: latency_s, prompt_tokens, completion_tokens, and what else is known of the sample.
    """
    return {
        "kind": "eval",
        "task_id": task.task_id,
        "sample_idx": sample_idx,
        "instruction": task.instruction,
        "expected": task.verifier.expected,
        "reward": reward,
        "output": output,
        "error": error,
        "metadata": {**facts, "eval": mark, "task": task.metadata},
    }
