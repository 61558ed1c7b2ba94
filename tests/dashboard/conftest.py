from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from evsys_hydra.dashboard.server import create_app
from evsys_hydra.record import ExperimentRecord
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.sync import sync

from ..store import making
from .evil import evil_experiment


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path / "pages.db")
    yield store
    store.close()


@pytest.fixture
def client(local: LocalStore) -> Iterator[TestClient]:
    """A browser without JavaScript on this machine, at an open server."""
    with TestClient(create_app(local), base_url="http://127.0.0.1:8000", follow_redirects=False) as made:
        yield made


@pytest.fixture
def finished(local: LocalStore, tmp_path: Path) -> ExperimentRecord:
    """Two seeds of one group and a failed arm, in the store."""
    record = making.sweep(tmp_path / "finished", steps=30, tasks=60)
    assert sync(record.directory, local).error is None
    return record


@pytest.fixture
def evil(local: LocalStore, tmp_path: Path) -> ExperimentRecord:
    """An experiment whose every text is an attack, in the store."""
    record = evil_experiment(tmp_path / "evil")
    assert sync(record.directory, local).error is None
    return record
