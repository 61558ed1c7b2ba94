"""The sweep's command again, with resume=DIR: what is missing is run, what is there stays as it is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.record import ExperimentRecord
from tests.conftest import Run, command_line

LAUNCHERS = ["isolated", pytest.param("submitit_local", marks=pytest.mark.slow)]
WORDS = ("metadata.benchmark=null", "metadata.success_metric=loss")


def read(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return facts


def statuses(experiment: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: read(path) for path in experiment.glob("arms/*/status.json")}


def wait_for(ready: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.slow
def test_only_what_is_missing_is_run(launcher: str, sweep: Run, tmp_path: Path) -> None:
    exp, there = tmp_path / "exp", f"hydra/launcher={launcher}"
    sweep(*WORDS, there, "algorithm.do=complete,raise")
    before = statuses(exp)
    again = sweep(*WORDS, there, "algorithm.do=complete,raise,exit", f"resume={exp}", "hydra.sweep.dir=elsewhere")
    assert again.returncode == 0, again.stderr
    assert "1 completed, 0 queued or running, 2 to run" in again.stderr
    after = statuses(exp)
    assert after["do=complete"] == before["do=complete"] and after["do=raise"]["attempt"] == 2
    assert after["do=exit"]["attempt"] == 1 and not (tmp_path / "elsewhere").exists()
    conclusion = read(exp / "conclusion.json")
    assert conclusion["generation"] == 2 and set(conclusion["arms"]) == {"do=complete", "do=raise", "do=exit"}


@pytest.mark.slow
def test_an_arm_is_known_by_its_config_not_its_name(sweep: Run, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    sweep(*WORDS, "lr=1,2")
    before = statuses(exp)
    again = sweep(*WORDS, "seed=0,1", "lr=2,3", f"resume={exp}")
    assert "1 completed, 0 queued or running, 3 to run" in again.stderr, again.stderr
    after = statuses(exp)
    assert {name: after[name] for name in before} == before
    assert len(after) == 5
    groups = {name: read(exp / "arms" / name / "arm.json")["group"] for name in after}
    assert sorted(groups.values()) == ["lr=1", "lr=2", "lr=2", "lr=3", "lr=3"]


@pytest.mark.slow
def test_a_driver_that_ended_before_it_had_planned(sweep: Run, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    ExperimentRecord.create(exp, name="demo", metadata={})
    resumed = verb("resume", exp)
    assert resumed.returncode == 1 and f"command again, with resume={exp}" in resumed.stderr
    again = sweep(*WORDS, "lr=1,2", f"resume={exp}")
    assert again.returncode == 0, again.stderr
    assert set(read(exp / "conclusion.json")["arms"]) == {"lr=1", "lr=2"}


@pytest.mark.slow
def test_nothing_is_missing(sweep: Run, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    sweep(*WORDS, "lr=1,2")
    facts = read(exp / "experiment.json")
    again = sweep(*WORDS, "lr=1,2", f"resume={exp}")
    assert again.returncode == 0 and "2 completed, 0 queued or running, 0 to run" in again.stderr
    assert read(exp / "experiment.json") == facts


@pytest.mark.slow
def test_another_config_under_a_known_name_is_refused(sweep: Run, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    sweep(*WORDS, "lr=1,2")
    (exp / "conclusion.md").unlink()
    again = sweep(*WORDS, "lr=1,2", "algorithm.skill=0.7", f"resume={exp}")
    assert again.returncode == 1
    assert "algorithm.skill was 0.5, is 0.7" in again.stderr and "name_template" in again.stderr
    assert not (exp / "conclusion.md").exists()


@pytest.mark.slow
def test_last_and_no_experiment(sweep: Run, tmp_path: Path) -> None:
    none = sweep(*WORDS, "lr=1,2", "resume=last")
    assert none.returncode == 1 and f"there is no experiment in {tmp_path}" in none.stderr
    wrong = sweep(*WORDS, "lr=1,2", f"resume={tmp_path}")
    assert wrong.returncode == 1 and "is not an experiment's directory" in wrong.stderr
    sweep(*WORDS, "lr=1", "hydra.sweep.dir=first")
    again = sweep(*WORDS, "lr=1,2", "resume=last")
    assert "1 completed, 0 queued or running, 1 to run" in again.stderr
    assert len(list((tmp_path / "first" / "arms").iterdir())) == 2


@pytest.mark.slow
def test_two_drivers_never_run_the_same_arm(sweep: Run, noop_words: list[str], tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    sweep(*WORDS, "lr=9")
    words = [*noop_words, *WORDS, "algorithm.seconds=1", "lr=1,2,3", f"resume={exp}"]
    drivers = [
        subprocess.Popen(command_line(*words), cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    errors = [driver.communicate(timeout=60)[1] for driver in drivers]
    codes = [driver.returncode for driver in drivers]
    assert sorted(codes) == [0, 1], errors
    refused = errors[codes.index(1)]
    assert f"is driven by process {drivers[codes.index(0)].pid} on " in refused and "evsys-hydra cancel" in refused
    assert [facts["attempt"] for facts in statuses(exp).values()] == [1, 1, 1, 1]


@pytest.mark.slow
def test_a_killed_driver_does_not_stand_in_the_way(noop_words: list[str], sweep: Run, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    words = [*noop_words, *WORDS, "lr=1,2,3", "algorithm.seconds=1"]
    driver = subprocess.Popen(command_line(*words, f"hydra.sweep.dir={exp}"), cwd=tmp_path, stderr=subprocess.PIPE)
    wait_for((exp / "arms" / "lr=1" / "status.json").exists)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    again = sweep(*WORDS, "lr=1,2,3", "algorithm.seconds=1", f"resume={exp}")
    assert again.returncode == 0, again.stderr
    assert {name: (facts["state"], facts["attempt"]) for name, facts in statuses(exp).items()} == {
        f"lr={lr}": ("completed", 1) for lr in (1, 2, 3)
    }


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.slow
def test_cancel_ends_the_driver(launcher: str, noop_words: list[str], tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    words = [*noop_words, *WORDS, "lr=1,2", "algorithm.do=loop", f"hydra/launcher={launcher}"]
    driver = subprocess.Popen(command_line(*words, f"hydra.sweep.dir={exp}"), cwd=tmp_path, stderr=subprocess.PIPE)
    wait_for((exp / "arms" / "lr=1" / "status.json").exists)
    done = verb("cancel", exp)
    assert done.stdout.strip() == "cancelled: lr=1, lr=2", done.stderr
    driver.communicate(timeout=30)
    assert {arm["cause"] for arm in read(exp / "conclusion.json")["arms"].values()} == {"cancelled"}
    assert verb("cancel", exp).stdout.strip() == "cancelled: nothing was queued or running"


@pytest.mark.slow
def test_cancel_one_arm(noop_words: list[str], tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    words = [*noop_words, *WORDS, "algorithm.do=loop,complete", f"hydra.sweep.dir={exp}"]
    driver = subprocess.Popen(command_line(*words), cwd=tmp_path, stderr=subprocess.PIPE)
    wait_for((exp / "arms" / "do=loop" / "status.json").exists)
    assert "pending, not running" in verb("cancel", exp, "do=complete").stderr
    assert verb("cancel", exp, "do=loop").stdout.strip() == "cancelled: do=loop"
    driver.communicate(timeout=30)
    assert driver.returncode == 0
    assert {name: arm["cause"] for name, arm in read(exp / "conclusion.json")["arms"].items()} == {
        "do=loop": "cancelled",
        "do=complete": None,
    }


@pytest.mark.slow
def test_cancel_says_where_else_it_runs(sweep: Run, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    sweep(*WORDS, "lr=1")
    status = exp / "arms" / next((exp / "arms").iterdir()).name / "status.json"
    status.write_text(json.dumps({**read(status), "state": "running", "node": "another.example"}))
    done = verb("cancel", exp)
    assert done.returncode == 1 and "runs on another.example; cancel it there" in done.stderr


def verb(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evsys_hydra.cli", name, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
