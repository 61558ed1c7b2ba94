"""The driver may end at any point: the arms go on, the conclusion comes, and nothing stays held."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from .cluster import Cluster
from .conftest import Sweep

pytestmark = pytest.mark.slurm
LONG = ("lr=1,2", "algorithm=noop", "algorithm.seconds=6")


def test_killed_while_composing(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(plain)
    sweep.start(f"hydra.sweep.dir={sweep.directory}", *LONG)
    sweep.wait_for((sweep.directory / "experiment.json").exists, "the experiment")
    kill(sweep)
    if not sweep.submission():
        assert not plain.queue()
        assert "evsys-hydra resume" in sweep.verb("status").stdout
    resumed = sweep.verb("resume")
    if "no arms yet" in resumed.stderr:  # killed before it had planned
        resumed = sweep.start(*LONG, f"resume={sweep.directory}").end()
    assert resumed.returncode == 0, resumed.stderr
    assert sweep.causes() == {"lr=1": None, "lr=2": None}


@pytest.mark.parametrize("moment", ["finalizer", "chunk", "complete"])
def test_killed_while_submitting_and_after(moment: str, cluster: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(cluster)
    sweep.start(f"hydra.sweep.dir={sweep.directory}", *LONG)
    reached: dict[str, Callable[[], object]] = {
        "finalizer": lambda: sweep.submission().get("finalizer"),
        "chunk": lambda: sweep.submission().get("chunks", [{}])[0].get("job"),
        "complete": lambda: sweep.submission().get("complete"),
    }
    while not reached[moment]():
        assert sweep.driver is not None and sweep.driver.poll() is None
    kill(sweep)
    submitted = any(chunk["job"] for chunk in sweep.submission()["chunks"]) or len(cluster.queue()) > 1
    if submitted:
        arms = [sweep.arm(f"lr={lr}") for lr in (1, 2)]
        sweep.wait_for(lambda: all(completed(sweep, arm.name) for arm in arms), "the arms")
        assert sweep.wait_for(sweep.conclusion, "the conclusion") < 30
        assert sweep.causes() == {"lr=1": None, "lr=2": None}
    else:
        sweep.wait_for(sweep.conclusion, "the conclusion")
        assert sweep.causes() == {"lr=1": "never_started", "lr=2": "never_started"}
        assert sweep.verb("resume").returncode == 0
        assert sweep.causes() == {"lr=1": None, "lr=2": None}
    sweep.wait_for(lambda: not cluster.queue(), "an empty queue", 30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_go_while_arms_run(number: signal.Signals, cluster: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(cluster)
    sweep.start(f"hydra.sweep.dir={sweep.directory}", *LONG)
    sweep.wait_for(lambda: sweep.read("lr=1", "status.json"), "a running arm")
    assert sweep.driver is not None
    os.kill(sweep.driver.pid, number)
    ended = sweep.end(10)
    assert ended.returncode == 128 + number
    assert "the arms run on" in ended.stderr and not sweep.conclusion()
    sweep.wait_for(lambda: all(completed(sweep, f"lr={lr}") for lr in (1, 2)), "the arms")
    assert sweep.wait_for(sweep.conclusion, "the conclusion") < 30
    assert sweep.causes() == {"lr=1": None, "lr=2": None}


def test_detached(plain: Cluster, sweeps: Callable[..., Sweep], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_OF_TEST", "sk-very-secret")
    sweep = sweeps(plain)
    setup = "hydra.launcher.setup=['export COPY=${oc.env:TOKEN_OF_TEST}','echo copied $(printenv COPY | wc -c)']"
    ended = sweep.run(*LONG, "hydra.launcher.detach=true", "hydra/launcher=slurm", setup, seconds=30)
    assert ended.returncode == 0, ended.stderr
    assert "evsys-hydra status" in ended.stderr and not sweep.conclusion()
    assert {arm["queue"] for arm in sweep.status().values()} <= {"RUNNING", "PENDING (None)", "PENDING (Resources)"}
    again = sweep.verb("resume")
    assert "2 queued or running, 0 to submit" in again.stderr, again.stderr
    sweep.wait_for(sweep.conclusion, "the conclusion")
    assert sweep.causes() == {"lr=1": None, "lr=2": None}
    written = [path.read_text(errors="replace") for path in sweep.directory.parent.rglob("*") if path.is_file()]
    assert any("copied 15" in text for text in written)  # the job's shell had it
    assert not any("sk-very-secret" in text for text in written)


def test_arms_added_while_others_run(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    """What ends first neither concludes for those that run, nor takes them for dead."""
    sweep = sweeps(plain)
    sweep.run("lr=1,2", "algorithm=noop", "algorithm.seconds=25", "hydra.launcher.detach=true", seconds=60)
    sweep.wait_for(lambda: all(sweep.read(f"lr={lr}", "status.json") for lr in (1, 2)), "the first arms")
    added = sweep.start("lr=3,4", "algorithm=noop", "algorithm.seconds=0.1", f"resume={sweep.directory}").end()
    assert added.returncode == 0, added.stderr
    assert "concludes when the last one has ended" in added.stderr and not sweep.conclusion()
    assert not sweep.read("lr=1", "exit.json") and sweep.status()["lr=1"]["state"] == "running"
    sweep.wait_for(sweep.conclusion, "the conclusion")
    assert sweep.causes() == {f"lr={lr}": None for lr in (1, 2, 3, 4)}


def test_the_command_again(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    """resume=DIR: what is queued, running or completed is left alone; what is missing and what is new is submitted."""
    sweep = sweeps(plain)
    words = ("lr=1,2", "algorithm.do=complete,raise", "algorithm.seconds=4")
    sweep.run(*words, "hydra.launcher.detach=true", seconds=60)
    again = sweep.start(*words, f"resume={sweep.directory}").end()
    assert "0 completed, 4 queued or running, 0 to run" in again.stderr, again.stderr
    assert again.returncode == 0 and not sweep.submission(2)
    sweep.wait_for(sweep.conclusion, "the conclusion")
    before = {lr: sweep.read(f"do=complete,lr={lr}", "status.json") for lr in (1, 2)}
    last = sweep.start("lr=1,2,3", "algorithm.do=complete", "algorithm.seconds=4", f"resume={sweep.directory}").end()
    assert last.returncode == 0 and "2 completed, 0 queued or running, 1 to run" in last.stderr, last.stderr
    assert {lr: sweep.read(f"do=complete,lr={lr}", "status.json") for lr in (1, 2)} == before
    assert len(sweep.submission(2)["tasks"]) == 1
    assert sweep.conclusion()["generation"] == 2 and len(sweep.causes()) == 5


def test_two_sweeps_do_not_mix(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    both = [sweeps(plain, name) for name in ("one", "two")]
    for sweep, lr in zip(both, ("lr=1,2", "lr=3,4"), strict=True):
        sweep.start(f"hydra.sweep.dir={sweep.directory}", lr, "algorithm.do=complete,raise")
    assert [sweep.end().returncode for sweep in both] == [0, 0]
    assert [sorted(sweep.causes()) for sweep in both] == [
        [f"do={do},lr={lr}" for do in ("complete", "raise") for lr in pair] for pair in ((1, 2), (3, 4))
    ]
    assert [sweep.conclusion()["best_arm"] for sweep in both] == ["do=complete,lr=1", "do=complete,lr=3"]


def test_cancelled_as_a_whole_and_resumed(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(plain)
    sweep.run(
        "lr=1,2,3,4,5",
        "algorithm=steps",
        "algorithm.seconds=0.5",
        "hydra.launcher.detach=true",
        "hydra.launcher.array_parallelism=2",
    )
    sweep.wait_for(lambda: all(sweep.arm(f"lr={lr}").joinpath("events.jsonl").exists() for lr in (1, 2)), "two arms")
    assert "lr=3" in sweep.verb("cancel").stdout
    sweep.wait_for(sweep.conclusion, "the conclusion")
    assert set(sweep.causes().values()) == {"cancelled"}
    resumed = sweep.verb("resume", "hydra.launcher.detach=false")
    assert resumed.returncode == 0, resumed.stderr
    assert set(sweep.causes().values()) == {None}


def kill(sweep: Sweep) -> None:
    assert sweep.driver is not None
    os.killpg(sweep.driver.pid, signal.SIGKILL)
    sweep.driver.communicate()


def completed(sweep: Sweep, arm: str) -> bool:
    return sweep.read(arm, "status.json").get("state") == "completed"
