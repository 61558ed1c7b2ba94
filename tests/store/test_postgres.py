"""The PostgreSQL store on a real server: passwords, servers that die or hang, several processes, odd values."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from evsys_hydra import registry
from evsys_hydra.config import typed
from evsys_hydra.dashboard.server import create_app
from evsys_hydra.errors import StoreError
from evsys_hydra.problems import describe_validation
from evsys_hydra.store import Unreachable, open_store, open_store_at
from evsys_hydra.store.gateway import GatewayStore
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.postgres import PostgresStore, PostgresStoreConfig
from evsys_hydra.store.sqlite.schema import MIGRATIONS
from evsys_hydra.store.sync import rebuild, sync

from . import making
from .contents import contents
from .postgres import PASSWORD, SUPERUSER, Server, missing
from .servers import serving


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that the test may break."""
    if missing() is not None:
        pytest.skip(str(missing()))
    server = Server()
    try:
        yield server.start()
    finally:
        server.stop()


def test_a_place_says_what_store_it_is(tmp_path: Path, postgres_url: str) -> None:
    assert isinstance(open_store_at(str(tmp_path / "x.db")), LocalStore)
    assert isinstance(open_store_at(postgres_url), PostgresStore)
    assert isinstance(open_store_at(postgres_url.replace("postgresql://", "postgres://")), PostgresStore)
    with pytest.raises(StoreError, match=r"mysql:// is no store .* postgresql://"):
        open_store_at("mysql://host/db")
    opened = open_store(typed(registry.stores, {"kind": "postgres", "url": postgres_url, "project_id": "p"}))
    assert opened.project_id == "p"


def test_one_database_is_one_store(postgres_url: str) -> None:
    first, second = PostgresStore(postgres_url), PostgresStore(postgres_url)
    made = first.create_experiment("e", id="e")
    assert second.create_experiment("other", id="e") == made
    assert first.store_id == second.store_id


def test_a_password_is_not_taken_from_the_config_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    written = postgres_url.replace(f"{SUPERUSER}@", f"{SUPERUSER}:pass-literal@")
    for url in (written, f"{postgres_url}?password=pass-literal"):
        with pytest.raises(ValidationError) as caught:
            PostgresStoreConfig(url=url)
        problems = describe_validation(caught.value, PostgresStoreConfig)
        assert "PGPASSWORD" in problems[0]
        assert "pass-literal" not in str(problems)
        with pytest.raises(StoreError, match="PGPASSWORD") as refused:
            open_store_at(url)
        assert "pass-literal" not in str(refused.value)
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("TEAM_DB", PASSWORD)  # what ${oc.env:TEAM_DB} resolves to
    config = PostgresStoreConfig(url=postgres_url.replace(f"{SUPERUSER}@", f"{SUPERUSER}:{PASSWORD}@"))
    store = open_store(config)
    assert store.list_experiments() == []
    assert PASSWORD not in repr(store)


@pytest.mark.parametrize("where", ["password", "database", "port"])
def test_an_error_tells_the_place_and_not_the_password(
    monkeypatch: pytest.MonkeyPatch, postgres_url: str, where: str
) -> None:
    url = postgres_url
    if where == "password":
        monkeypatch.setenv("PGPASSWORD", "wrong-and-secret")
    if where == "database":
        url += "_not_there"
    if where == "port":
        url = "postgresql://evsys@127.0.0.1:9/x"
    with pytest.raises(Unreachable, match=r"^postgresql://127\.0\.0\.1/") as caught:
        PostgresStore(url)
    said = f"{caught.value!r} {caught.value.__cause__!r}"
    assert "wrong-and-secret" not in said
    assert PASSWORD not in said


def test_every_text_comes_back(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
    run = store.create_run(store.create_experiment("e")["id"])["id"]
    names = ["a\0b", "\ufdd0", "\ufdd0\ufdd2", "a%sb", "what? ? :x", "100 %"]
    store.log_metrics(run, 1, dict.fromkeys(names, 1.0))
    store.log_metrics(run, 1, {"flag": True, "none": None})
    assert {row["name"]: row["value"] for row in store.get_metrics(run)} == {
        **dict.fromkeys(names, 1.0), "flag": 1.0, "none": None
    }  # fmt: skip
    assert store.create_experiment("\ufdd0 ?%s \0")["name"] == store.list_experiments()[-1]["name"]


def _fill(url: str, name: str) -> None:
    store = PostgresStore(url)
    for number in range(10):
        run = store.create_run(store.create_experiment(f"{name}-{number}")["id"], id=f"{name}-{number}")["id"]
        store.log_metrics(run, 1, {"loss": 1.0})
        store.log_metrics(store.create_run("shared", id="shared")["id"], number, {f"{name}": 1.0, "loss": 1.0})


def test_processes_at_once_on_a_new_database(postgres_url: str) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_first_touch, args=(postgres_url, str(n))) for n in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    store = PostgresStore(postgres_url)
    assert len(store.list_runs()) == 31
    assert len(store.get_metrics("shared", name="loss")) == 10


def _first_touch(url: str, name: str) -> None:
    PostgresStore(url).create_experiment("shared", id="shared")
    _fill(url, name)


def test_a_forked_child_has_connections_of_its_own(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
    store.list_experiments()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if store.create_experiment("child")["name"] == "child" else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert [row["name"] for row in store.list_experiments()] == ["child"]


def test_newer_tables_are_left_alone(postgres_url: str) -> None:
    with PostgresStore(postgres_url).db.transaction() as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    with pytest.raises(StoreError, match=rf"newer evsys_hydra \(schema 99, this one knows {len(MIGRATIONS)}\)"):
        PostgresStore(postgres_url)


def test_it_is_rebuilt_and_served_like_the_file(tmp_path: Path, postgres_url: str) -> None:
    making.sweep(tmp_path / "exp")
    store, local = PostgresStore(postgres_url), LocalStore(tmp_path / "x.db")
    sync(tmp_path / "exp", store)
    sync(tmp_path / "exp", local)
    (report,) = rebuild(store, [tmp_path / "exp"])
    assert report.error is None
    assert contents(store) == contents(local)
    with serving(create_app(store)) as url:
        assert contents(GatewayStore(url, "key")) == contents(local)


@pytest.mark.slow
def test_a_server_that_dies_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_server: Server) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    store = PostgresStore(own_server.database())
    record = making.experiment(tmp_path / "exp")
    making.run_arm(making.add_arm(record, "a"))
    assert sync(tmp_path / "exp", store).error is None
    making.run_arm(making.add_arm(record, "b"))
    own_server.down()
    report = sync(tmp_path / "exp", store)
    assert report.waiting > 0
    assert "127.0.0.1" in str(report.error)
    own_server.up()
    assert sync(tmp_path / "exp", store).error is None
    assert [run["name"] for run in contents(store)["runs"]] == ["a", "b"]
    own_server.down()
    own_server.up()
    assert len(store.list_experiments()) == 1  # the pool's connections are of the old server


@pytest.mark.slow
def test_a_server_that_hangs_is_cut_off(monkeypatch: pytest.MonkeyPatch, own_server: Server) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    store = PostgresStore(own_server.database(), timeout_s=2)
    store.list_experiments()
    group = own_server.pid
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(group)], capture_output=True, text=True, check=True)
    frozen = [group, *map(int, children.stdout.split())]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(Unreachable):
            store.create_experiment("e")
        assert time.monotonic() - started < 15
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from evsys_hydra.store import open_store_at\n"
        "open_store_at('postgresql://h/d')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "needs psycopg: pip install 'evsys_hydra[postgres]'" in done.stderr
