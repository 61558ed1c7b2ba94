"""From an experiment's directory to a store: each record once, in the contract's order, from where it stopped.

The directory is only read, but for `sync/<store>/`, where it is remembered what the store has. A store that is down
costs nothing but time: whatever it did not acknowledge waits on disk for the next sync.
"""

from .experiment import rebuild, sync
from .report import SyncReport
from .tail import live_sync

__all__ = ["SyncReport", "live_sync", "rebuild", "sync"]
