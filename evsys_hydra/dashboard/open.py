"""Opens a server on an address, and says where it is; needs the `dashboard` extra."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..store.sqlite.store import SqlStore
    from .keys import Keys

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def needs_key(host: str) -> bool:
    """Whether others than this machine can reach the address."""
    return host not in LOOPBACK


def serve_store(
    store: SqlStore,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: Keys | None = None,
    said: Callable[[str], None] | None = None,
) -> None:
    """Serve a store until interrupted.

    Args:
        said: called with the address once it is taken.

    Raises:
        ConfigError: the extra is not installed, the address is taken, or others can reach it and there are no keys.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise ConfigError(f"The dashboard needs {error.name}: pip install 'evsys_hydra[dashboard]'") from None
    if needs_key(host) and not keys:
        raise ConfigError(
            f"{host} can be reached from other machines, so the dashboard needs API keys there. "
            "Make one with `evsys-hydra dashboard keys create NAME`, or serve on 127.0.0.1."
        )
    from .server import create_app

    listener = _listen(host, port)
    if said is not None:
        shown = f"[{host}]" if ":" in host else host
        said(f"http://{shown}:{listener.getsockname()[1]}/")
    gc.freeze()  # what is imported stays: without this, pages of many arms spend most of their time on looking at it
    uvicorn.Server(uvicorn.Config(create_app(store, keys), log_level="warning")).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket.

    Raises:
        ConfigError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"Cannot serve on {host}:{port}: {error.strerror or error}. Choose another with --port."
        ) from None
    return listener
