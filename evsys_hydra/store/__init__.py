"""Where the records of experiments go for people to look at: SQLite here, or an EvSys dashboard.

    store = open_store(config.store)  # kind: auto, local, gateway or none
    report = sync(directory, store)   # store.sync: what the store does not have yet, in order, once

An experiment's directory is the truth; every store can be filled from it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import BadRequest, NotAllowed, Unclear, UnknownId, Unreachable
from .protocol import BulkStore, DataRow, EvsysStore, MetricPoint, MetricRow, Record

if TYPE_CHECKING:
    from ..config import KindConfig

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
