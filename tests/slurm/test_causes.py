"""Every way an arm can end gets its cause, and the others are ranked; with accounting and without."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .cluster import Cluster
from .conftest import Sweep

pytestmark = pytest.mark.slurm


def test_every_cause(cluster: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(cluster)
    kinds = "complete,raise,custom,exit,os_exit,busy_exit,kill,memory,loop"
    sweep.start(f"hydra.sweep.dir={sweep.directory}", f"algorithm.do={kinds}", "lr=1,2", "hydra.launcher.timeout_min=1")
    sweep.wait_for(lambda: sweep.read("do=loop,lr=2", "status.json").get("state") == "running", "the looping arms")
    cancelled = sweep.verb("cancel", "do=loop,lr=2")
    assert "do=loop,lr=2" in cancelled.stdout, cancelled.stderr
    ended = sweep.end(150)
    assert ended.returncode == 0, ended.stderr
    expected = {
        "complete": None,
        "raise": "user_error",
        "custom": "user_error",
        "exit": "user_error",
        "os_exit": "user_error",
        "busy_exit": "user_error",
        "kill": "killed",
        "memory": "out_of_memory",
    }
    causes = sweep.causes()
    assert causes == {
        **{f"do={kind},lr={lr}": cause for kind, cause in expected.items() for lr in (1, 2)},
        "do=loop,lr=1": "timeout",
        "do=loop,lr=2": "cancelled",
    }
    conclusion = sweep.conclusion()
    assert conclusion["best_arm"] == "do=complete,lr=1"
    assert "2/18 arms completed." in conclusion["conclusion"]
    assert "failed: timeout" in ended.stderr and "failed: cancelled" in ended.stderr
    states = slurm_states(sweep)
    assert {states[name] for name, cause in causes.items() if cause is None} == {"COMPLETED"}
    failed = {name: states[name] for name, cause in causes.items() if cause not in (None, "timeout", "cancelled")}
    assert set(failed.values()) == {"FAILED"}, failed
    assert states["do=loop,lr=1"] == "TIMEOUT" and states["do=loop,lr=2"] == "CANCELLED"


def test_a_job_that_cannot_start_says_why(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(plain)
    ended = sweep.run("lr=1,2", "hydra.launcher.setup=['echo the module is missing >&2','exit 7']")
    assert ended.returncode == 1
    assert sweep.causes() == {"lr=1": "never_started", "lr=2": "never_started"}
    assert "the module is missing" in sweep.conclusion()["arms"]["lr=1"]["error"]
    mended = sweep.verb("resume", "hydra.launcher.setup=null")
    assert mended.returncode == 0, mended.stderr
    assert sweep.causes() == {"lr=1": None, "lr=2": None}


def test_what_slurm_refuses_is_said_and_nothing_is_left(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(plain)
    ended = sweep.run("lr=1,2", "hydra.launcher.partition=nowhere")
    assert ended.returncode != 0
    assert "invalid partition" in ended.stderr.lower() and "evsys-hydra resume" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not sweep.conclusion() and not plain.queue()
    mended = sweep.verb("resume", "hydra.launcher.partition=main")
    assert mended.returncode == 0, mended.stderr
    assert sweep.causes() == {"lr=1": None, "lr=2": None}


def slurm_states(sweep: Sweep) -> dict[str, str]:
    """Arm -> the state that the controller shows for its job."""
    submission = sweep.submission()
    job = submission["chunks"][0]["job"]
    return {names[0]: sweep.cluster.job_state(f"{job}_{index}") for index, names in enumerate(submission["tasks"])}
