"""The pages' reads in SQLite: only what a page shows leaves the file, so that ten thousand arms are one query."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..pages import Outcome, Pages, Wanted, curve_of, matches
from ..protocol import EvsysStore, Record
from .database import Database, from_json

if TYPE_CHECKING:
    from ...report.records import Curve

LONG_CURVE = 4000
"""Spans of more steps than this are read by their points' neighbours, if only some points are needed."""
LIGHT_RUN = "json_remove({}.data, '$.run_config', '$.summary.log', '$.summary.traceback')"
LIGHT_RUNS = (
    """CREATE TABLE IF NOT EXISTS light_runs (
        experiment_id TEXT NOT NULL, n INTEGER NOT NULL,
        run_id TEXT NOT NULL UNIQUE REFERENCES runs (id) ON DELETE CASCADE, data TEXT NOT NULL,
        PRIMARY KEY (experiment_id, n)) WITHOUT ROWID""",
    f"""CREATE TRIGGER IF NOT EXISTS light_runs_made AFTER INSERT ON runs BEGIN
        INSERT INTO light_runs VALUES (new.experiment_id, new.n, new.id, {LIGHT_RUN.format("new")}); END""",
    f"""CREATE TRIGGER IF NOT EXISTS light_runs_changed AFTER UPDATE OF data ON runs BEGIN
        UPDATE light_runs SET data = {LIGHT_RUN.format("new")} WHERE run_id = new.id; END""",
    f"""INSERT INTO light_runs SELECT r.experiment_id, r.n, r.id, {LIGHT_RUN.format("r")} FROM runs r
        WHERE NOT EXISTS (SELECT 1 FROM light_runs l WHERE l.run_id = r.id)""",
)
"""Runs without what is long, kept by triggers beside the runs: to take it out of ten thousand texts takes too long."""
LIGHT_EXPERIMENT = (
    "json_remove(data, '$.ranking.arms', '$.ranking.differences', '$.ranking.vs_baseline', "
    "'$.ranking.references', '$.ranking.ranking', '$.metadata.versions')"
)
MANY = 500


class SqlitePages(Pages):
    """`Pages` by queries.

    Args:
        store: the store of the file.
        db: the file.
    """

    def __init__(self, store: EvsysStore, db: Database) -> None:
        super().__init__(store)
        self.db = db
        with db.transaction() as connection:
            for statement in LIGHT_RUNS:
                connection.execute(statement)

    def experiments(self) -> list[Record]:
        return [from_json(row[0]) for row in self.db.select(f"SELECT {LIGHT_EXPERIMENT} FROM experiments ORDER BY n")]

    def arms(self, experiment_id: str) -> list[Record]:
        rows = self.db.select("SELECT data FROM light_runs WHERE experiment_id = ? ORDER BY n", (experiment_id,))
        return [from_json(row[0]) for row in rows]

    def arm_names(self, experiment_id: str, most: int) -> list[str]:
        rows = self.db.select(
            "SELECT json_extract(data, '$.name') FROM light_runs WHERE experiment_id = ? ORDER BY n LIMIT ?",
            (experiment_id, most),
        )
        return [str(name) for (name,) in rows if name is not None]

    def find_arm(self, experiment_id: str, asked: str) -> Record | None:
        rows = self.db.select(
            "SELECT data FROM light_runs WHERE experiment_id = ? AND (run_id = ? OR json_extract(data, '$.name') = ?)",
            (experiment_id, asked, asked),
        )
        return from_json(rows[0][0]) if rows else None

    def evals(self, runs: Sequence[str]) -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = {run: [] for run in runs}
        for some in _chunks(runs):
            rows = self.db.select(
                "SELECT e.data, json_extract(d.data, '$.name') FROM evals e "
                "LEFT JOIN datasets d ON d.id = json_extract(e.data, '$.benchmark_id') "
                f"WHERE e.run_id IN ({_marks(some)}) ORDER BY e.n",
                some,
            )
            for data, name in rows:
                record = {**from_json(data), "benchmark": name or "benchmark"}
                found[record["run_id"]].append(record)
        return found

    def curve_names(self, runs: Sequence[str]) -> list[tuple[str, str]]:
        found: dict[tuple[str, str], None] = {}
        for some in _chunks(runs):
            rows = self.db.select(
                f"SELECT name, split FROM series WHERE run_id IN ({_marks(some)}) GROUP BY name, split ORDER BY min(n)",
                some,
            )
            found.update(dict.fromkeys((name, split) for name, split in rows))
        return list(found)

    def curves(self, runs: Sequence[str], name: str, split: str, points: int | None = None) -> list[Curve]:
        keys: dict[str, int] = {}
        for some in _chunks(runs):
            rows = self.db.select(
                f"SELECT run_id, n FROM series WHERE name = ? AND split = ? AND run_id IN ({_marks(some)})",
                (name, split, *some),
            )
            keys.update(rows)
        made = [curve_of(run, self._points(keys[run], points)) for run in runs if run in keys]
        return [curve for curve in made if len(curve.steps)]

    def outcomes(self, run: str, eval_id: str) -> list[Outcome]:
        rows = self.db.select(
            "SELECT id, json_extract(data, '$.task_id'), json_extract(data, '$.sample_idx'), "
            "json_extract(data, '$.reward') FROM predictions WHERE eval_id = ? AND run_id = ? ORDER BY n",
            (eval_id, run),
        )
        return [Outcome(id, str(task), int(sample or 0), reward) for id, task, sample, reward in rows]

    def predictions(self, run: str, eval_id: str, wanted: Wanted, limit: int, offset: int) -> tuple[list[Record], int]:
        where, values = _where(run, eval_id, wanted)
        if wanted.key is not None:  # a path of the task's metadata: too free a form for SQL
            rows = self.db.select(f"SELECT data FROM predictions WHERE {where} ORDER BY n", values)
            found = [record for row in rows if matches(record := from_json(row[0]), wanted)]
            return found[offset : offset + limit], len(found)
        total = int(self.db.select(f"SELECT count(*) FROM predictions WHERE {where}", values)[0][0])
        rows = self.db.select(
            f"SELECT data FROM predictions WHERE {where} ORDER BY n LIMIT ? OFFSET ?", (*values, limit, offset)
        )
        return [from_json(row[0]) for row in rows], total

    def by_id(self, run: str, ids: Sequence[str]) -> dict[str, Record]:
        found = {}
        for some in _chunks(ids):
            sql = f"SELECT id, data FROM predictions WHERE run_id = ? AND id IN ({_marks(some)})"
            found.update({id: from_json(data) for id, data in self.db.select(sql, (run, *some))})
        return found

    def project_of(self, experiment_id: str) -> str | None:
        rows = self.db.select("SELECT project_id FROM experiments WHERE id = ?", (experiment_id,))
        return rows[0][0] if rows else None

    def _points(self, series: int, points: int | None) -> list[tuple[Any, ...]]:
        first, last = self.db.select("SELECT min(step), max(step) FROM points WHERE series = ?", (series,))[0]
        if points is None or first is None or last - first <= LONG_CURVE:
            return self.db.select("SELECT step, value FROM points WHERE series = ? ORDER BY step", (series,))
        # CROSS JOIN: for each place its neighbour is looked up; any other order would read the whole curve
        grid = json.dumps([first + (last - first) * place // (points - 1) for place in range(points)])
        return self.db.select(
            "SELECT DISTINCT p.step, p.value FROM json_each(?) g CROSS JOIN points p ON p.series = ? AND p.step = "
            "(SELECT step FROM points WHERE series = ? AND step >= g.value ORDER BY step LIMIT 1) ORDER BY p.step",
            (grid, series, series),
        )


def _where(run: str, eval_id: str, wanted: Wanted) -> tuple[str, list[Any]]:
    conditions, values = ["eval_id = ?", "run_id = ?"], [eval_id, run]
    if wanted.passed == "error":
        conditions.append("json_extract(data, '$.reward') IS NULL")
    elif wanted.passed is not None:
        conditions.append(f"json_extract(data, '$.reward') {'>=' if wanted.passed else '<'} 1")
    if wanted.task:
        conditions.append("instr(lower(json_extract(data, '$.task_id')), lower(?)) > 0")
        values.append(wanted.task)
    return " AND ".join(conditions), values


def _chunks(items: Sequence[str]) -> list[list[str]]:
    """In parts that SQLite takes as variables of one statement."""
    return [list(items[start : start + MANY]) for start in range(0, len(items), MANY)]


def _marks(items: Sequence[str]) -> str:
    return ", ".join("?" * len(items))
