"""Breakdowns as heat maps: groups by values of a metadata field, means over the group's seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from .tidy import mapping

LEVELS = 9
SHOWN_COLUMNS = 24
MEASURES = ("mean_reward", "pass_rate")


@dataclass(frozen=True)
class Cell:
    """A score; level 0 (lowest of the map) to LEVELS - 1 (highest), None without a score."""

    value: float | None
    level: int | None


@dataclass(frozen=True)
class HeatMap:
    """One breakdown key.

    Attributes:
        columns: (value, number of tasks).
        rows: (group, a cell for each column).
        hidden: columns that are left out.
        benchmark: what it is of, where there are several.
    """

    key: str
    measure: str
    columns: list[tuple[str, int]]
    rows: list[tuple[str, list[Cell]]]
    hidden: int
    benchmark: str | None = None


def heat_maps(
    breakdowns: Mapping[str, Sequence[Mapping[str, Any]]], metric: str, benchmark: str | None = None
) -> list[HeatMap]:
    """A map for each breakdown key.

    Args:
        breakdowns: group -> the breakdowns of its seeds' evals, best group first.
        metric: the success metric; mean_reward where breakdowns do not have it.
        benchmark: what to name them by.
    """
    measure = next((name for name in MEASURES if metric.endswith(name)), MEASURES[0])
    keys = dict.fromkeys(key for seeds in breakdowns.values() for one in seeds for key in one)
    made = [_map(key, breakdowns, measure) for key in keys]
    return [replace(found, benchmark=benchmark) for found in made if found is not None]


def _map(key: str, breakdowns: Mapping[str, Sequence[Mapping[str, Any]]], measure: str) -> HeatMap | None:
    sizes: dict[str, int] = {}
    table: dict[str, dict[str, float]] = {}
    for group, seeds in breakdowns.items():
        slices = [one[key] for one in seeds if isinstance(one.get(key), Mapping)]
        for values in slices:
            for value, row in values.items():
                sizes[value] = max(sizes.get(value, 0), int(mapping(row).get("n") or 0))
        table[group] = {value: mean for value in sizes if (mean := _mean(slices, value, measure)) is not None}
    numbers = [number for row in table.values() for number in row.values()]
    if not numbers:
        return None
    columns = sorted(sizes, key=_natural)[:SHOWN_COLUMNS]
    low, high = min(numbers), max(numbers)
    rows = [(group, [_cell(row.get(value), low, high) for value in columns]) for group, row in table.items() if row]
    return HeatMap(key, measure, [(value, sizes[value]) for value in columns], rows, len(sizes) - len(columns))


def _mean(slices: Sequence[Mapping[str, Any]], value: str, measure: str) -> float | None:
    rows = [mapping(values.get(value)) for values in slices]
    found = [row[measure] for row in rows if isinstance(row.get(measure), int | float)]
    return fmean(found) if found else None


def _cell(value: float | None, low: float, high: float) -> Cell:
    if value is None:
        return Cell(None, None)
    share = (value - low) / (high - low) if high > low else 0.5
    return Cell(value, min(LEVELS - 1, int(share * LEVELS)))


def _natural(value: str) -> tuple[int, float, str]:
    """Numbers by size, then words."""
    try:
        return (0, float(value), value)
    except ValueError:
        return (1, 0.0, value)
