"""Every operation of EvsysStore on tables: what the local store and the PostgreSQL store have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..protocol import Record
from .datasets import Datasets
from .outcomes import Outcomes
from .projects import Experiments, Projects
from .records import Records
from .schema import CHECKPOINTS, DATASETS, EVALS, EXPERIMENTS, GOALS, GROUPS, RUNS

OWNED = {
    "experiment_id": EXPERIMENTS,
    "group_id": GROUPS,
    "run_id": RUNS,
    "dataset_id": DATASETS,
    "benchmark_id": DATASETS,
    "checkpoint_id": CHECKPOINTS,
    "eval_id": EVALS,
    "project_goal_id": GOALS,
}
PARENT = {GROUPS: "experiment_id", RUNS: "experiment_id", CHECKPOINTS: "run_id", EVALS: "run_id"}
"""Whose project a record is in; the others say it themselves. Free fields of a record say nothing."""


class SqlStore(Projects, Experiments, Datasets, Outcomes):
    """The operations, given a database.

    create_ and add_ operations take an `id`: a second record of the same id is not made.

    Args:
        db: the tables.
        kind: begins the name under which syncs remember this store.
        project_id: filled in where an operation belongs to a project and none is given.
    """

    takes_ids = True
    batch = 2000

    def __init__(self, db: Records, kind: str, project_id: str | None = None) -> None:
        self.project_id = project_id
        self.db = db
        self.store_id = f"{kind}-{db.select('SELECT value FROM meta WHERE key = ?', ('id',))[0][0]}"

    def find(
        self, op: str, wanted: Sequence[Mapping[str, Any]], known: frozenset[str] = frozenset()
    ) -> list[Record | None]:
        """Nothing: with ids, a replay needs no search."""
        return [None] * len(wanted)

    def project_of(self, key: str, id: str) -> tuple[bool, str | None]:
        """Whether `id` is known as what `key` ("run_id", "group_id", ...) says, and the project it belongs to."""
        table = OWNED.get(key)
        record = self.db.get(table, id) if table else None
        if table is None or record is None:
            return False, None
        parent = PARENT.get(table)
        return True, self.project_of(parent, record[parent])[1] if parent else record.get("project_id")

    def close(self) -> None:
        """Close the database."""
        self.db.close()
