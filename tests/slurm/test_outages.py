"""SLURM's own daemons go away for a while: nothing is lost, and nobody has to do anything."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from .cluster import Cluster
from .conftest import Sweep

pytestmark = pytest.mark.slurm


def test_the_controller_is_away(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    """While jobs are submitted, and again while they run and end."""
    sweep = sweeps(plain)
    plain.stop_controller()
    try:
        sweep.start(
            f"hydra.sweep.dir={sweep.directory}", "lr=1,2", "algorithm.do=complete,raise", "algorithm.seconds=3"
        )
        sweep.wait_for((sweep.directory / "multirun.yaml").exists, "the plan")
        time.sleep(3)
        assert not sweep.submission() or not sweep.submission()["complete"]
        plain.start_controller()
        sweep.wait_for(lambda: sweep.read("do=complete,lr=2", "status.json"), "running arms")
        plain.stop_controller()
        sweep.wait_for(lambda: sweep.read("do=complete,lr=2", "status.json")["state"] == "completed", "the arm's end")
        assert sweep.driver is not None and sweep.driver.poll() is None
    finally:
        if "slurmctld" not in plain.processes:
            plain.start_controller()
    ended = sweep.end(120)
    assert ended.returncode == 0, ended.stderr
    assert sweep.causes() == {f"do={do},lr={lr}": cause for do, cause in CAUSES.items() for lr in (1, 2)}
    sweep.wait_for(lambda: not plain.queue(), "an empty queue", 60)


def test_the_database_is_away(accounted: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(accounted)
    accounted.stop_database_daemon()
    try:
        ended = sweep.run("lr=1,2", "algorithm.do=complete,raise,kill")
    finally:
        accounted.start_database_daemon()
    assert ended.returncode == 0, ended.stderr
    causes = {**CAUSES, "kill": "killed"}
    assert sweep.causes() == {f"do={do},lr={lr}": cause for do, cause in causes.items() for lr in (1, 2)}


CAUSES = {"complete": None, "raise": "user_error"}
