"""What runs leave, in SQL: checkpoints, evals, predictions and curves.

A curve has one value a step: logging a step again replaces its value, so that a replay changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from ...errors import StoreError
from ..errors import UnknownId
from ..protocol import MetricPoint, MetricRow, PredictionKind, Record
from .records import Connection, Records, insert_sql, insert_values, now
from .schema import CHECKPOINTS, EVALS, PREDICTIONS, RUNS

PREDICTION_FIELDS: dict[str, Any] = dict.fromkeys(
    ("eval_id", "task_id", "instruction", "model_output", "expected", "reward", "advantage", "step")
)


class Outcomes:
    """Operations on what belongs to a run."""

    db: Records

    def add_checkpoint(
        self,
        run_id: str,
        uri: str,
        *,
        label: str | None = None,
        step: int | None = None,
        base_model: str | None = None,
        is_final: bool = False,
        id: str | None = None,
    ) -> Record:
        record = {
            "run_id": run_id,
            "uri": uri,
            "label": label,
            "step": step,
            "base_model": base_model,
            "is_final": is_final,
        }
        return self.db.put(CHECKPOINTS, record, id)

    def list_checkpoints(self, run_id: str) -> list[Record]:
        return self.db.all(CHECKPOINTS, run_id=run_id)

    def create_eval(
        self,
        run_id: str,
        *,
        benchmark_id: str | None = None,
        checkpoint_id: str | None = None,
        model_ref: str | None = None,
        step: int | None = None,
        metrics: Mapping[str, float | None],
        breakdowns: Mapping[str, Any] | None = None,
        sdk_version: str | None = None,
        id: str | None = None,
    ) -> Record:
        record = {
            "run_id": run_id,
            "benchmark_id": benchmark_id,
            "checkpoint_id": checkpoint_id,
            "model_ref": model_ref,
            "step": step,
            "metrics": metrics,
            "breakdowns": breakdowns or {},
            "sdk_version": sdk_version,
        }
        return self.db.put(EVALS, record, id)

    def list_evals(self, run_id: str) -> list[Record]:
        return self.db.all(EVALS, run_id=run_id)

    def add_prediction(
        self,
        run_id: str,
        kind: PredictionKind,
        *,
        eval_id: str | None = None,
        task_id: str | None = None,
        instruction: Any = None,
        model_output: Any = None,
        expected: Any = None,
        reward: float | None = None,
        advantage: float | None = None,
        step: int | None = None,
        sample_idx: int = 0,
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> Record:
        record = {
            "run_id": run_id,
            "kind": kind,
            "eval_id": eval_id,
            "task_id": task_id,
            "instruction": instruction,
            "model_output": model_output,
            "expected": expected,
            "reward": reward,
            "advantage": advantage,
            "step": step,
            "sample_idx": sample_idx,
            "metadata": metadata or {},
        }
        return self.db.put(PREDICTIONS, record, id)

    def add_predictions(self, rows: Sequence[Mapping[str, Any]]) -> list[StoreError | None]:
        """add_prediction of each row in one transaction: all or, raised, none."""
        made = now()
        records = [
            {"id": uuid4().hex, **PREDICTION_FIELDS, "sample_idx": 0, "metadata": {}, **row, "created_at": made}
            for row in rows
        ]
        with self.db.transaction() as connection:
            connection.executemany(insert_sql(PREDICTIONS), [insert_values(PREDICTIONS, record) for record in records])
        return [None] * len(records)

    def list_predictions(self, run_id: str, *, kind: PredictionKind | None = None) -> list[Record]:
        return self.db.all(PREDICTIONS, run_id=run_id, kind=kind)

    # -- curves ----------------------------------------------------------------------------------------------------

    def log_metric(self, run_id: str, step: int, name: str, value: float | None, *, split: str = "train") -> object:
        self.log_many(run_id, [MetricPoint(step, {name: value}, split)])
        return {"step": step, "name": name, "value": value, "split": split}

    def log_metrics(
        self, run_id: str, step: int, metrics: Mapping[str, float | None], *, split: str = "train"
    ) -> list[Any]:
        self.log_many(run_id, [MetricPoint(step, metrics, split)])
        return [{"step": step, "name": name, "value": value, "split": split} for name, value in metrics.items()]

    def log_many(self, run_id: str, points: Sequence[MetricPoint]) -> list[StoreError | None]:
        """log_metrics of each point in one transaction: all or, raised, none."""
        with self.db.transaction() as connection:
            wanted = {(name, point.split) for point in points for name in point.metrics}
            series = _series(connection, run_id, wanted)
            connection.executemany(
                "INSERT INTO points VALUES (?, ?, ?) ON CONFLICT (series, step) DO UPDATE SET value = excluded.value",
                (
                    (series[name, point.split], point.step, value)
                    for point in points
                    for name, value in point.metrics.items()
                ),
            )
        return [None] * len(points)

    def get_metrics(self, run_id: str, *, name: str | None = None, split: str | None = None) -> list[MetricRow]:
        conditions, values = ["s.run_id = ?"], [run_id]
        for column, value in (("name", name), ("split", split)):
            if value is not None:
                conditions.append(f"s.{column} = ?")
                values.append(value)
        rows = self.db.select(
            "SELECT p.step, s.name, p.value, s.split FROM series s JOIN points p ON p.series = s.n "
            f"WHERE {' AND '.join(conditions)} ORDER BY p.step, s.n",
            values,
        )
        return [{"step": step, "name": name, "value": value, "split": split} for step, name, value, split in rows]


def _series(connection: Connection, run_id: str, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """(name, split) -> key of the series of a run; missing ones are made."""
    query = "SELECT name, split, n FROM series WHERE run_id = ?"
    found = {(name, split): n for name, split, n in connection.execute(query, (run_id,))}
    missing = sorted(wanted - found.keys())
    if missing:
        if connection.execute(f"SELECT 1 FROM {RUNS.name} WHERE id = ?", (run_id,)).fetchone() is None:
            raise UnknownId(f"no {RUNS.what} {run_id!r} here")
        rows = [(run_id, name, split) for name, split in missing]
        connection.executemany(
            "INSERT INTO series (run_id, name, split) VALUES (?, ?, ?) ON CONFLICT (run_id, name, split) DO NOTHING",
            rows,
        )
        found = {(name, split): n for name, split, n in connection.execute(query, (run_id,))}
    return found
