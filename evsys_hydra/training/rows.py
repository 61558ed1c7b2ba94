"""The training rows of an arm: source, template, transforms, limit; and the cheap look that the driver takes first."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import orjson

from .. import registry
from ..config import DataConfig, KindConfig
from ..errors import DataError
from .context import Row
from .shapes import row_problem
from .sources import Located, Problems, paths_of, read
from .templates import MissingField, apply_template

CHECKED_ROWS = 20_000
"""So many rows are looked at before launch; an arm itself checks them all."""
BUILTIN_TRANSFORMS = "evsys_hydra.training.transforms"


def load_rows(data: DataConfig, algorithm: KindConfig | None = None) -> list[Row]:
    """All rows of a data config, ready for an algorithm.

    Args:
        algorithm: whose rows they are; its `row_problem`, if it has one, says which it takes. None: the shapes in
            `shapes.ACCEPTED`.

    Returns:
        The rows, in the source's order unless a transform changes it.

    Raises:
        DataError: naming file and line (or item), the field, and what is accepted; up to ten bad rows at once.
    """
    problems = Problems()
    located = _templated(data, read(data, problems), problems)
    problems.raise_if_any()
    rows = _shaped(located, _transformed(data.transforms, [item.row for item in located]), algorithm)
    if not rows:
        raise DataError(f"data: no rows are left ({len(located)} before the transforms); there is nothing to train on")
    return rows[: data.limit]


def check_data(data: DataConfig, algorithm: KindConfig | None = None) -> list[str]:
    """Problems of the data that can be found before launch: missing files, malformed lines, fields that are missing.

    Looks at the first `CHECKED_ROWS` rows; does not download from the hub, and runs neither the user's own generators
    nor their transforms.
    """
    if data.hub is not None:
        missing = importlib.util.find_spec("datasets") is None
        return [f"data.hub.name={data.hub.name!r}: needs the package `datasets`"] if missing else []
    if data.generate is not None and data.generate.kind not in registry.datasets.builtin:
        return []
    problems = Problems()
    try:
        head = list(islice(read(data, problems), CHECKED_ROWS))
        if data.path is not None and not head and not problems.count:
            names = ", ".join(str(path) for path in paths_of(data.path))
            return [f"data.path={data.path!r}: no rows in {names}"]
        located = _templated(data, head, problems)
        problems.raise_if_any()
        if all(registry.transforms.get(item.kind).module == BUILTIN_TRANSFORMS for item in data.transforms):
            _shaped(located, _transformed(data.transforms, [item.row for item in located]), algorithm)
    except DataError as error:
        return [str(error)]
    return []


def rows_hash(rows: Sequence[Row]) -> str:
    """sha256 of the rows in their order: equal rows, equal hash, whatever file they came from."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(orjson.dumps(row, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS))
        digest.update(b"\n")
    return digest.hexdigest()


def _templated(data: DataConfig, located: Iterable[Located], problems: Problems) -> list[Located]:
    if data.template is None:
        return list(located)
    done: list[Located] = []
    for where, row in located:
        try:
            done.append(Located(where, apply_template(data.template, row)))
        except MissingField as error:
            problems.add(where, str(error))
    return done


def _transformed(transforms: Sequence[KindConfig], rows: list[Row]) -> list[Row]:
    for place, config in enumerate(transforms):
        entry = registry.transforms.get(config.kind)
        try:
            rows = list(entry.target(rows, config))
        except DataError:
            raise
        except Exception as error:  # the user's code: say which transform it was
            raise DataError(f"data.transforms[{place}] ({config.kind}): {type(error).__name__}: {error}") from error
    return rows


def _shaped(located: Sequence[Located], rows: list[Row], algorithm: KindConfig | None) -> list[Row]:
    """The rows, if each can be trained on. A row that a transform passed on unchanged keeps its place in the file."""
    problem_of: Callable[[object], str | None] = getattr(algorithm, "row_problem", row_problem)
    places = {id(item.row): item.where for item in located}
    problems = Problems()
    for number, row in enumerate(rows, start=1):
        problem = problem_of(row)
        if problem is not None:
            problems.add(places.get(id(row), f"row {number} after data.transforms"), problem)
    problems.raise_if_any()
    return rows
