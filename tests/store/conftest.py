from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from evsys_hydra.dashboard.keys import hash_key
from evsys_hydra.dashboard.server import create_app
from evsys_hydra.store.gateway import GatewayStore
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.postgres import PostgresStore
from evsys_hydra.store.protocol import BulkStore

from .postgres import PASSWORD, Server, missing
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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A real PostgreSQL; where there can be none, tests are skipped with the reason, in CI they fail."""
    reason = missing()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no PostgreSQL in CI: {reason}")
        pytest.skip(reason)
    server = Server()
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def postgres_url(postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new database; its password is in the environment."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    return postgres_server.database()


@pytest.fixture(params=["local", "local in safe mode", "gateway", pytest.param("postgres", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BulkStore]:
    """Every store that keeps records, as the shared contract test sees it."""
    if request.param == "postgres":
        database = PostgresStore(request.getfixturevalue("postgres_url"))
        yield database
        database.close()
        return
    behind = LocalStore(tmp_path / "contract.db", safe_mode=request.param == "local in safe mode")
    if request.param != "gateway":
        yield behind
    else:
        with serving(create_app(behind, {hash_key(KEY): None})) as url:
            client = GatewayStore(url, KEY)
            yield client
            client.close()
    behind.close()
