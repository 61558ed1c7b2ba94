"""What a user did wrong is said clearly, with nothing launched; what the machine did wrong loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from evsys_hydra.record import ArmView, ExperimentRecord
from tests.conftest import TASKS, Run


def test_a_bad_task_line_is_named_with_file_and_line(sweep: Run, tmp_path: Path, tasks_folder: Path) -> None:
    lines = [json.dumps(task) for task in TASKS]
    lines[6] = '{"task_id": "t6", "instruction": '
    (tasks_folder / "tasks.jsonl").write_text("\n".join(lines))
    done = sweep("lr=1,2")
    assert done.returncode == 1
    assert f"{tasks_folder / 'tasks.jsonl'}:7" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "exp").exists()


def test_an_unknown_verifier_lists_the_known_ones(sweep: Run, tmp_path: Path, tasks_folder: Path) -> None:
    task = {**TASKS[0], "verifier": {"kind": "in_process", "fn_name": "exact_mtach", "expected": "0"}}
    (tasks_folder / "tasks.jsonl").write_text(json.dumps(task))
    done = sweep("lr=1,2")
    assert done.returncode == 1 and "exact_mtach" in done.stderr and "exact_match" in done.stderr
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("lr=abc", "lr = 'abc'"),
        ("model=demoo", "Available options in 'model'"),
        ("+metadata.hypothesys=x", "did you mean 'hypothesis'?"),
        ("data.rows=null +data.path=missing.jsonl", "missing.jsonl"),
        ("benchmark.path=missing", "missing"),
        (
            "inference=api inference.key_env=NO_SUCH_KEY",
            "inference.key_env: the environment variable NO_SUCH_KEY is not set. Set it to the server's key",
        ),
        ("metadata.success_metric=tasks.pass_rat", "will have no value (did you mean 'tasks.pass_rate'?)"),
        ("name_template='{lrr}'", "{lrr} is not a field of the config"),
        ("seed=range(0,0)", "no values"),
        (
            "model.nmae=x data.pth=y",
            "model.nmae: unknown field (did you mean 'name'?). Fields of model: chat_template, ",
        ),
        ("model.nmae=x data.lmit=1", "data.lmit: unknown field (did you mean 'limit'?). Fields of data: "),
        ("lr=1e-5,", "lr=1e-5,: a value is missing after the last ','"),
        ("lr=interval(0,1)", "a grid needs values to enumerate"),
    ],
)
def test_mistakes_on_the_command_line(sweep: Run, tmp_path: Path, word: str, said: str) -> None:
    done = sweep(*word.split())
    assert done.returncode == 1 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "exp" / "arms").exists()


def test_a_directory_that_cannot_be_written(sweep: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = sweep("lr=1", f"hydra.sweep.dir={tmp_path / 'file' / 'exp'}")
    assert done.returncode == 1 and "Cannot write the experiment's directory" in done.stderr
    assert "Nothing was launched" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a read-only and a small file system needs root")
def test_a_read_only_output_directory(sweep: Run, tmp_path: Path) -> None:
    with mounted(tmp_path / "ro", "ro"):
        done = sweep("lr=1", f"hydra.sweep.dir={tmp_path / 'ro' / 'exp'}")
    assert done.returncode == 1 and "Read-only file system" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a read-only and a small file system needs root")
def test_a_full_disk_while_recording_is_said_and_finished_later(sweep: Run, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=3m"):
        exp = tmp_path / "small" / "exp"
        done = sweep("lr=1,2", "algorithm.do=complete,fill", f"hydra.sweep.dir={exp}", f"+hydra.job.env_set.FILL={exp}")
        assert done.returncode == 1
        assert "No space left on device" in done.stderr and f"evsys-hydra conclude {exp}" in done.stderr, done.stderr
        (exp / "filler").unlink()
        again = subprocess.run(["evsys-hydra", "conclude", str(exp)], capture_output=True, text=True, check=False)
        assert "arms completed" in again.stdout, again.stderr
        record = ExperimentRecord.load(exp)
        states = {name: ArmView(record.arm_directory(name)).state for name in record.arm_names}
        assert states["do=complete,lr=1"] == "completed" and states["do=fill,lr=1"] == "failed"


@pytest.mark.slow
def test_a_secret_stays_in_the_environment(
    sweep: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noop_words: list[str]
) -> None:
    secret = "sk-very-secret-4711"
    monkeypatch.setenv("MY_KEY", secret)
    sweep("lr=1,2", "metadata.hypothesis='${oc.env:MY_KEY}'", "store=local", "algorithm.do=complete,raise", check=True)
    assert "${oc.env:MY_KEY}" in (tmp_path / "exp" / "arms" / "do=complete,lr=1" / "config.yaml").read_text()
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert holding == []


def test_an_unset_variable_of_the_environment_is_named(sweep: Run) -> None:
    done = sweep("lr=1", "metadata.hypothesis='${oc.env:NO_SUCH_VARIABLE}'")
    assert done.returncode == 1 and "NO_SUCH_VARIABLE" in done.stderr


@pytest.mark.slow
def test_optuna_can_drive_the_arms(sweep: Run, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    done = sweep(
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.n_jobs=2",
        "hydra.sweeper.direction=maximize",
        "hydra.sweeper.sampler.seed=1",
        "algorithm.skill=interval(0.0, 1.0)",
    )
    assert done.returncode == 0, done.stderr
    record = ExperimentRecord.load(tmp_path / "exp")
    roles = [ArmView(record.arm_directory(name)).role for name in record.arm_names]
    assert roles.count("arm") == 4 and roles.count("baseline") == 1
    best = (tmp_path / "exp" / "optimization_results.yaml").read_text()
    conclusion = json.loads((tmp_path / "exp" / "conclusion.json").read_text())
    assert f"best_value: {conclusion['best_score']}" in best


class mounted:
    """A tmpfs for the time of a test."""

    def __init__(self, path: Path, options: str) -> None:
        self.path, self.options = path, options

    def __enter__(self) -> None:
        self.path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", self.options, "tmpfs", str(self.path)], check=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self.path)], check=True)
