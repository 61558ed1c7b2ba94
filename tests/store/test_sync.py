"""An experiment's directory reaches a store once and in order, whatever happens in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from evsys_hydra.dashboard.server import create_app
from evsys_hydra.errors import RecordError, StoreError
from evsys_hydra.record import ArmRecord
from evsys_hydra.store import BulkStore, EvsysStore, MetricPoint
from evsys_hydra.store.gateway import GatewayStore
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.none import NoneStore
from evsys_hydra.store.sync import SyncReport, live_sync, rebuild, sync
from evsys_hydra.store.sync.cursor import folder, locked

from . import making
from .contents import contents
from .servers import Misbehaving, serving


def test_a_finished_experiment(tmp_path: Path, store: BulkStore) -> None:
    record = making.sweep(tmp_path / "exp")
    assert sync(tmp_path / "exp", store) == SyncReport(sent=38)
    found = contents(store)
    assert found["experiment"] == [
        "a higher lr is better", ["t1"], "completed", "Best arm: a at mean_reward=0.7500.", 0.75
    ]  # fmt: skip
    assert found["groups"] == ["a", "b"]
    first, second, failed = found["runs"]
    assert [run["name"] for run in found["runs"]] == ["a-s0", "a-s1", "b"]
    assert (first["status"], first["error"], second["seed"]) == ("completed", None, 1)
    assert (failed["status"], failed["error"]) == ("failed", "ValueError: it broke")
    assert first["summary"]["metrics"] == {"loss": 0.2}
    assert len(first["metrics"]) == 10
    uri = str(record.arm_directory("a-s0") / "checkpoints" / "final")
    assert first["checkpoints"] == [(uri, 5, True)]
    assert first["evals"] == [
        ("bench", uri, uri, None, {"mean_reward": 0.75, "n_tasks": 3},
         {"level": {"easy": {"n": 3, "mean_reward": 0.75}}})
    ]  # fmt: skip
    assert [row[:4] for row in first["predictions"]] == [(0, f"task-{n}", 0, f"it is {n}") for n in range(3)]
    assert first["run_config"]["algorithm"] == {"kind": "sft", "lr": 1e-05}
    assert sync(tmp_path / "exp", store) == SyncReport()
    assert contents(store) == found


def test_every_store_gets_the_same(tmp_path: Path, store: BulkStore, local: LocalStore) -> None:
    making.sweep(tmp_path / "exp")
    sync(tmp_path / "exp", store)
    sync(tmp_path / "exp", local)
    assert contents(store) == contents(local)


def test_the_order_is_the_contracts(tmp_path: Path, local: LocalStore) -> None:
    making.sweep(tmp_path / "exp", steps=2, tasks=2)
    server = Misbehaving(create_app(local), lambda op, n: "ok")
    with serving(server) as url:
        sync(tmp_path / "exp", GatewayStore(url, "key"))
    ops = [op for op in server.ops if not op.startswith("list_")]
    arm = ["create_run", "log_metrics", "log_metrics", "add_checkpoint", "create_eval"]
    predictions = ["add_prediction"] * 2 + ["update_run"]
    assert ops == [
        "create_experiment", "create_group", "create_group", *arm[:4], "create_benchmark", "create_eval", *predictions,
        *arm, *predictions, *arm, *predictions, "update_experiment",
    ]  # fmt: skip


def test_no_groups_without_replicates(tmp_path: Path, store: BulkStore) -> None:
    record = making.experiment(tmp_path / "exp")
    for name in ("a", "b"):
        making.run_arm(making.add_arm(record, name))
    sync(tmp_path / "exp", store)
    assert contents(store)["groups"] == [""]


def test_a_group_that_gets_replicates_later(tmp_path: Path, store: BulkStore) -> None:
    record = making.experiment(tmp_path / "exp")
    making.run_arm(making.add_arm(record, "a-s0", group="a"))
    sync(tmp_path / "exp", store)
    making.run_arm(making.add_arm(record, "a-s1", group="a", seed=1))
    sync(tmp_path / "exp", store)
    assert [run["group"] for run in contents(store)["runs"]] == ["a", "a"]


def test_while_it_runs(tmp_path: Path, store: BulkStore) -> None:
    record = making.experiment(tmp_path / "exp")
    directory = making.add_arm(record, "a")
    making.add_arm(record, "not-yet")
    sync(tmp_path / "exp", store, live=True)
    assert contents(store)["runs"] == []
    arm = ArmRecord(directory)
    arm.start()
    arm.metrics(1, {"loss": 2.0})
    sync(tmp_path / "exp", store, live=True)
    (run,) = contents(store)["runs"]
    assert (run["status"], len(run["metrics"])) == ("running", 1)
    arm.metrics(2, {"loss": 1.0})
    with (directory / "events.jsonl").open("ab") as file:
        file.write(b'{"id": "1:4", "kind": "metrics", "step": 3, "val')
    sync(tmp_path / "exp", store, live=True)
    with (directory / "events.jsonl").open("ab") as file:
        file.write(b'ues": {"loss": 0.5}}\n')
    arm.prediction("bench-step2", making.prediction(0))
    making.evaluate(arm, step=2, predictions=None)
    arm.metrics(9, {"loss": 0.5, "mean_reward": 0.75}, split="summary")
    arm.metrics(4, {"loss": float("nan")})
    arm.complete({"status": "completed", "metrics": {"loss": 0.5}})
    sync(tmp_path / "exp", store, live=True)
    (run,) = contents(store)["runs"]
    assert (run["status"], [row[0] for row in run["metrics"]][:3]) == ("completed", [1, 2, 3])
    assert [(row[2], row[3]) for row in run["evals"]] == [("a@2", 2)]
    assert len(run["predictions"]) == 1


def test_an_arm_that_runs_again_updates_its_run(tmp_path: Path, store: BulkStore) -> None:
    record = making.experiment(tmp_path / "exp")
    directory = making.add_arm(record, "a")
    making.run_arm(directory, fail="RuntimeError: node went away")
    making.conclude(record, "All 1 arms failed.")
    sync(tmp_path / "exp", store)
    assert contents(store)["runs"][0]["error"] == "RuntimeError: node went away"
    record.begin_generation()
    sync(tmp_path / "exp", store)
    assert contents(store)["experiment"][2] == "running"
    making.run_arm(directory)
    making.conclude(record)
    sync(tmp_path / "exp", store)
    found = contents(store)
    (run,) = found["runs"]
    assert (run["status"], run["error"], run["summary"]["attempt"]) == ("completed", None, 2)
    assert (found["experiment"][2], len(run["metrics"]), len(run["evals"])) == ("completed", 10, 2)
    assert len(run["predictions"]) == 6  # three of each attempt's evaluation


def test_only_the_last_row_of_a_sample_counts(tmp_path: Path, store: BulkStore) -> None:
    record = making.experiment(tmp_path / "exp")
    arm = ArmRecord(making.add_arm(record, "a"))
    arm.start()
    for reward in (None, 0.0, 1.0):
        arm.prediction("bench", making.prediction(0, reward=reward))
    making.evaluate(arm)
    arm.complete({})
    sync(tmp_path / "exp", store)
    assert [row[-1] for row in contents(store)["runs"][0]["predictions"]] == [1.0]


def test_a_path_in_an_event_stays_in_its_arm(tmp_path: Path, local: LocalStore) -> None:
    (tmp_path / "secret.jsonl").write_text('{"task_id": "x", "output": "secret"}\n')
    record = making.experiment(tmp_path / "exp")
    arm = ArmRecord(making.add_arm(record, "a"))
    arm.start()
    making.evaluate(arm, predictions="../../../secret.jsonl")
    arm.complete({})
    assert sync(tmp_path / "exp", local).error is None
    assert contents(local)["runs"][0]["predictions"] == []


def test_the_none_store_and_a_foreign_directory(tmp_path: Path) -> None:
    making.sweep(tmp_path / "exp")
    assert sync(tmp_path / "exp", NoneStore()) == SyncReport()
    assert not (tmp_path / "exp" / "sync").exists()
    with pytest.raises(RecordError):
        sync(tmp_path, NoneStore())


def test_a_store_of_the_users_own(tmp_path: Path, local: LocalStore) -> None:
    """A store with the contract's operations and nothing more is enough, and its bugs stay its own."""

    class Own:
        project_id = None

        def __getattr__(self, name: str) -> object:
            if name in ("takes_ids", "batch", "store_id", "log_many", "add_predictions", "find"):
                raise AttributeError(name)
            if name == "add_prediction" and broken:
                raise KeyError("a bug")
            return getattr(local, name)

    broken = True
    making.sweep(tmp_path / "exp")
    own: EvsysStore = Own()  # type: ignore[assignment]
    report = sync(tmp_path / "exp", own)
    assert report.error == "add_prediction: KeyError: 'a bug'"
    broken = False
    assert sync(tmp_path / "exp", own).error is None
    reference = LocalStore(tmp_path / "reference.db")
    sync(tmp_path / "exp", reference)
    assert contents(local) == contents(reference)


def test_one_at_a_time(tmp_path: Path, local: LocalStore) -> None:
    making.sweep(tmp_path / "exp")
    with locked(folder(tmp_path / "exp", local.store_id)):
        report = sync(tmp_path / "exp", local, live=True)
    assert (report.sent, report.error) == (0, "another process is sending these records now")


@pytest.mark.slow
def test_three_processes_at_once(tmp_path: Path, local: LocalStore) -> None:
    making.sweep(tmp_path / "exp", steps=200, tasks=50)
    command = [sys.executable, "-c", SYNC, str(tmp_path / "exp"), str(local.db.path)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    sent = [int(child.communicate(timeout=60)[0]) for child in children]
    reference = LocalStore(tmp_path / "reference.db")
    assert sync(tmp_path / "exp", reference).sent == sum(sent)
    assert contents(local) == contents(reference)


SYNC = """
import sys
from pathlib import Path
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.gateway import GatewayStore
from evsys_hydra.store.sync import sync
where = sys.argv[2]
store = GatewayStore(where, "key") if where.startswith("http") else LocalStore(Path(where))
if len(sys.argv) > 3:
    store.batch = int(sys.argv[3])
print(sync(Path(sys.argv[1]), store).sent)
"""


@pytest.mark.slow
def test_killed_again_and_again_while_filling_sqlite(tmp_path: Path) -> None:
    making.sweep(tmp_path / "exp", steps=300, tasks=100)
    command = [sys.executable, "-c", SYNC, str(tmp_path / "exp"), str(tmp_path / "x.db"), "7"]
    cursors = tmp_path / "exp" / "sync"
    killed = 0
    for after in (1, 4, 9):
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        deadline = time.monotonic() + 20
        start = _cursor_writes(cursors)
        while child.poll() is None and _cursor_writes(cursors) - start < after and time.monotonic() < deadline:
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
    assert killed == 3
    store, reference = LocalStore(tmp_path / "x.db"), LocalStore(tmp_path / "reference.db")
    assert sync(tmp_path / "exp", store).error is None
    sync(tmp_path / "exp", reference)
    assert contents(store) == contents(reference)


def _cursor_writes(cursors: Path) -> int:
    """Grows with the progress of a sync: the lines done, by the arms' cursors."""
    done = 0
    for path in cursors.glob("*/arms/*.json"):
        try:
            state = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        done += state["offset"] // 700 + int(state["eval"].get("row", 0)) // 7
    return done


@pytest.mark.parametrize("op", ["create_run", "log_metrics", "add_prediction"])
@pytest.mark.slow
def test_killed_while_a_gateway_has_the_record(tmp_path: Path, local: LocalStore, op: str) -> None:
    """The server took the record, the client died before it heard so: the worst moment there is."""
    making.sweep(tmp_path / "exp", steps=20, tasks=10)
    held = threading.Event()

    def plan(asked: str, before: int) -> str:
        if asked == op and not held.is_set() and before >= (5 if op in ("log_metrics", "add_prediction") else 0):
            held.set()
            return "done, hang"
        return "ok"

    server = Misbehaving(create_app(local), plan)
    with serving(server) as url:
        child = subprocess.Popen([sys.executable, "-c", SYNC, str(tmp_path / "exp"), url])
        assert held.wait(20)
        time.sleep(0.1)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        report = sync(tmp_path / "exp", GatewayStore(url, "key"))
    assert report.error is None
    reference = LocalStore(tmp_path / "reference.db")
    sync(tmp_path / "exp", reference)
    assert contents(local) == contents(reference)


def test_rebuilt_from_the_directories(tmp_path: Path, local: LocalStore) -> None:
    for name in ("one", "two"):
        making.sweep(tmp_path / name)
        sync(tmp_path / name, local)
    before = [run["id"] for run in local.list_runs()]
    local.update_run(before[0], {"status": "failed"})
    local.log_metric(before[0], 99, "ghost", 1.0)
    reports = rebuild(local, [tmp_path / "one", tmp_path / "two"])
    assert [report.error for report in reports] == [None, None]
    assert [run["id"] for run in local.list_runs()] == before
    assert local.get_run(before[0])["status"] == "completed"
    assert local.get_metrics(before[0], name="ghost") == []
    with pytest.raises(StoreError, match="cannot be rebuilt"):
        rebuild(GatewayStore("http://localhost", "key"), [tmp_path / "one"])


def test_a_lost_database_is_filled_again_by_a_plain_sync(tmp_path: Path) -> None:
    making.sweep(tmp_path / "exp")
    first = LocalStore(tmp_path / "a" / "evsys.db")
    sync(tmp_path / "exp", first)
    found = contents(first)
    first.close()
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    again = LocalStore(tmp_path / "a" / "evsys.db")
    assert sync(tmp_path / "exp", again).sent == 38
    assert contents(again) == found


def test_live_sync_follows_a_sweep(tmp_path: Path, local: LocalStore) -> None:
    record = making.experiment(tmp_path / "exp")
    directory = making.add_arm(record, "a")
    with live_sync(tmp_path / "exp", local, poll_s=0.05) as tailer:
        arm = ArmRecord(directory)
        arm.start()
        arm.metrics(1, {"loss": 1.0})
        deadline = time.monotonic() + 10
        while not local.list_runs() or not local.get_metrics(local.list_runs()[0]["id"]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert contents(local)["runs"][0]["status"] == "running"
        making.train(arm)
        arm.complete({})
    assert tailer.error is None
    (run,) = contents(local)["runs"]
    assert (run["status"], len(run["metrics"]), len(run["predictions"])) == ("completed", 10, 3)


def test_secrets_stay_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, key = "hunter2-very-secret", "evsys_other_secret_key"
    monkeypatch.setenv("JUDGE_KEY", secret)
    record = making.experiment(tmp_path / "exp")
    directory = making.add_arm(record, "a", inference={"kind": "local", "api_key": "${oc.env:JUDGE_KEY}"})
    making.run_arm(directory, fail=f"HTTPError: key {secret} was refused, {key} too")
    monkeypatch.setenv("EVSYS_API_KEY", key)
    local = LocalStore(tmp_path / "home" / "evsys.db")
    assert sync(tmp_path / "exp", local).error is None
    dead = GatewayStore("http://127.0.0.1:9", budget_s=0.1)
    report = sync(tmp_path / "exp", dead)
    (run,) = local.list_runs()
    assert run["run_config"]["inference"]["api_key"] == "${oc.env:JUDGE_KEY}"
    assert run["error_message"] == "HTTPError: key ${oc.env:JUDGE_KEY} was refused, ${oc.env:EVSYS_API_KEY} too"
    local.close()
    written = [path for top in ("home", "exp/sync") for path in (tmp_path / top).rglob("*") if path.is_file()]
    assert len(written) > 4
    for path in written:
        assert secret.encode() not in path.read_bytes(), path
        assert key.encode() not in path.read_bytes(), path
    assert report.waiting > 0
    assert not {secret, key} & {word for text in (str(report), repr(dead), repr(dead._wire)) for word in text.split()}


def test_an_experiment_deleted_in_the_store(tmp_path: Path, store: BulkStore) -> None:
    record = making.experiment(tmp_path / "exp")
    arm = ArmRecord(making.add_arm(record, "a"))
    arm.start()
    arm.metrics(1, {"loss": 1.0})
    sync(tmp_path / "exp", store)
    store.delete_experiment(store.list_experiments()[0]["id"])
    arm.metrics(2, {"loss": 1.0})
    report = sync(tmp_path / "exp", store)
    where = folder(tmp_path / "exp", store.store_id)
    assert (report.waiting, report.refused) == (1, [])
    assert report.error is not None and report.error.startswith("a: ") and str(where) in report.error
    shutil.rmtree(where)
    assert sync(tmp_path / "exp", store) == SyncReport(sent=4)


def test_a_directory_that_cannot_be_written_to(tmp_path: Path, local: LocalStore) -> None:
    making.sweep(tmp_path / "exp")
    (tmp_path / "exp" / "sync").write_text("in the way")
    report = sync(tmp_path / "exp", local)
    assert (report.sent, report.waiting) == (0, 38)
    assert report.error is not None


def test_log_many_of_a_bad_point_does_not_take_the_others_along(local: LocalStore, tmp_path: Path) -> None:
    record = making.experiment(tmp_path / "exp")
    arm = ArmRecord(making.add_arm(record, "a"))
    arm.start()
    for step in (1, 2**70, 3):
        arm.event("metrics", step=step if step < 2**60 else "x", split="train", values={"loss": 1.0})
    arm.event("metrics", step=2**63 - 1, split="train", values={"loss": "text", "ok": True})
    arm.complete({})
    assert sync(tmp_path / "exp", local).error is None
    (run,) = local.list_runs()
    assert [row["step"] for row in local.get_metrics(run["id"])] == [1, 3, 2**63 - 1]
    assert local.log_many(run["id"], [MetricPoint(7, {"x": None})]) == [None]
    assert os.path.exists(local.db.path)
