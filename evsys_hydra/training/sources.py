"""Where rows come from: files, the config itself, the hub, registered code. Each row comes with its place.

A row that cannot be read is noted as a problem and reading goes on, so that a user sees all of a file's errors at
once (the first ten).
"""

from __future__ import annotations

import csv
import glob
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import orjson

from .. import registry
from ..config import DataConfig, HubData
from ..errors import DataError
from .context import Row

MAX_PROBLEMS = 10


class Located(NamedTuple):
    """A row and where it came from ("rows.jsonl:7")."""

    where: str
    row: Row


@dataclass
class Problems:
    """What is wrong with the data: the first ten are kept, all are counted."""

    shown: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, where: str, what: str) -> None:
        """Note one."""
        self.count += 1
        if len(self.shown) < MAX_PROBLEMS:
            self.shown.append(f"{where}: {what}")

    def raise_if_any(self) -> None:
        """Raises: DataError with all that are kept."""
        if not self.count:
            return
        if self.count == 1:
            raise DataError(self.shown[0])
        more = f"\n  ... and {self.count - len(self.shown)} more" if self.count > len(self.shown) else ""
        raise DataError(f"{self.count} bad rows:\n  " + "\n  ".join(self.shown) + more)


def read(data: DataConfig, problems: Problems) -> Iterator[Located]:
    """The rows of a data config as they are at their source.

    Raises:
        DataError: the source itself cannot be used.
    """
    if data.path is not None:
        for path in paths_of(data.path):
            yield from _READERS[path.suffix.lower()](path, problems)
    elif data.rows is not None:
        yield from (Located(f"data.rows[{place}]", row) for place, row in enumerate(data.rows))
    elif data.hub is not None:
        yield from _read_hub(data.hub)
    elif data.generate is not None:
        rows = registry.datasets.get(data.generate.kind).target(data.generate)
        yield from _objects(f"data.generate kind {data.generate.kind!r}, row ", rows, problems)


def paths_of(path: str) -> list[Path]:
    """The files of a path or glob, sorted.

    Raises:
        DataError: there are none, or their format is not known.
    """
    found = sorted(Path(name) for name in glob.glob(str(Path(path).expanduser()), recursive=True))
    files = [file for file in found if file.is_file()]
    if not files:
        what = "is a directory: give a glob such as " + str(found[0] / "*.jsonl") if found else "no such file"
        raise DataError(f"data.path={path!r}: {what} (looked from {Path.cwd()})")
    for file in files:
        if file.suffix.lower() not in _READERS:
            raise DataError(f"data.path={path!r}: {file.name} has no known format; known: {', '.join(_READERS)}")
    return files


def _read_jsonl(path: Path, problems: Problems) -> Iterator[Located]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                problems.add(where, f"not JSON ({error})")
                continue
            if isinstance(row, dict):
                yield Located(where, row)
            else:
                problems.add(where, f"a line must be a JSON object, not {type(row).__name__}")


def _read_json(path: Path, problems: Problems) -> Iterator[Located]:
    try:
        rows = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}:{getattr(error, 'lineno', 1)}: not JSON ({error})") from error
    if not isinstance(rows, list):
        raise DataError(f"{path}: must hold a JSON list of objects, not {type(rows).__name__}; (one a line: .jsonl)")
    yield from _objects(f"{path}: item ", rows, problems)


def _read_csv(path: Path, problems: Problems) -> Iterator[Located]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="", strict=True)
        try:
            for row in reader:
                where = f"{path}:{reader.line_num}"
                columns = len(reader.fieldnames or ())
                if "" in row or None in row.values():
                    problems.add(where, f"does not have the {columns} columns of the header")
                else:
                    yield Located(where, dict(row))
        except (csv.Error, UnicodeDecodeError) as error:
            problems.add(f"{path}:{reader.line_num + 1}", f"not CSV ({error})")


def _read_parquet(path: Path, problems: Problems) -> Iterator[Located]:
    # Half a second of import, only for this format.
    from pyarrow.lib import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)  # type: ignore[no-untyped-call]
    except (ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a parquet file ({error})") from error
    number = 0
    with file:
        for batch in file.iter_batches():  # type: ignore[no-untyped-call]
            for row in batch.to_pylist():
                number += 1
                yield Located(f"{path}: row {number}", row)


def _objects(prefix: str, rows: list[Row], problems: Problems) -> Iterator[Located]:
    for number, row in enumerate(rows, start=1):
        if isinstance(row, dict):
            yield Located(f"{prefix}{number}", row)
        else:
            problems.add(f"{prefix}{number}", f"must be an object, not {type(row).__name__}")


def _read_hub(hub: HubData) -> Iterator[Located]:
    try:
        from datasets.load import load_dataset  # not needed for any other source
    except ImportError as error:
        raise DataError(
            f"data.hub.name={hub.name!r}: needs the package `datasets` (pip install datasets), or save the rows to a "
            "file and use data.path"
        ) from error
    try:
        rows = load_dataset(hub.name, hub.config, split=hub.split)
    except Exception as error:  # the package raises dozens of kinds; the user needs the dataset's name
        raise DataError(
            f"data.hub: cannot load {hub.name!r} (config {hub.config!r}, split {hub.split!r}): "
            f"{type(error).__name__}: {error}"
        ) from error
    for number, row in enumerate(rows, start=1):
        yield Located(f"{hub.name}: row {number}", dict(row))


_READERS: dict[str, Callable[[Path, Problems], Iterator[Located]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
