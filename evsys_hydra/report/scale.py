"""Numbers to places on an axis, in percent of its length, and round numbers for its ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

FACTORS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis; `at` in percent."""

    at: float
    label: str


@dataclass(frozen=True)
class Scale:
    """A linear axis from `low` to `high`."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """The value's place in percent."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)

    def ticks(self, wanted: int = 5) -> list[Tick]:
        """Round values inside the axis."""
        step = round_step((self.high - self.low) / wanted)
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first + 1
        values = [(first + place) * step for place in range(max(count, 0))]
        power = math.floor(math.log10(step) + 1e-9)
        decimals = max(0, int(math.isclose(step, 2.5 * 10.0**power)) - power)
        return [Tick(self.at(value), f"{value:,.{decimals}f}") for value in values]


def scale_over(values: Sequence[float], margin: float = 0.04) -> Scale:
    """An axis on which all values lie, with a margin at both ends."""
    low, high = min(values), max(values)
    room = (high - low) * margin or abs(low) * 0.1 or 1.0
    return Scale(low - room, high + room)


def round_step(about: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is not below `about`."""
    power: float = 10.0 ** math.floor(math.log10(about))
    return next(factor * power for factor in FACTORS if factor * power >= about * (1 - 1e-9))
