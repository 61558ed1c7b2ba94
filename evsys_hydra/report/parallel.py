"""Parallel coordinates: an axis for each swept field and one for the score, a line an arm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..ranking.phrases import number
from ..sweep.naming import show
from .scale import Tick

SHOWN_ARMS = 400
SHOWN_AXES = 8
SHOWN_TICKS = 6
LEVELS = 8
LOG_RATIO = 20.0
APART = 7.0
WIDTH = 1000
HEIGHT = 300


@dataclass(frozen=True)
class Line:
    """An arm: points of a polyline in WIDTH x HEIGHT; `level` 0 (worst) to LEVELS - 1 (best)."""

    label: str
    points: str
    level: int


@dataclass(frozen=True)
class Axis:
    """A field; `at` its place from the left, its ticks' from the top, in percent."""

    name: str
    at: float
    ticks: list[Tick]


@dataclass(frozen=True)
class Parallel:
    """The plot; `hidden` arms are left out."""

    axes: list[Axis]
    lines: list[Line]
    hidden: int


def parallel(
    arms: Sequence[tuple[str, Mapping[str, Any], float]], columns: Sequence[str], metric: str, *, minimize: bool
) -> Parallel | None:
    """The plot of arms given as (name, swept fields, score); None with fewer than two arms or nothing swept.

    Of many arms an even spread from best to worst is drawn.
    """
    columns = list(columns)[:SHOWN_AXES]
    if len(arms) < 2 or not columns:
        return None
    ordered = sorted(arms, key=lambda arm: -arm[2] if minimize else arm[2])
    chosen = _spread(ordered, SHOWN_ARMS)
    fields = [_Field(column, [arm[1].get(column) for arm in chosen]) for column in columns]
    fields.append(_Field(metric, [arm[2] for arm in chosen]))
    places = [100 * index / (len(fields) - 1) for index in range(len(fields))]
    lines = []
    for rank, (name, swept, score) in enumerate(chosen):
        values = [*(swept.get(column) for column in columns), score]
        heights = [field.at(value) for field, value in zip(fields, values, strict=True)]
        points = " ".join(
            f"{place / 100 * WIDTH:.1f},{height / 100 * HEIGHT:.1f}"
            for place, height in zip(places, heights, strict=True)
        )
        lines.append(Line(f"{name}: {number(score)}", points, min(LEVELS - 1, rank * LEVELS // len(chosen))))
    axes = [Axis(field.name, round(place, 3), field.ticks()) for field, place in zip(fields, places, strict=True)]
    return Parallel(axes, lines, len(arms) - len(chosen))


class _Field:
    """One axis: numeric (logarithmic where values span more than LOG_RATIO), else one place a value."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name = name
        self.numeric = all(_is_number(value) for value in values)
        if self.numeric:
            low, high = min(values), max(values)
            self.log = low > 0 and high / low > LOG_RATIO
            self.known = sorted(set(values))
        else:
            self.known = sorted({show(value) for value in values})

    def at(self, value: Any) -> float:
        """Percent from the top."""
        if not self.numeric:
            return self._even(show(value))
        low, high = self.known[0], self.known[-1]
        if low == high:
            return 50.0
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return round(100 - 100 * float((value - low) / (high - low)), 2)

    def ticks(self) -> list[Tick]:
        if not self.numeric:
            return [Tick(self._even(value), value) for value in _spread(self.known, SHOWN_TICKS)]
        ends = {self.known[0], self.known[-1]}
        ticks: list[Tick] = [Tick(self.at(value), _shown(value)) for value in sorted(ends)]
        for value in _spread(self.known, SHOWN_TICKS):
            tick = Tick(self.at(value), _shown(value))
            if all(abs(tick.at - other.at) >= APART for other in ticks):
                ticks.append(tick)
        return ticks

    def _even(self, value: str) -> float:
        place = self.known.index(value)
        return round(100 - 100 * place / (len(self.known) - 1), 2) if len(self.known) > 1 else 50.0


def _shown(value: float) -> str:
    return show(value) if isinstance(value, int) or abs(value) < 1e-3 else f"{value:.4g}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]
