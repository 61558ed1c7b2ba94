from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evsys_hydra.dashboard.keys import hash_key
from evsys_hydra.dashboard.server import create_app
from evsys_hydra.store.gateway import GatewayStore
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.protocol import BulkStore

from .servers import KEY, serving


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("EVSYS_API_KEY", "EVSYS_API_URL", "EVSYS_PROJECT_ID", "EVSYS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EVSYS_HOME", str(tmp_path / "evsys-home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evsys_hydra.store.gateway.FIRST_PAUSE_S", 0.01)  # pauses are real, but short


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path / "local" / "evsys.db")
    yield store
    store.close()


@pytest.fixture(params=["local", "local in safe mode", "gateway"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BulkStore]:
    """Every store that keeps records, as the shared contract test sees it."""
    behind = LocalStore(tmp_path / "contract.db", safe_mode=request.param == "local in safe mode")
    if request.param != "gateway":
        yield behind
    else:
        with serving(create_app(behind, {hash_key(KEY): None})) as url:
            client = GatewayStore(url, KEY)
            yield client
            client.close()
    behind.close()
