"""Where the records of experiments go for people to look at: SQLite here, PostgreSQL, or an EvSys dashboard.

    store = open_store(config.store)  # kind: auto, local, postgres, gateway or none
    report = sync(directory, store)   # store.sync: what the store does not have yet, in order, once

An experiment's directory is the truth; every store can be filled from it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StoreError
from .errors import BadRequest, NotAllowed, Unclear, UnknownId, Unreachable
from .protocol import BulkStore, DataRow, EvsysStore, MetricPoint, MetricRow, Record

if TYPE_CHECKING:
    from ..config import KindConfig
    from .sqlite.store import SqlStore

__all__ = [
    "BadRequest",
    "BulkStore",
    "DataRow",
    "EvsysStore",
    "MetricPoint",
    "MetricRow",
    "NotAllowed",
    "Record",
    "Unclear",
    "UnknownId",
    "Unreachable",
    "open_store",
    "open_store_at",
]


def open_store(config: KindConfig) -> EvsysStore:
    """Open the store that a typed config names.

    Raises:
        UnknownKind: no such kind.
        StoreError: the store cannot be used: no key for the gateway, a database that is none.
    """
    from ..registry import stores

    entry = stores.get(config.kind)
    if entry.config is not None and not isinstance(config, entry.config):
        opened: EvsysStore = entry.target(entry.config.model_validate(config.model_dump()))
    else:
        opened = entry.target(config)
    return opened


def open_store_at(place: str | Path) -> SqlStore:
    """The store in a file or a database, with every operation of the gateway: what a dashboard serves.

    Args:
        place: the path of an SQLite file, or postgresql://user@host:5432/database (the password in PGPASSWORD).

    Raises:
        StoreError: neither of these, or it cannot be used.
    """
    from pydantic import ValidationError

    from .local import LocalStore
    from .postgres.store import SCHEMES, PostgresStore, PostgresStoreConfig

    scheme, separator, _ = str(place).partition("://")
    if not separator:
        return LocalStore(Path(place))
    if scheme not in SCHEMES:
        raise StoreError(
            f"{scheme}:// is no store that can be opened here: give the path of a file, or postgresql://..."
        )
    try:
        config = PostgresStoreConfig(url=str(place))
    except ValidationError as error:
        raise StoreError("; ".join(part["msg"].removeprefix("Value error, ") for part in error.errors())) from None
    return PostgresStore(config.url, timeout_s=config.timeout_s)
