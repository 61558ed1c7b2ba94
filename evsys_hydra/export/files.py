"""Writing tables as CSV, JSON lines or Parquet: streamed, and each file whole or not there."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from ..errors import ConfigError, RecordError
from .tables import Row, Table, tables_of

Format = Literal["csv", "json", "parquet"]
SUFFIX: dict[str, str] = {"csv": "csv", "json": "jsonl", "parquet": "parquet"}
ROWS_AT_ONCE = 5000


@dataclass(frozen=True)
class Exported:
    """A file that was written."""

    table: str
    path: str
    rows: int


def export(
    directory: Path, format: str, folder: Path | None = None, on_file: Callable[[Exported], None] | None = None
) -> list[Exported]:
    """Write an experiment's tables.

    Args:
        format: csv, json (one object a line) or parquet.
        folder: made if it does not exist; None: export/ in the experiment's directory.
        on_file: told of each file when it is there.

    Raises:
        ConfigError: no such format, or its library is missing.
        RecordError: no experiment, or the files cannot be written.
    """
    if format not in get_args(Format):
        raise ConfigError(f"--format {format!r} is none of {', '.join(get_args(Format))}")
    if format == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError("--format parquet needs pyarrow: pip install 'evsys_hydra[data]', or use --format csv")
    where = folder or directory / "export"
    made = []
    try:
        where.mkdir(parents=True, exist_ok=True)
        for table in tables_of(directory):
            made.append(write(table, where / f"{table.name}.{SUFFIX[format]}", format))
            if on_file is not None:
                on_file(made[-1])
    except OSError as error:
        raise RecordError(f"{where} cannot be written: {error.strerror or error}") from error
    return made


def write(table: Table, path: Path, format: str) -> Exported:
    """Write one table; an earlier file stays until the new one is complete."""
    writers: dict[str, Callable[[Table, Path], int]] = {"csv": as_csv, "json": as_json, "parquet": as_parquet}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        rows = writers[format](table, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return Exported(table.name, str(path), rows)


def as_csv(table: Table, path: Path) -> int:
    """A header, then the rows; None is an empty field."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\r\n")  # as RFC 4180 has it; a lone \r in a value is quoted then
        writer.writerow(table.columns)
        return _counted(table.rows(), writer.writerow)


def as_json(table: Table, path: Path) -> int:
    """One object a line."""
    names = list(table.columns)
    with path.open("wb") as file:
        return _counted(table.rows(), lambda row: file.write(orjson.dumps(dict(zip(names, row, strict=True))) + b"\n"))


def as_parquet(table: Table, path: Path) -> int:
    """Row groups of some thousand rows, so that a large table is never whole in memory."""
    pa: Any = importlib.import_module("pyarrow")  # large, and not always installed
    pq: Any = importlib.import_module("pyarrow.parquet")
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in table.columns.items()])
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        for rows in _parts(table.rows()):
            columns = list(zip(*rows, strict=True))
            arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += len(rows)
    return count


def _counted(rows: Iterable[Row], take: Callable[[Row], Any]) -> int:
    count = 0
    for row in rows:
        take(row)
        count += 1
    return count


def _parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while part := list(islice(iterator, ROWS_AT_ONCE)):
        yield part
