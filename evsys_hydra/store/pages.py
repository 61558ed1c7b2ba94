"""What the dashboard's pages ask of a store beyond one experiment: `Pages`, made from the operations every store has.

`pages_of` gives the store's own, faster form where it has one (SQLite).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .protocol import EvsysStore, Record

if TYPE_CHECKING:
    from ..report.records import Curve


@dataclass(frozen=True)
class Wanted:
    """Which predictions of an eval.

    Attributes:
        passed: reward >= 1 (True), less (False), not scored ("error"); None: all.
        task: part of the task's id.
        key, value: the task's metadata at this dotted path has this value; key None: all.
    """

    passed: bool | str | None = None
    task: str | None = None
    key: str | None = None
    value: str | None = None


@dataclass(frozen=True)
class Outcome:
    """The reward of one sample, without its texts; `id` is the prediction's."""

    id: str
    task: str
    sample: int
    reward: float | None


class Pages:
    """Reads for pages by the contract's operations: right for every store, slow for large ones.

    Args:
        store: any store that can list what it has.
    """

    def __init__(self, store: EvsysStore) -> None:
        self.store = store

    def experiments(self) -> list[Record]:
        """All experiments, oldest first; of their ranking only verdict, winner, best_set and counts."""
        return [_without_groups(record) for record in self.store.list_experiments()]

    def experiment(self, experiment_id: str) -> Record | None:
        return self.store.get_experiment(experiment_id)

    def arms(self, experiment_id: str) -> list[Record]:
        from ..report.records import lean

        return [lean(run) for run in self.store.list_runs(experiment_id=experiment_id)]

    def arm_names(self, experiment_id: str, most: int) -> list[str]:
        """The names of the first arms."""
        return [str(run["name"]) for run in self.store.list_runs(experiment_id=experiment_id)[:most] if run.get("name")]

    def find_arm(self, experiment_id: str, asked: str) -> Record | None:
        """The run of an experiment that has this name or id, without what is long."""
        return next((run for run in self.arms(experiment_id) if asked in (run.get("name"), run["id"])), None)

    def arm(self, run: str) -> Record | None:
        """One run with everything."""
        return self.store.get_run(run)

    def checkpoints(self, run: str) -> list[Record]:
        """A run's checkpoints."""
        return self.store.list_checkpoints(run)

    def evals(self, runs: Sequence[str]) -> dict[str, list[Record]]:
        names: dict[str, str] = {}
        return {run: [self._named(row, names) for row in self.store.list_evals(run)] for run in runs}

    def curve_names(self, runs: Sequence[str]) -> list[tuple[str, str]]:
        found = {(row["name"], row["split"]): None for run in runs for row in self.store.get_metrics(run)}
        return list(found)

    def curves(self, runs: Sequence[str], name: str, split: str, points: int | None = None) -> list[Curve]:
        from ..report.records import spread

        made = []
        for run in runs:
            rows = self.store.get_metrics(run, name=name, split=split)
            curve = curve_of(run, [(row["step"], row["value"]) for row in rows])
            made += [spread(curve, points)] if len(curve.steps) else []
        return made

    def outcomes(self, run: str, eval_id: str) -> list[Outcome]:
        """The reward of every sample of an eval."""
        rows = self._predictions(run, eval_id)
        return [
            Outcome(row["id"], str(row.get("task_id")), int(row.get("sample_idx") or 0), row.get("reward"))
            for row in rows
        ]

    def predictions(self, run: str, eval_id: str, wanted: Wanted, limit: int, offset: int) -> tuple[list[Record], int]:
        """A page of an eval's predictions in their order, and how many there are in all."""
        found = [row for row in self._predictions(run, eval_id) if matches(row, wanted)]
        return found[offset : offset + limit], len(found)

    def by_id(self, run: str, ids: Sequence[str]) -> dict[str, Record]:
        """These predictions of a run."""
        return {row["id"]: row for row in self.store.list_predictions(run) if row["id"] in set(ids)}

    def project_of(self, experiment_id: str) -> str | None:
        """The project of an experiment."""
        record = self.store.get_experiment(experiment_id)
        return record.get("project_id") if record else None

    def _predictions(self, run: str, eval_id: str) -> list[Record]:
        return [row for row in self.store.list_predictions(run, kind="eval") if row.get("eval_id") == eval_id]

    def _named(self, row: Record, names: dict[str, str]) -> Record:
        benchmark = row.get("benchmark_id")
        if benchmark and benchmark not in names:
            names[benchmark] = str((self.store.get_benchmark(benchmark) or {}).get("name") or benchmark)
        return {**row, "benchmark": names.get(benchmark or "", "benchmark")}


def pages_of(store: EvsysStore) -> Pages:
    """The pages' reads of a store."""
    from .sqlite.database import Database
    from .sqlite.pages import SqlitePages

    db = getattr(store, "db", None)
    return SqlitePages(store, db) if isinstance(db, Database) else Pages(store)


def curve_of(run: str, rows: Sequence[tuple[Any, Any]]) -> Curve:
    """A curve from (step, value) in order; values that are not finite are left out."""
    import numpy as np

    from ..report.records import Curve

    steps = np.fromiter((row[0] for row in rows), float, len(rows))
    values = np.array([row[1] for row in rows], dtype=float)  # None becomes NaN
    kept = np.isfinite(values)
    return Curve(run, steps[kept], values[kept])


def matches(row: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether a prediction is wanted."""
    reward = row.get("reward")
    if wanted.passed == "error" and reward is not None:
        return False
    if isinstance(wanted.passed, bool) and (reward is None or (reward >= 1) != wanted.passed):
        return False
    if wanted.task and wanted.task.lower() not in str(row.get("task_id")).lower():
        return False
    if wanted.key is None:
        return True
    found: Any = (row.get("metadata") or {}).get("task")
    for part in wanted.key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return ("__missing__" if found is None else str(found)) == wanted.value


def _without_groups(record: Record) -> Record:
    ranking = record.get("ranking")
    if not isinstance(ranking, Mapping):
        return record
    few = {key: ranking.get(key) for key in ("verdict", "winner", "n_best", "n_groups", "best_arm", "metric")}
    return {**record, "ranking": {**few, "best_set": list(ranking.get("best_set") or [])[:3]}}
