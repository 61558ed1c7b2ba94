"""Distributed arms, several arms in a job, and more arms than an array may have."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from .cluster import Cluster
from .conftest import Sweep, started

pytestmark = pytest.mark.slurm


def test_ranks(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(plain)
    ended = sweep.run(
        "lr=1",
        "algorithm=ranked",
        "algorithm.failing_rank=-1,1",
        "algorithm.late=false,true",
        "hydra.launcher.nodes=2",
        "hydra.launcher.tasks_per_node=1",
    )
    assert ended.returncode == 0, ended.stderr
    arms = sweep.conclusion()["arms"]
    good = [name for name, arm in arms.items() if arm["cause"] is None]
    bad = [name for name, arm in arms.items() if arm["cause"] == "user_error"]
    assert all("failing_rank=-1" in name for name in good) and all("failing_rank=1" in name for name in bad)
    assert (len(good), len(bad)) == (2, 2), arms
    for name in good:
        assert arms[name]["metrics"]["total"] == 3.0
        assert sweep.read(name, "ranks/1/status.json")["state"] == "completed"
        assert "rank 1 of 2: 3.0" in (sweep.arm(name) / "ranks/1/arm.log").read_text()
        assert "rank 0 of 2: 3.0" in (sweep.arm(name) / "arm.log").read_text()
    for name in bad:
        assert arms[name]["error"] == "Rank 1: ValueError: rank 1 does not work"
        index = sweep.submission()["tasks"].index([name])
        assert plain.job_state(f"{sweep.submission()['chunks'][0]['job']}_{index}") == "FAILED"


def test_ranks_of_one_node(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(plain)
    ended = sweep.run("lr=1", "algorithm=ranked", "algorithm.failing_rank=-1,1", "hydra.launcher.tasks_per_node=2")
    assert ended.returncode == 0, ended.stderr
    arms = sweep.conclusion()["arms"]
    assert arms["failing_rank=-1"]["metrics"]["total"] == 3.0
    assert arms["failing_rank=1"]["error"] == "Rank 1: ValueError: rank 1 does not work"


def test_gpus(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    """Each of the arms that share a job is handed one of its GPUs; an arm of its own gets all that its job has."""
    several, alone = sweeps(plain), sweeps(plain, "alone")
    for sweep, words in ((several, ("hydra.launcher.arms_per_job=4",)), (alone, ())):
        ended = sweep.run("lr=1,2,3,4", "hydra.launcher.gpus_per_node=2", "algorithm.seconds=0.5", *words)
        assert ended.returncode == 0, ended.stderr
    shared = [gpus(several, f"lr={lr}") for lr in (1, 2, 3, 4)]
    assert sorted(set(shared)) == ["0", "1"] and shared[:2] in (["0", "1"], ["1", "0"])
    assert {gpus(alone, f"lr={lr}") for lr in (1, 2, 3, 4)} == {"0,1"}


def gpus(sweep: Sweep, arm: str) -> str:
    """CUDA_VISIBLE_DEVICES as the arm's process had it."""
    events = map(json.loads, (sweep.arm(arm) / "events.jsonl").read_text().splitlines())
    provenance = next(event for event in events if event["kind"] == "provenance")
    return str(provenance["environment"]["CUDA_VISIBLE_DEVICES"])


def test_several_arms_in_a_job(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(plain)
    kinds = ("complete", "raise", "os_exit", "kill", "memory")
    ended = sweep.run("lr=1,2", f"algorithm.do={','.join(kinds)}", "hydra.launcher.arms_per_job=4")
    assert ended.returncode == 0, ended.stderr
    causes = {
        "complete": None,
        "raise": "user_error",
        "os_exit": "user_error",
        "kill": "killed",
        "memory": "out_of_memory",
    }
    assert sweep.causes() == {f"do={kind},lr={lr}": cause for kind, cause in causes.items() for lr in (1, 2)}
    assert [len(task) for task in sweep.submission()["tasks"]] == [4, 4, 2]


def test_several_arms_in_a_job_that_is_preempted(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(plain)
    sweep.start(
        f"hydra.sweep.dir={sweep.directory}",
        "lr=1,2,3",
        "algorithm=steps",
        "algorithm.steps=10",
        "algorithm.seconds=0.5",
        "hydra.launcher.arms_per_job=3",
    )
    sweep.wait_for(lambda: sweep.read("lr=2", "status.json").get("state") == "running", "the second arm")
    plain.call("sbatch", "-p", "urgent", "-N4", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
    ended = sweep.end(120)
    assert ended.returncode == 0, ended.stderr
    assert sweep.causes() == {"lr=1": None, "lr=2": None, "lr=3": None}
    attempts = [len(sweep.began_at(f"lr={lr}")) for lr in (1, 2, 3)]
    assert attempts[:2] == [1, 2] and attempts[2] <= 2  # the third may have begun when the second was ended
    assert sweep.read("lr=2", "attempts/1/exit.json")["cause"] == "preempted"


@pytest.fixture
def small_arrays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose arrays have at most 20 tasks."""
    # a short folder: the path of a slurmstepd's socket may have 108 characters
    yield from started(tmp_path_factory.mktemp("slurm"), False, max_array_size=21)


def test_more_arms_than_an_array_may_have(small_arrays: Cluster, sweeps: Callable[..., Sweep]) -> None:
    assert_chunks(sweeps(small_arrays), 50, [17, 17, 16])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_and_fifty_arms(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    assert_chunks(sweeps(plain), 1050, [525, 525])


def assert_chunks(sweep: Sweep, arms: int, counts: list[int]) -> None:
    """So many arms run once each, in arrays of these sizes, and are concluded."""
    ended = sweep.run(f"lr=range(1,{arms + 1})", seconds=1800)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert [chunk["count"] for chunk in sweep.submission()["chunks"]] == counts
    conclusion = sweep.conclusion()
    assert conclusion["best_arm"] == "lr=1" and f"{arms}/{arms} arms completed" in conclusion["conclusion"]
    attempts = [json.loads(path.read_text())["attempt"] for path in sweep.directory.glob("arms/*/status.json")]
    assert attempts == [1] * arms
    sweep.wait_for(lambda: not sweep.cluster.queue(), "an empty queue", 30)
