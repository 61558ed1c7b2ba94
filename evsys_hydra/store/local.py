"""The `local` store: one SQLite file for all experiments of a user, no server.

It is an index, not the truth: `evsys-hydra sync --rebuild` makes it again from the experiments' directories.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from ..config import KindConfig
from ..registry import register_store
from .protocol import BulkStore
from .sqlite.database import Database
from .sqlite.store import SqlStore


class LocalStoreConfig(KindConfig):
    """Records go into an SQLite file on this machine."""

    kind: Literal["local"] = "local"
    path: str | None = None
    """The file; null: evsys.db in $EVSYS_HOME, or in ~/.local/share/evsys_hydra."""
    safe_mode: bool | None = None
    """Do without WAL, as network file systems need; null: look at the file system."""
    project_id: str | None = None
    """Project that experiments belong to; null: none."""


class LocalStore(SqlStore):
    """Every operation of EvsysStore on an SQLite file.

    Args:
        path: the file; made if it does not exist.
        safe_mode: no WAL; None: where the file system needs it.
        project_id: filled in where an operation belongs to a project and none is given.

    Raises:
        StoreError: the file cannot be used.
    """

    db: Database

    def __init__(self, path: Path, *, safe_mode: bool | None = None, project_id: str | None = None) -> None:
        super().__init__(Database(path, safe_mode=safe_mode), "local", project_id)

    def __repr__(self) -> str:
        return f"LocalStore({str(self.db.path)!r})"


def default_path() -> Path:
    """Where the file is when nobody says otherwise."""
    home = os.environ.get("EVSYS_HOME")
    return (Path(home).expanduser() if home else Path("~/.local/share/evsys_hydra").expanduser()) / "evsys.db"


@register_store("local", config=LocalStoreConfig)
def open_local(config: LocalStoreConfig) -> BulkStore:
    """The store that the settings name."""
    path = Path(config.path).expanduser() if config.path else default_path()
    return LocalStore(path, safe_mode=config.safe_mode, project_id=config.project_id)
