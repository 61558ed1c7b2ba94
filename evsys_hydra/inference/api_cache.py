"""Answers of API models on disk: what was paid for once is not asked again."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from ..record.files import LineWriter, read_lines
from .client import Result

FIELDS = frozenset(Result.__dataclass_fields__)


class ResponseCache:
    """One file a model: each line is a request's hash and its answer. Errors are not kept.

    A request is its whole body: model, messages (so the task and the system prompt), max_tokens, temperature, stop, and
    when sampling the seed, which differs for each sample of each task.

    Args:
        directory: made if it is not there; several processes may share it.
        identity: the model and its server.
    """

    def __init__(self, directory: Path, identity: str) -> None:
        path = directory / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.jsonl"
        rows = (row for row in read_lines(path) if "key" in row and isinstance(row.get("result"), dict))
        self._kept = {row["key"]: {name: row["result"][name] for name in FIELDS & row["result"].keys()} for row in rows}
        self._writer = LineWriter(path)

    def get(self, body: dict[str, Any]) -> Result | None:
        """The answer to an equal request; None if there is none."""
        kept = self._kept.get(key_of(body))
        return Result(**kept) if kept is not None else None

    def put(self, body: dict[str, Any], result: Result) -> None:
        """Keep an answer. A disk that refuses costs the cache, not the answer."""
        key = key_of(body)
        self._kept[key] = asdict(result)
        try:
            self._writer.append({"key": key, "result": self._kept[key]})
        except (OSError, TypeError):
            return


def key_of(body: dict[str, Any]) -> str:
    """What equal requests have in common."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
