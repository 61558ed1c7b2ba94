"""The `auto` store: the gateway if the environment has a key for it, else the local file.

EVSYS_API_KEY chooses the gateway; EVSYS_OFFLINE=1 keeps everything on this machine all the same.
"""

from __future__ import annotations

import os
from typing import Literal

from ..config import KindConfig
from ..registry import register_store
from .protocol import EvsysStore


class AutoStoreConfig(KindConfig):
    """The gateway if EVSYS_API_KEY is set and EVSYS_OFFLINE is not, else the local file."""

    kind: Literal["auto"] = "auto"


@register_store("auto", config=AutoStoreConfig)
def open_auto(config: AutoStoreConfig) -> EvsysStore:
    """The store that the environment calls for."""
    if chosen_kind() == "gateway":
        from .gateway import GatewayStore

        return GatewayStore()
    from .local import LocalStore, default_path

    return LocalStore(default_path())


def chosen_kind() -> Literal["gateway", "local"]:
    """What `auto` means in this environment."""
    offline = os.environ.get("EVSYS_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")
    return "gateway" if os.environ.get("EVSYS_API_KEY") and not offline else "local"
