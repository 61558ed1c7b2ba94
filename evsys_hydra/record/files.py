"""The three ways a record touches the disk.

`write_atomic` replaces a whole file or leaves the old one; `append_line` adds one line with one write(); `read_lines`
skips a torn line. A process killed at any byte loses at most the line it was writing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def to_json(value: Any) -> bytes:
    """Compact JSON; NaN and infinities become null, unknown objects their str()."""
    return orjson.dumps(value, default=str, option=JSON_OPTIONS)


def write_atomic(path: Path, data: bytes | str, *, durable: bool = True) -> None:
    """Replace `path` by `data`: a reader sees the old content or the new one, never a part.

    Args:
        durable: also wait for the disk (fsync), so that the content survives a crash of the machine.
    """
    if isinstance(data, str):
        data = data.encode()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """`write_atomic` of indented JSON."""
    text = orjson.dumps(value, default=str, option=JSON_OPTIONS | orjson.OPT_INDENT_2)
    write_atomic(path, text + b"\n", durable=durable)


def read_json(path: Path) -> Any | None:
    """The file's content; None if it does not exist or is not JSON."""
    try:
        return orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, orjson.JSONDecodeError):
        return None


class LineWriter:
    """Appends JSON lines to one file, each with a single write().

    The file is opened at the first line. If a killed predecessor left a torn line, the first line written here
    starts on a line of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def append(self, value: Any) -> None:
        """Write one line. Raises OSError if the disk refuses it (the line may then be torn)."""
        if self._fd is None:
            self._fd = self._open()
        line = to_json(value) + b"\n"
        written = os.write(self._fd, line)
        if written != len(line):  # a disk that fills up takes a part: end the torn line, then say so
            os.write(self._fd, b"\n")
            raise OSError(f"only {written} of {len(line)} bytes were written to {self.path}")

    def sync(self) -> None:
        """Wait until every line is on the disk."""
        if self._fd is not None:
            os.fsync(self._fd)

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            os.write(fd, b"\n")
        return fd


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The complete JSON objects of a file of lines; torn lines and a missing file give nothing."""
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return
    with file:
        for line in file:
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(value, dict):
                yield value
