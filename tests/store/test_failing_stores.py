"""Stores that are down, slow, wrong or half there: nothing is lost, nothing is doubled, nobody waits for long."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.dashboard.server import create_app
from evsys_hydra.record import ArmRecord
from evsys_hydra.store.gateway import GatewayStore
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.sync import SyncReport, live_sync, sync

from . import making
from .contents import contents
from .servers import Misbehaving, free_port, serving

WAYS = ["500", "429", "503", "wrong json", "not json", "done, 500", "done, truncated", "done, hang"]


@pytest.fixture
def expected(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What every store must have in the end."""
    making.sweep(tmp_path / "exp", steps=10, tasks=6)
    store = LocalStore(tmp_path / "reference.db")
    sync(tmp_path / "exp", store)
    yield contents(store)
    store.close()


WAYS = ["429", "wrong json", "done, 500", "done, truncated", pytest.param("done, hang", marks=pytest.mark.slow)]


@pytest.mark.parametrize("way", WAYS)
def test_each_operation_fails_once(tmp_path: Path, local: LocalStore, expected: dict[str, Any], way: str) -> None:
    """The first call of each operation fails; where the record was taken all the same it must not be doubled."""
    server = Misbehaving(create_app(local), lambda op, before: way if before == 0 and _makes(op) else "ok")
    with serving(server) as url:
        # long enough for a busy machine to take the record before it is asked for again
        store = GatewayStore(url, "key", timeout_s=1.0 if "hang" in way else 0.2, budget_s=40)
        report = sync(tmp_path / "exp", store)
    assert report == SyncReport(sent=_records(expected))
    assert contents(local) == expected


@pytest.mark.slow
def test_a_slow_server_doubles_nothing(tmp_path: Path, local: LocalStore) -> None:
    """It is still at a request that the client gave up, looked for in vain, and sent again."""
    making.sweep(tmp_path / "exp", steps=2, tasks=1)
    slow = ("create_experiment", "create_run", "create_eval", "add_checkpoint", "add_prediction")
    server = Misbehaving(create_app(local), lambda op, before: "slow" if before == 0 and op in slow else "ok")
    with serving(server) as url:
        report = sync(tmp_path / "exp", GatewayStore(url, "key", timeout_s=0.5, budget_s=40))
        time.sleep(server.slow_s)  # until the server has done all that it was asked
    assert (report.error, report.waiting) == (None, 0)
    assert [server.ops.count(op) >= 2 for op in slow] == [True] * len(slow)
    expected = LocalStore(tmp_path / "reference.db")
    sync(tmp_path / "exp", expected)
    assert contents(local) == contents(expected)
    assert len(local.list_experiments()) == 1 and len(local.list_runs()) == 3


@pytest.mark.parametrize("seed", range(2))
def test_any_mixture_of_failures(tmp_path: Path, local: LocalStore, expected: dict[str, Any], seed: int) -> None:
    """A third of all calls fails in some way; syncing until nothing waits gives every record exactly once."""
    chance, lock = random.Random(seed), threading.Lock()

    def plan(op: str, before: int) -> str:
        with lock:
            return chance.choice(WAYS[:-1]) if chance.random() < 0.33 else "ok"

    reports = []
    with serving(Misbehaving(create_app(local), plan)) as url:
        while not reports or reports[-1].error:
            reports.append(sync(tmp_path / "exp", GatewayStore(url, "key", timeout_s=0.5, budget_s=0.8)))
            assert len(reports) < 60
    assert reports[-1].waiting == 0
    assert contents(local) == expected


def test_down_for_the_whole_sweep_then_up(tmp_path: Path, local: LocalStore) -> None:
    record = making.experiment(tmp_path / "exp")
    port = free_port()
    store = GatewayStore(f"http://127.0.0.1:{port}", "key", budget_s=0.3)
    with live_sync(tmp_path / "exp", store, poll_s=0.05) as tailer:
        for name in ("a", "b"):
            making.run_arm(making.add_arm(record, name))
    making.conclude(record)
    assert "cannot be reached" in str(tailer.error)
    started = time.monotonic()
    report = sync(tmp_path / "exp", store)
    assert time.monotonic() - started < 2
    assert (report.sent, report.waiting) == (0, 1 + 2 * 12 + 1)
    with serving(create_app(local)) as url:
        assert sync(tmp_path / "exp", GatewayStore(url, "key")).sent == report.waiting
    assert len(contents(local)["runs"]) == 2


def test_a_hung_store_holds_up_nobody(tmp_path: Path, local: LocalStore) -> None:
    record = making.experiment(tmp_path / "exp")
    with serving(Misbehaving(create_app(local), lambda op, before: "hang")) as url:
        store = GatewayStore(url, "key", timeout_s=30, budget_s=60)
        with live_sync(tmp_path / "exp", store, poll_s=0.01, flush_s=0.3):
            directory = making.add_arm(record, "a")
            arm = ArmRecord(directory)
            arm.start()
            started = time.monotonic()
            making.train(arm, steps=1000)
            arm.complete({})
            wrote = time.monotonic() - started
            started = time.monotonic()
        assert time.monotonic() - started < 1
        assert wrote < 2
        started = time.monotonic()
        report = sync(tmp_path / "exp", store, live=True, budget_s=0.5)
        assert report.error == "another process is sending these records now"  # the hung one, left behind
        report = sync(tmp_path / "exp", GatewayStore(url, "key", "p2"), live=True, budget_s=0.5)
        assert time.monotonic() - started < 3
        assert report.error is not None
        assert report.waiting == 1 + 1 + 1000 + 1 + 1 + 3 + 1


def test_the_budget_ends_a_sync(tmp_path: Path, local: LocalStore) -> None:
    making.sweep(tmp_path / "exp", steps=3000, tasks=0)
    with serving(create_app(local)) as url:
        started = time.monotonic()
        report = sync(tmp_path / "exp", GatewayStore(url, "key"), budget_s=0.5)
        assert time.monotonic() - started < 3
        assert str(report.error).startswith("the 0.5 s for sending were over")
        assert report.sent + report.waiting == 1 + 3 * (1 + 3000 + 1 + 1 + 1) + 1
        assert report.sent > 0


def test_a_refused_record_is_named_and_the_rest_goes_on(
    tmp_path: Path, local: LocalStore, expected: dict[str, Any]
) -> None:
    plan = lambda op, before: "422" if op == "add_prediction" and before in (1, 4) else "ok"  # noqa: E731
    with serving(Misbehaving(create_app(local), plan)) as url:
        report = sync(tmp_path / "exp", GatewayStore(url, "key"))
        assert sync(tmp_path / "exp", GatewayStore(url, "key")) == SyncReport()
    assert report.error is None
    assert len(report.refused) == 2
    assert all("as planned" in text and text.startswith("a-s0 prediction") for text in report.refused)
    found = contents(local)
    assert [len(run["predictions"]) for run in found["runs"]] == [4, 6, 6]
    assert found["experiment"] == expected["experiment"]


def test_an_arm_whose_run_is_refused_does_not_hold_up_the_others(tmp_path: Path, local: LocalStore) -> None:
    making.sweep(tmp_path / "exp")
    with serving(Misbehaving(create_app(local), lambda op, n: "422" if op == "create_run" and n == 0 else "ok")) as url:
        store = GatewayStore(url, "key")
        report = sync(tmp_path / "exp", store)
        assert (report.waiting, report.error[:5]) == (12, "a-s0:")
        assert contents(local)["experiment"][2] == "completed"
        assert sync(tmp_path / "exp", store) == SyncReport(sent=12)


def test_a_store_that_takes_no_predictions_gets_all_else(tmp_path: Path, local: LocalStore) -> None:
    """Each arm is left for now after some refusals; the others and the conclusion are sent, and no sync starts over."""
    making.sweep(tmp_path / "exp", tasks=50)
    with serving(Misbehaving(create_app(local), lambda op, n: "422" if op == "add_prediction" else "ok")) as url:
        store = GatewayStore(url, "key")
        reports = [sync(tmp_path / "exp", store)]
        assert "refused" in str(reports[0].error) and len(reports[0].refused) >= 3 * 20
        assert contents(local)["experiment"][2] == "completed" and len(contents(local)["runs"]) == 3
        while reports[-1].error is not None:
            reports.append(sync(tmp_path / "exp", store))
            assert reports[-1].waiting < (reports[-2].waiting or 1000)
    assert sum(len(report.refused) for report in reports) == 3 * 50


def _makes(op: str) -> bool:
    return op.startswith(("create_", "add_", "update_", "log_"))


def _records(expected: dict[str, Any]) -> int:
    runs = expected["runs"]
    inside = sum(len(run["metrics"]) // 2 + len(run["checkpoints"]) + len(run["evals"]) for run in runs)
    return 2 + 2 * len(runs) + inside + sum(len(run["predictions"]) for run in runs)
