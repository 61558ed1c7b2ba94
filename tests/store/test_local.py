"""The SQLite file: migrations, several processes and threads, network file systems, ids that make a replay harmless."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from evsys_hydra.errors import StoreError
from evsys_hydra.store import BadRequest, Unreachable, open_store
from evsys_hydra.store.local import LocalStore, LocalStoreConfig, default_path
from evsys_hydra.store.sqlite.database import Database, migrate
from evsys_hydra.store.sqlite.filesystem import filesystem_type, is_network
from evsys_hydra.store.sqlite.schema import MIGRATIONS


def test_the_same_id_makes_no_second_record(local: LocalStore) -> None:
    experiment = local.create_experiment("first", id="e")
    assert local.create_experiment("second", id="e") == experiment
    for _ in range(2):
        local.create_group("e", "g", id="g")
        local.create_run("e", group_id="g", id="r")
        local.add_checkpoint("r", "c", id="c")
        local.create_eval("r", metrics={}, id="v")
        local.add_prediction("r", "eval", eval_id="v", id="p")
        local.add_predictions([{"run_id": "r", "kind": "eval", "id": name} for name in ("p", "q")])
        local.create_benchmark("b", "evsys", id="b")
    assert len(local.list_groups("e")) == len(local.list_runs()) == len(local.list_checkpoints("r")) == 1
    assert len(local.list_evals("r")) == len(local.list_benchmarks()) == 1
    assert [row["id"] for row in local.list_predictions("r")] == ["p", "q"]


def test_deleting_an_experiment_takes_all_of_it(local: LocalStore) -> None:
    local.create_experiment("e", id="e")
    local.create_run("e", id="r")
    local.create_eval("r", metrics={}, id="v")
    local.add_prediction("r", "eval", eval_id="v")
    local.log_metric("r", 1, "loss", 1.0)
    local.delete_experiment("e")
    for table in ("experiments", "runs", "evals", "predictions", "series", "points"):
        assert local.db.select(f"SELECT count(*) FROM {table}") == [(0,)], table


def test_a_record_does_not_move(local: LocalStore) -> None:
    local.create_experiment("e", id="e")
    local.create_experiment("f", id="f")
    local.create_run("e", id="r")
    with pytest.raises(BadRequest, match="experiment_id of a run cannot be changed"):
        local.update_run("r", {"experiment_id": "f"})
    assert local.update_run("r", {"id": "r", "experiment_id": "e", "status": "running"})["status"] == "running"


def test_where_the_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVSYS_HOME", str(tmp_path / "home"))
    assert default_path() == tmp_path / "home" / "evsys.db"
    monkeypatch.delenv("EVSYS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert default_path() == tmp_path / "user" / ".local" / "share" / "evsys_hydra" / "evsys.db"
    store = open_store(LocalStoreConfig(path=str(tmp_path / "x" / "y.db"), project_id="p"))
    assert isinstance(store, LocalStore)
    assert (store.db.path, store.project_id) == (tmp_path / "x" / "y.db", "p")


def test_wal_on_a_local_disk_and_a_rollback_journal_in_safe_mode(tmp_path: Path) -> None:
    def mode(safe: bool) -> str:
        store = LocalStore(tmp_path / f"{safe}.db", safe_mode=safe)
        return str(store.db.select("PRAGMA journal_mode")[0][0])

    assert (mode(False), mode(True)) == ("wal", "delete")
    changed = LocalStore(tmp_path / "False.db", safe_mode=True)
    assert changed.list_experiments() == []


@pytest.mark.parametrize(
    ("kind", "network"),
    [("ext4", False), ("overlay", False), ("nfs4", True), ("lustre", True), ("fuse.sshfs", True), ("cifs", True)],
)
def test_network_file_systems_are_known_by_their_type(tmp_path: Path, kind: str, network: bool) -> None:
    device = os.stat(tmp_path).st_dev
    at = f"{os.major(device)}:{os.minor(device)}"
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        f"22 1 0:99 / /proc rw shared:5 - proc proc rw\n36 35 {at} / /home rw,noatime shared:1 - {kind} host:/x rw\n"
    )
    assert filesystem_type(tmp_path / "not" / "there" / "yet", mountinfo) == kind
    assert is_network(tmp_path, mountinfo) is network
    assert filesystem_type(tmp_path, tmp_path / "missing") == ""
    assert not is_network(tmp_path, tmp_path / "missing")


def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    steps = ("CREATE TABLE a (x)", "ALTER TABLE a ADD COLUMN y; INSERT INTO a VALUES (1, 2)")
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    migrate(connection, steps[:1], tmp_path)
    migrate(connection, steps, tmp_path)
    migrate(connection, steps, tmp_path)
    assert connection.execute("SELECT * FROM a").fetchall() == [(1, 2)]
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, (*steps, "CREATE TABLE b (x); NONSENSE"), tmp_path)
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'b'").fetchall() == []
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    Database(tmp_path / "x.db", migrations=(*MIGRATIONS, "CREATE TABLE later (x)")).close()
    with pytest.raises(StoreError, match=r"newer evsys_hydra \(schema 2, this one knows 1\)"):
        LocalStore(tmp_path / "x.db")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("hello, I am a text file, and a long one at that\n" * 100)
    with pytest.raises(StoreError, match=r"x\.db: file is not a database"):
        LocalStore(tmp_path / "x.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable, match=r"exists|Not a directory"):
        LocalStore(tmp_path / "file" / "x.db")


def _fill(path: Path, name: str) -> None:
    store = LocalStore(path)
    for number in range(20):
        run = store.create_run(store.create_experiment(f"{name}-{number}")["id"])["id"]
        store.log_metrics(run, 1, {"loss": 1.0})


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_at_once_on_a_new_file(tmp_path: Path, method: str) -> None:
    path = tmp_path / "x.db"
    if method == "fork":
        parent = LocalStore(path)
        parent.list_experiments()
    context = multiprocessing.get_context(method)
    children = [context.Process(target=_fill, args=(path, str(n))) for n in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len(LocalStore(path).list_runs()) == 60


def test_a_closed_store_refuses_no_record(local: LocalStore) -> None:
    local.close()
    with pytest.raises(Unreachable, match="closed"):
        local.add_predictions([{"run_id": "r", "kind": "eval"}])


def test_threads_have_connections_of_their_own_and_give_them_back(local: LocalStore) -> None:
    experiment = local.create_experiment("e")["id"]
    threads = [threading.Thread(target=local.create_run, args=(experiment,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(local.list_runs()) == 8
    assert len(local.db._open) == 1
