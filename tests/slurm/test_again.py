"""Jobs that SLURM runs again: the arm goes on from its checkpoint, its attempts are kept apart."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from .cluster import Cluster
from .conftest import Sweep

pytestmark = pytest.mark.slurm
STEPS = ("algorithm=steps", "algorithm.steps=12", "algorithm.seconds=0.5")


def test_a_dead_node(cluster: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(cluster)
    sweep.start(
        f"hydra.sweep.dir={sweep.directory}",
        "lr=1,2",
        *STEPS,
        "algorithm.steps=60",
        "+hydra.launcher.additional_parameters.spread-job=true",
    )
    sweep.wait_for(lambda: step(sweep, "lr=1") >= 3 and step(sweep, "lr=2") >= 3, "some steps")
    node = sweep.read("lr=1", "status.json")["node"]
    on_it = [arm for arm in ("lr=1", "lr=2") if sweep.read(arm, "status.json")["node"] == node]
    final = sweeps(cluster, "final")  # beside it one that may not be run again
    final.start(
        f"hydra.sweep.dir={final.directory}",
        "lr=1,2",
        *STEPS,
        "algorithm.steps=1000",
        f"+hydra.launcher.additional_parameters={{no-requeue:true,nodelist:{node}}}",
    )
    final.wait_for(lambda: step(final, "lr=2") >= 1, "some steps")
    cluster.kill_node(node)
    try:
        ended, lost = sweep.end(120), final.end(120)
    finally:
        cluster.start_node(node)
    assert ended.returncode == 0, ended.stderr
    assert lost.returncode == 1 and final.causes() == {"lr=1": "node_failure", "lr=2": "node_failure"}
    assert sweep.causes() == {"lr=1": None, "lr=2": None}
    for arm in on_it:
        first, second = sweep.began_at(arm)
        assert first == 0 and second >= 3
        assert sweep.read(arm, "attempts/1/status.json")["node"] == node
        assert sweep.read(arm, "status.json")["attempt"] == 2 and (sweep.arm(arm) / "attempts/1/arm.log").exists()
    cluster.wait_for(lambda: cluster.idle_nodes() == 4, "the node")


@pytest.mark.parametrize("deaf", [False, True])  # ended by SIGTERM, or only by SIGKILL after the grace time
def test_preempted(deaf: bool, cluster: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(cluster)
    sweep.start(f"hydra.sweep.dir={sweep.directory}", "lr=1,2", *STEPS, "algorithm.steps=70", f"algorithm.deaf={deaf}")
    sweep.wait_for(lambda: step(sweep, "lr=1") >= 3, "some steps")
    cluster.call("sbatch", "-p", "urgent", "-N4", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 3")
    sweep.wait_for(lambda: sweep.status()["lr=1"]["queue"] not in (None, "RUNNING"), "the preemption")
    assert "failed" not in preempted_and_resumed(sweep).stderr


def test_told_to_end_before_it_is_known_why(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(plain)
    sweep.start(f"hydra.sweep.dir={sweep.directory}", "lr=1,2", *STEPS, "algorithm.steps=40", "algorithm.deaf=true")
    sweep.wait_for(lambda: step(sweep, "lr=1") >= 3, "some steps")
    job = sweep.read("lr=1", "status.json")["job"]
    plain.call("scancel", "--signal=TERM", job)  # a signal that SLURM has no word about
    sweep.wait_for(lambda: sweep.read("lr=1", "exit.json"), "the word of the signal")
    assert sweep.read("lr=1", "exit.json")["cause"] == "cancelled"
    plain.call("scontrol", "requeue", job)
    preempted_and_resumed(sweep)


def test_a_timeout_is_run_again_as_often_as_allowed(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(plain)
    sweep.start(
        f"hydra.sweep.dir={sweep.directory}",
        "lr=1,2",
        "algorithm=steps",
        "algorithm.seconds=0.5",
        "algorithm.steps=150,100000",
        "hydra.launcher.timeout_min=1",
        "hydra.launcher.max_num_timeout=1",
        "hydra.launcher.signal_delay_s=30",
    )
    ended = sweep.end(240)
    assert ended.returncode == 0, ended.stderr
    causes = sweep.causes()
    for lr in (1, 2):
        assert causes[f"steps=150,lr={lr}"] is None and len(sweep.began_at(f"steps=150,lr={lr}")) == 2
        assert causes[f"steps=100000,lr={lr}"] == "timeout"
        assert len(sweep.began_at(f"steps=100000,lr={lr}")) == 2
        assert sweep.read(f"steps=150,lr={lr}", "attempts/1/exit.json")["cause"] == "timeout"


def test_completed_arms_are_not_run_again(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(plain)
    assert sweep.run("lr=1,2", "algorithm.do=complete,kill").returncode == 0
    before = {lr: sweep.read(f"do=complete,lr={lr}", "status.json") for lr in (1, 2)}
    resumed = sweep.verb("resume")
    assert "2 completed, 0 queued or running, 2 to submit" in resumed.stderr
    assert sweep.submission(2)["tasks"] == [["do=kill,lr=1"], ["do=kill,lr=2"]]
    assert {lr: sweep.read(f"do=complete,lr={lr}", "status.json") for lr in (1, 2)} == before
    assert sweep.read("do=kill,lr=1", "attempts/1/exit.json")["cause"] == "killed"
    assert sweep.conclusion()["generation"] == 2


def preempted_and_resumed(sweep: Sweep) -> subprocess.CompletedProcess[str]:
    """The driver's end, after an arm was preempted after some steps and went on from there."""
    ended = sweep.end(120)
    assert ended.returncode == 0, ended.stderr
    first, second = sweep.began_at("lr=1")
    assert first == 0 and second >= 3
    said = sweep.read("lr=1", "attempts/1/exit.json")
    assert said["cause"] == "preempted", (said, sweep.said_by_slurm())
    return ended


def step(sweep: Sweep, arm: str) -> int:
    path = sweep.arm(arm) / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return max((event["done"] for event in map(json.loads, lines) if event["kind"] == "progress"), default=0)
