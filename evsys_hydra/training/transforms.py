"""Built-in transforms: rows to rows, before training. Each is deterministic; the random ones have a seed of their own.

A transform is `transform(rows, config) -> rows`, registered under a kind; the rows it is given may be changed.
"""

from __future__ import annotations

import random
from typing import Literal

import orjson
from pydantic import Field, model_validator

from ..config import KindConfig
from ..errors import DataError
from ..registry import register_transform
from .context import Row
from .templates import as_text


class Dedupe(KindConfig):
    """Settings of `dedupe`."""

    kind: Literal["dedupe"] = "dedupe"
    fields: list[str] | None = None
    """Rows equal in these fields are the same; null: in all fields."""


@register_transform("dedupe", config=Dedupe)
def dedupe(rows: list[Row], config: Dedupe) -> list[Row]:
    """Keep the first of rows that are the same."""
    first: dict[bytes, Row] = {}
    for row in rows:
        part = row if config.fields is None else {name: row.get(name) for name in config.fields}
        first.setdefault(orjson.dumps(part, default=str, option=orjson.OPT_SORT_KEYS), row)
    return list(first.values())


class FilterLength(KindConfig):
    """Settings of `filter_length`."""

    kind: Literal["filter_length"] = "filter_length"
    field: str | None = None
    """Measure this field; null: all the text of the row (messages, prompt and completion, or text)."""
    min_chars: int = Field(0, ge=0)
    """Shorter rows are left out."""
    max_chars: int | None = Field(None, ge=1)
    """Longer rows are left out; null: no limit."""


@register_transform("filter_length", config=FilterLength)
def filter_length(rows: list[Row], config: FilterLength) -> list[Row]:
    """Keep rows whose text has a length, in characters, within the limits."""
    longest = config.max_chars if config.max_chars is not None else float("inf")
    return [row for row in rows if config.min_chars <= _chars(row, config.field) <= longest]


def _chars(row: Row, field: str | None) -> int:
    if field is not None:
        return len(as_text(row.get(field, "")))
    messages = row.get("messages")
    if isinstance(messages, list):
        return sum(len(as_text(message.get("content") or "")) for message in messages if isinstance(message, dict))
    return sum(len(as_text(row[name])) for name in ("prompt", "completion", "text") if row.get(name) is not None)


class Rename(KindConfig):
    """Settings of `rename`."""

    kind: Literal["rename"] = "rename"
    fields: dict[str, str] = Field(min_length=1)
    """Old name -> new name."""

    @model_validator(mode="after")
    def _unique(self) -> Rename:
        if len(set(self.fields.values())) < len(self.fields):
            raise ValueError(f"two fields get the same new name: {self.fields}")
        return self


@register_transform("rename", config=Rename)
def rename(rows: list[Row], config: Rename) -> list[Row]:
    """Rename fields; a row that lacks one is an error."""
    renamed = []
    for number, row in enumerate(rows, start=1):
        missing = [name for name in config.fields if name not in row]
        if missing:
            raise DataError(f"transform rename: row {number} has no field {missing[0]!r}; its fields: {', '.join(row)}")
        kept = {key: value for key, value in row.items() if key not in config.fields}
        renamed.append(kept | {new: row[old] for old, new in config.fields.items()})
    return renamed


class Sample(KindConfig):
    """Settings of `sample`: one of n and fraction."""

    kind: Literal["sample"] = "sample"
    n: int | None = Field(None, ge=1)
    """So many rows (all, if there are fewer)."""
    fraction: float | None = Field(None, gt=0, le=1)
    """This share of the rows."""
    seed: int = 0
    """Which rows; not the arm's seed, so that replicates share their data."""

    @model_validator(mode="after")
    def _one(self) -> Sample:
        if (self.n is None) == (self.fraction is None):
            raise ValueError("exactly one of n, fraction must be set")
        return self


@register_transform("sample", config=Sample)
def sample(rows: list[Row], config: Sample) -> list[Row]:
    """Draw rows without replacement; they keep their order."""
    wanted = config.n if config.n is not None else round(len(rows) * (config.fraction or 0))
    chosen = random.Random(config.seed).sample(range(len(rows)), min(wanted, len(rows)))
    return [rows[place] for place in sorted(chosen)]


class Shuffle(KindConfig):
    """Settings of `shuffle`."""

    kind: Literal["shuffle"] = "shuffle"
    seed: int = 0
    """Which order. Training shuffles anyway, by the arm's seed: this is for a `limit` after it."""


@register_transform("shuffle", config=Shuffle)
def shuffle(rows: list[Row], config: Shuffle) -> list[Row]:
    """Put the rows into random order."""
    shuffled = list(rows)
    random.Random(config.seed).shuffle(shuffled)
    return shuffled
