"""Curves as charts draw them: thinned, and put on common steps.

One arm's long curve keeps the smallest and largest value of each bucket, so that no spike is lost. Groups of seeds are
interpolated on common steps; a chart shows their mean and the band from lowest to highest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .records import Curve, Floats

BUCKETS = 700
GRID = 240

Chart = dict[str, Any]
"""{"x": steps, "series": [{"label", "y" (, "low", "high")}]}: what static/charts.js draws; None is a gap."""


def thin(curve: Curve, buckets: int = BUCKETS) -> Curve:
    """At most two points a bucket of steps: its smallest and its largest value, and the curve's ends."""
    if len(curve.steps) <= 2 * buckets:
        return curve
    starts = np.linspace(0, len(curve.steps), buckets, endpoint=False).astype(int)
    lengths = np.diff([*starts, len(curve.steps)])
    bucket = np.repeat(np.arange(buckets), lengths)
    order = np.lexsort((curve.values, bucket))  # by bucket, then by value: its first is the smallest
    kept = np.unique([0, *order[starts], *order[starts + lengths - 1], len(curve.steps) - 1])
    return Curve(curve.run, curve.steps[kept], curve.values[kept])


def arm_chart(curves: Mapping[str, Curve]) -> Chart:
    """The curves of one arm, by label, each thinned."""
    thinned = {label: thin(curve) for label, curve in curves.items()}
    steps = np.unique(np.concatenate([curve.steps for curve in thinned.values()])) if thinned else np.array([])
    series = []
    for label, curve in thinned.items():
        values = np.full(len(steps), np.nan)
        values[np.searchsorted(steps, curve.steps)] = curve.values
        series.append({"label": label, "y": plain(values)})
    return {"x": plain(steps), "series": series}


def group_chart(groups: Mapping[str, Sequence[Curve]]) -> Chart:
    """The mean curve of each group, with the band of its seeds."""
    known = {label: [curve for curve in curves if len(curve.steps)] for label, curves in groups.items()}
    known = {label: curves for label, curves in known.items() if curves}
    if not known:
        return {"x": [], "series": []}
    steps = _grid([curve for curves in known.values() for curve in curves])
    return {"x": plain(steps), "series": [_band(label, curves, steps) for label, curves in known.items()]}


def _grid(curves: Sequence[Curve]) -> Floats:
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    return steps if len(steps) <= GRID else np.linspace(steps[0], steps[-1], GRID).round(2)


def _band(label: str, curves: Sequence[Curve], steps: Floats) -> dict[str, Any]:
    table = np.stack([np.interp(steps, curve.steps, curve.values, np.nan, np.nan) for curve in curves])
    there = ~np.isnan(table)
    count = there.sum(axis=0)
    mean = np.divide(np.where(there, table, 0).sum(axis=0), count, out=np.full(len(steps), np.nan), where=count > 0)
    made: dict[str, Any] = {"label": label, "y": plain(mean), "seeds": len(curves)}
    if len(curves) > 1:
        lowest, highest = np.where(there, table, np.inf).min(axis=0), np.where(there, table, -np.inf).max(axis=0)
        made |= {"low": plain(lowest), "high": plain(highest)}
    return made


def plain(values: Floats) -> list[float | None]:
    """For JSON: six significant digits, None where there is no number."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]
