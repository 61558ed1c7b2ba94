"""`Records`: what an experiment's page is made from, in the words of the store's records.

A store has them for many experiments (store/pages.py, store/sqlite/pages.py), a directory for one (directory.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..store.protocol import Record

Floats = NDArray[np.float64]
HEAVY = ("run_config",)
HEAVY_IN_SUMMARY = ("log", "traceback")


@dataclass(frozen=True)
class Curve:
    """One metric of one arm: steps ascending, values finite; `run` is the arm's id."""

    run: str
    steps: Floats
    values: Floats


class Records(Protocol):
    """Reads the records of experiments. Ids that nobody knows give None or nothing."""

    def experiment(self, experiment_id: str) -> Record | None:
        """The experiment, with its `ranking` if it was concluded."""
        ...

    def arms(self, experiment_id: str) -> list[Record]:
        """Its runs in the order they began, without what is long: config, log and traceback."""
        ...

    def evals(self, runs: Sequence[str]) -> dict[str, list[Record]]:
        """The evals of runs, each with `benchmark`, the name of what was scored."""
        ...

    def curve_names(self, runs: Sequence[str]) -> list[tuple[str, str]]:
        """(name, split) of the curves that any of the runs has."""
        ...

    def curves(self, runs: Sequence[str], name: str, split: str, points: int | None = None) -> list[Curve]:
        """One curve of several runs; `points`: about so many of a long curve's points, evenly spread, will do."""
        ...


def lean(run: Record) -> Record:
    """A run without what is long."""
    kept = {key: value for key, value in run.items() if key not in HEAVY}
    summary = kept.get("summary")
    if isinstance(summary, Mapping):
        kept["summary"] = {key: value for key, value in summary.items() if key not in HEAVY_IN_SUMMARY}
    return kept


def spread(curve: Curve, points: int | None) -> Curve:
    """Every k-th point of a curve, so that about `points` are left."""
    if points is None or len(curve.steps) <= points:
        return curve
    chosen = np.unique(np.linspace(0, len(curve.steps) - 1, points).astype(int))
    return Curve(curve.run, curve.steps[chosen], curve.values[chosen])
