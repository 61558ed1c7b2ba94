"""Entries of reasoning-gym datasets as JSON, and back: what reasoning_gym.py runs in a process of its own.

Datasets compare tuples and use mappings with keys that are no strings, which JSON does not have; both are marked, so
that an entry read back equals the entry made.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from typing import Any

import orjson

from ..hints import did_you_mean

TUPLE, PAIRS = "__tuple__", "__pairs__"


def main() -> None:
    """Read {names, n, seed, config} from stdin; write {entries: [...]} or {error: field and text} to stdout."""
    answer_to = os.dup(1)
    os.dup2(2, 1)  # some datasets print
    asked = orjson.loads(sys.stdin.buffer.read())
    try:
        answer: dict[str, Any] = {"entries": _made(**asked)}
    except _Refused as refused:
        answer = {"error": str(refused)}
    with os.fdopen(answer_to, "wb") as out:
        out.write(orjson.dumps(answer))


class _Refused(Exception):
    """Settings that cannot be used; the text begins with the field."""


def dataset_of(name: str, config: Mapping[str, Any]) -> Any:
    """A reasoning-gym dataset.

    Raises:
        KeyError: an unknown dataset.
        Exception: what a dataset raises for settings that it refuses.
    """
    from reasoning_gym.factory import DATASETS

    made, config_type = DATASETS[name]
    settings = config_type(**config)
    if hasattr(settings, "validate"):
        settings.validate()
    return made(config=settings)


def plain(value: Any) -> Any:
    """A value of an entry as JSON has it, tuples and odd mappings marked."""
    if isinstance(value, tuple):
        return {TUPLE: [plain(each) for each in value]}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: plain(each) for key, each in value.items()}
        return {PAIRS: [[plain(key), plain(each)] for key, each in value.items()]}
    return value


def restored(value: Any) -> Any:
    """The value that `plain` made this of."""
    if isinstance(value, list):
        return [restored(each) for each in value]
    if isinstance(value, dict):
        if set(value) == {TUPLE}:
            return tuple(restored(each) for each in value[TUPLE])
        if set(value) == {PAIRS}:
            return {restored(key): restored(each) for key, each in value[PAIRS]}
        return {key: restored(each) for key, each in value.items()}
    return value


def _made(names: list[str], n: int, seed: int, config: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    size = -(-n // len(names))
    datasets = {name: _open(name, size, seed, config.get(name, {})) for name in names}
    return [_entry(name, datasets[name], index, config.get(name, {})) for index in range(size) for name in names][:n]


def _open(name: str, size: int, seed: int, config: dict[str, Any]) -> Any:
    from dataclasses import fields

    from reasoning_gym.factory import DATASETS

    if name not in DATASETS or name == "composite":
        known = sorted(set(DATASETS) - {"composite"})
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"; the nearest: {', '.join(near)}" if near else f"; known: {', '.join(known)}"
        raise _Refused(f"names: reasoning-gym has no dataset {name!r}{hint}")
    known = sorted({field.name for field in fields(DATASETS[name][1])} - {"seed", "size"})
    if odd := sorted(set(config) - set(known)):
        said = ", ".join(f"{key!r}{did_you_mean(key, known)}" for key in odd)
        raise _Refused(f"config.{name}: no such setting: {said}; it has {', '.join(known) or 'none'}")
    try:
        return dataset_of(name, {**config, "seed": seed, "size": size})
    except Exception as error:
        raise _Refused(f"config.{name}: refused by the dataset: {type(error).__name__}: {error}") from error


def _entry(name: str, dataset: Any, index: int, config: dict[str, Any]) -> dict[str, Any]:
    try:
        raw = dataset[index]
        entry = plain(raw)
        orjson.dumps(entry)
    except Exception as error:
        raise _Refused(f"names: {name}, entry {index}: {type(error).__name__}: {error}") from error
    difficulty = _difficulty(raw.get("metadata") or {})
    return {"dataset": name, "category": dataset.category, "config": config, "difficulty": difficulty, "entry": entry}


def _difficulty(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The entry's own value of each setting that makes it harder; the setting's range where it tells none."""
    levels = metadata.get("difficulty") or {}
    return {key: _level(metadata.get(key), setting) for key, setting in levels.items()}


def _level(own: Any, setting: Any) -> int | float | str:
    if isinstance(own, int | float | str):
        return own
    if isinstance(setting, list | tuple):
        return " to ".join(map(str, dict.fromkeys(setting)))
    return setting if isinstance(setting, int | float | str) else str(setting)
