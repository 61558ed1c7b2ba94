"""The default launcher: whatever an arm does, the others finish, its cause is right, and the conclusion comes."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from evsys_hydra.record import ArmView, ExperimentRecord
from evsys_hydra.record.files import read_json
from tests.conftest import Run, command_line

CAUSES = {
    "complete": None,
    "raise": "user_error",
    "custom": "user_error",
    "exit": "user_error",
    "os_exit": "user_error",
    "kill": "killed",
    "memory": "out_of_memory",
    "loop": "timeout",
}


def verb(name: str, experiment: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["evsys-hydra", name, str(experiment)], capture_output=True, text=True, check=False)


def causes(experiment: Path) -> dict[str, str | None]:
    record = ExperimentRecord.load(experiment)
    views = [ArmView(record.arm_directory(name)) for name in record.arm_names]
    return {view.name.removeprefix("do="): view.cause for view in views if view.role == "arm"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["isolated", "submitit_local"])
def test_every_death_stays_in_its_arm(sweep: Run, tmp_path: Path, launcher: str) -> None:
    expected = dict(CAUSES)
    words = ["hydra.launcher.n_jobs=4", "hydra.launcher.timeout_min=0.2"]
    if launcher == "submitit_local":  # its time limit is a whole number of minutes
        del expected["loop"]
        words = []
    done = sweep(f"algorithm.do={','.join(expected)}", f"hydra/launcher={launcher}", *words)
    assert done.returncode == 0, done.stderr
    assert causes(tmp_path / "exp") == expected
    conclusion = read_json(tmp_path / "exp" / "conclusion.json")
    assert f"1/{len(expected)} arms completed." in conclusion["conclusion"]
    assert "Best arm: do=complete at pass_rate=" in conclusion["conclusion"]
    assert conclusion["arms"]["do=custom"]["error"] == "CustomError: code 7: on purpose"


@pytest.mark.slow
def test_basic_keeps_exceptions_and_exits_in_the_arm(sweep: Run, tmp_path: Path) -> None:
    done = sweep("algorithm.do=complete,raise,custom,exit", "hydra/launcher=basic")
    assert done.returncode == 0, done.stderr
    assert causes(tmp_path / "exp") == {key: CAUSES[key] for key in ("complete", "raise", "custom", "exit")}


@pytest.mark.slow
def test_all_arms_failed_is_exit_status_1_and_still_a_conclusion(sweep: Run, tmp_path: Path) -> None:
    done = sweep("algorithm.do=raise,kill")
    assert done.returncode == 1
    assert "All 2 arms failed." in (tmp_path / "exp" / "conclusion.md").read_text()


@pytest.mark.slow
def test_a_single_run_is_an_experiment_of_one_arm(sweep: Run, tmp_path: Path) -> None:
    done = sweep("lr=0.5", multirun=False)
    assert done.returncode == 0, done.stderr
    conclusion = read_json(tmp_path / "exp" / "conclusion.json")
    assert conclusion["verdict"]["verdict"] == "single_arm" and "1/1 arms completed." in conclusion["conclusion"]
    assert sweep("algorithm.do=os_exit", "hydra.run.dir=other", multirun=False).returncode == 1


@pytest.mark.slow
def test_ctrl_c_ends_the_running_arm_cancels_the_rest_and_concludes(tmp_path: Path, noop_words: list[str]) -> None:
    words = [*noop_words, f"hydra.sweep.dir={tmp_path / 'exp'}", "metadata.baseline=null", "lr=1,2"]
    driver = subprocess.Popen(
        command_line(*words, "algorithm.seconds=0,60"), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    _wait_for(lambda: _states(tmp_path / "exp").count("completed") == 1 and "running" in _states(tmp_path / "exp"))
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 0, errors
    found = [value for value in causes(tmp_path / "exp").values() if value is not None]
    assert found and set(found) == {"cancelled"}
    assert (tmp_path / "exp" / "conclusion.md").exists()


@pytest.mark.slow
def test_a_driver_killed_in_mid_sweep_is_finished_from_the_directory(tmp_path: Path, noop_words: list[str]) -> None:
    words = [*noop_words, f"hydra.sweep.dir={tmp_path / 'exp'}", "lr=1,2,3", "algorithm.seconds=2"]
    driver = subprocess.Popen(command_line(*words), cwd=tmp_path, stderr=subprocess.DEVNULL)
    _wait_for(lambda: "running" in _states(tmp_path / "exp", role="arm"))
    driver.kill()
    driver.wait()
    first = verb("conclude", tmp_path / "exp")
    assert "Not finished: lr=1, lr=2 and lr=3" in first.stdout, first.stderr
    again = verb("resume", tmp_path / "exp")
    assert again.returncode == 0, again.stderr
    assert "3/3 arms completed." in again.stdout
    record = ExperimentRecord.load(tmp_path / "exp")
    attempts = [ArmView(record.arm_directory(name)).attempt for name in record.arm_names]
    assert set(attempts) == {1}  # the arm that was running was waited for, not run twice


@pytest.mark.slow
def test_a_dropped_terminal_does_not_end_the_sweep(tmp_path: Path, noop_words: list[str]) -> None:
    words = [*noop_words, f"hydra.sweep.dir={tmp_path / 'exp'}", "lr=1,2", "algorithm.seconds=1"]
    driver = subprocess.Popen(command_line(*words), cwd=tmp_path, stderr=subprocess.DEVNULL)
    _wait_for(lambda: "running" in _states(tmp_path / "exp"))
    driver.send_signal(signal.SIGHUP)
    assert driver.wait(timeout=60) == 0
    assert "2/2 arms completed." in (tmp_path / "exp" / "conclusion.md").read_text()


@pytest.mark.slow
def test_resume_runs_only_what_did_not_complete(sweep: Run, tmp_path: Path) -> None:
    sweep("algorithm.do=complete,raise")
    done = verb("resume", tmp_path / "exp")
    assert "1 to run" in done.stdout
    record = ExperimentRecord.load(tmp_path / "exp")
    assert [ArmView(record.arm_directory(name)).attempt for name in ("do=complete", "do=raise")] == [1, 2]
    assert read_json(tmp_path / "exp" / "conclusion.json")["generation"] == record.facts["generation"] == 2


@pytest.mark.slow
def test_an_experiment_that_was_moved_is_resumed_where_it_is(sweep: Run, tmp_path: Path) -> None:
    sweep("algorithm.do=complete,raise")
    (tmp_path / "exp").rename(tmp_path / "moved")
    done = verb("resume", tmp_path / "moved")
    assert "1/2 arms completed." in done.stdout and not (tmp_path / "exp").exists()
    assert ArmView(tmp_path / "moved" / "arms" / "do=raise").attempt == 2


@pytest.mark.slow
def test_gpus_are_handed_to_one_arm_at_a_time(sweep: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    sweep("lr=1,2,3,4", "algorithm.seconds=0.3", "metadata.baseline=null", "hydra.launcher.n_jobs=3", check=True)
    spans = []
    record = ExperimentRecord.load(tmp_path / "exp")
    for name in record.arm_names:
        view = ArmView(record.arm_directory(name))
        gpu = next(view.events("provenance"))["environment"]["CUDA_VISIBLE_DEVICES"]
        spans.append((gpu, view.status["started"], view.status["ended"]))
    assert {gpu for gpu, *_ in spans} == {"4", "7"}
    for gpu in ("4", "7"):
        mine = sorted((start, end) for which, start, end in spans if which == gpu)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(mine))


@pytest.mark.slow
def test_results_are_json_for_scripts(sweep: Run, tmp_path: Path) -> None:
    sweep("lr=1,2", "seed=0,1", check=True)
    done = subprocess.run(
        ["evsys-hydra", "status", str(tmp_path / "exp"), "--json"], capture_output=True, text=True, check=True
    )
    facts = json.loads(done.stdout)
    assert facts["status"] == "completed" and len(facts["arms"]) == 5
    assert {arm["group"] for arm in facts["arms"]} == {"lr=1", "lr=2", "base"}


def _states(experiment: Path, role: str | None = None) -> list[str]:
    if not (experiment / "experiment.json").exists():
        return []
    record = ExperimentRecord.load(experiment)
    views = [ArmView(record.arm_directory(name)) for name in record.arm_names]
    return [view.state for view in views if role in (None, view.role)]


def _wait_for(condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
