"""Reading files of lines from where one stopped, while somebody may still be writing them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson


def lines_from(path: Path, offset: int, mark: bytes = b"") -> Iterator[tuple[dict[str, Any], int]]:
    """The complete JSON objects after byte `offset`, each with the byte after it.

    A torn line in the middle is skipped. A last line without its end is given only if it is complete: what is half
    written now is read the next time.

    Args:
        mark: lines without these bytes are passed over, unparsed.
    """
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return
    with file:
        file.seek(offset)
        for line in file:
            offset += len(line)
            value = _parsed(line) if mark in line else None
            if value is not None:
                yield value, offset


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
