"""The `local` store: one SQLite file for all experiments of a user, no server.

It is an index, not the truth: `evsys-hydra sync --rebuild` makes it again from the experiments' directories.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..config import KindConfig
from ..registry import register_store
from .protocol import BulkStore, Record
from .sqlite.database import Database
from .sqlite.datasets import Datasets
from .sqlite.outcomes import Outcomes
from .sqlite.projects import Experiments, Projects
from .sqlite.schema import CHECKPOINTS, DATASETS, EVALS, EXPERIMENTS, GOALS, GROUPS, RUNS

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


class LocalStoreConfig(KindConfig):
    """Records go into an SQLite file on this machine."""

    kind: Literal["local"] = "local"
    path: str | None = None
    """The file; null: evsys.db in $EVSYS_HOME, or in ~/.local/share/evsys_hydra."""
    safe_mode: bool | None = None
    """Do without WAL, as network file systems need; null: look at the file system."""
    project_id: str | None = None
    """Project that experiments belong to; null: none."""


class LocalStore(Projects, Experiments, Datasets, Outcomes):
    """Every operation of EvsysStore on an SQLite file.

    create_ and add_ operations take an `id`: a second record of the same id is not made.

    Args:
        path: the file; made if it does not exist.
        safe_mode: no WAL; None: where the file system needs it.
        project_id: filled in where an operation belongs to a project and none is given.

    Raises:
        StoreError: the file cannot be used.
    """

    takes_ids = True
    batch = 2000

    def __init__(self, path: Path, *, safe_mode: bool | None = None, project_id: str | None = None) -> None:
        self.project_id = project_id
        self.db = Database(path, safe_mode=safe_mode)
        self.store_id = f"local-{self.db.select('SELECT value FROM meta WHERE key = ?', ('id',))[0][0]}"

    def __repr__(self) -> str:
        return f"LocalStore({str(self.db.path)!r})"

    def find(
        self, op: str, wanted: Sequence[Mapping[str, Any]], known: frozenset[str] = frozenset()
    ) -> list[Record | None]:
        """Nothing: with ids, a replay needs no search."""
        return [None] * len(wanted)

    def project_of(self, key: str, id: str) -> tuple[bool, str | None]:
        """Whether `id` is known as what `key` ("run_id", "group_id", ...) says, and the project it belongs to."""
        table = OWNED.get(key)
        record = self.db.get(table, id) if table else None
        if record is None:
            return False, None
        parent = next((name for name in ("run_id", "experiment_id") if name != key and record.get(name)), None)
        return self.project_of(parent, record[parent]) if parent else (True, record.get("project_id"))

    def close(self) -> None:
        """Close the file."""
        self.db.close()


def default_path() -> Path:
    """Where the file is when nobody says otherwise."""
    home = os.environ.get("EVSYS_HOME")
    return (Path(home).expanduser() if home else Path("~/.local/share/evsys_hydra").expanduser()) / "evsys.db"


@register_store("local", config=LocalStoreConfig)
def open_local(config: LocalStoreConfig) -> BulkStore:
    """The store that the settings name."""
    path = Path(config.path).expanduser() if config.path else default_path()
    return LocalStore(path, safe_mode=config.safe_mode, project_id=config.project_id)
