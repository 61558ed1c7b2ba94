"""Checkpoints are complete or absent; what resumes from one ends with the bits of what was never stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from omegaconf import open_dict

from evsys_hydra.arm import live
from evsys_hydra.composed import typed_config
from evsys_hydra.record import ArmRecord
from evsys_hydra.sweep.open import compose
from evsys_hydra.training.checkpoint import (
    facts_of,
    keep_newest,
    newest_complete,
    problem_of,
    remove_unfinished,
    step_name,
    write_checkpoint,
)
from evsys_hydra.training.errors import CheckpointError
from evsys_hydra.training.saving import Saver, clear
from evsys_hydra.training.stepping import Stepper

from .parts import events, make_tiny_model, run_sft, sft_config, weights_hash

ROOT = Path(__file__).resolve().parents[2]


def fill(directory: Path) -> None:
    (directory / "sub").mkdir()
    (directory / "weights").write_bytes(b"w" * 1000)
    (directory / "sub" / "config").write_text("c")


def make(directory: Path, step: int, **facts: Any) -> Path:
    return write_checkpoint(directory / step_name(step), fill, facts)


def test_a_written_checkpoint_is_complete(tmp_path: Path) -> None:
    path = make(tmp_path / "checkpoints", 5, run="a")
    assert problem_of(path) is None
    assert facts_of(path) == {"run": "a"}
    assert (path / "sub" / "config").read_text() == "c"
    assert [entry.name for entry in path.parent.iterdir()] == ["step-00000005"]


@pytest.mark.parametrize("damage", ["missing", "short", "changed", "no manifest", "torn manifest"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    older, newer = make(tmp_path, 1), make(tmp_path, 2)
    if damage == "missing":
        (newer / "sub" / "config").unlink()
    elif damage == "short":
        (newer / "weights").write_bytes(b"w" * 999)
    elif damage == "changed":
        (newer / "weights").write_bytes(b"v" * 1000)
    elif damage == "no manifest":
        (newer / "manifest.json").unlink()
    else:
        (newer / "manifest.json").write_bytes((newer / "manifest.json").read_bytes()[:-9])
    assert problem_of(newer) is not None
    assert newest_complete(tmp_path) == older
    assert problem_of(make(tmp_path, 2)) is None  # writing it again repairs it


def test_a_checkpoint_of_another_training_is_passed_over(tmp_path: Path) -> None:
    mine = make(tmp_path, 1, config_hash="a")
    make(tmp_path, 2, config_hash="b")
    assert newest_complete(tmp_path, config_hash="a") == mine
    assert newest_complete(tmp_path, config_hash="c") is None


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken(directory: Path) -> None:
        (directory / "part").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(tmp_path / step_name(1), broken)
    assert list(tmp_path.iterdir()) == []


def test_only_the_newest_are_kept_and_half_written_ones_go(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        make(tmp_path, step)
    (tmp_path / ".writing-step-00000004").mkdir()
    keep_newest(tmp_path, 2)
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


@pytest.mark.model
def test_resumable_checkpoints_go_when_training_is_done_unless_asked_for(tiny: Path, tmp_path: Path) -> None:
    timed = {"save_every_minutes": 1e-9}
    result = run_sft(tmp_path / "timed", tiny, timed)
    left = sorted(path.name for path in (tmp_path / "timed" / "checkpoints").iterdir())
    assert left == ["final", "step-00000005"]  # a kill before the result is on disk costs one step
    clear(sft_config(**timed), tmp_path / "timed", Path(result.artifacts["checkpoint"]))
    assert [path.name for path in (tmp_path / "timed" / "checkpoints").iterdir()] == ["final"]
    assert [line["step"] for line in events(tmp_path / "timed", "checkpoint")] == [1, 2, 3, 4, 5, 6]
    asked = run_sft(tmp_path / "asked", tiny, {"save_every_steps": 2, "keep_last": 2})
    clear(sft_config(save_every_steps=2, keep_last=2), tmp_path / "asked", Path(asked.artifacts["checkpoint"]))
    left = sorted(path.name for path in (tmp_path / "asked" / "checkpoints").iterdir())
    assert left == ["final", "step-00000002", "step-00000004"]


@pytest.mark.model
def test_an_arm_removes_them_once_its_result_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["algorithm.max_steps=3", "algorithm.save_every_minutes=1e-9", "data.limit=8", "store=none"]
    _, master = compose([*words, "metadata.benchmark=null", "metadata.success_metric=loss", "metadata.baseline=null"])
    with open_dict(master):
        del master["hydra"]
    directory = tmp_path / "arm"
    directory.mkdir()

    def full_disk(path: Path, value: object) -> None:
        raise OSError(28, f"No space left on device: {path.name}")

    with monkeypatch.context() as patched, pytest.raises(OSError, match=r"trained\.json"):
        patched.setattr("evsys_hydra.arm.write_json", full_disk)
        attempt(master, directory)
    assert names(directory) == ["final", "step-00000002"]
    attempt(master, directory)
    assert [line["step"] for line in events(directory, "resumed")] == [2]
    assert names(directory) == ["final"]


def attempt(config: Any, directory: Path) -> None:
    """The life of an arm in this process."""
    record = ArmRecord(directory)
    record.start()
    try:
        live(typed_config(config), record)
    except OSError as error:
        record.fail("user_error", str(error))
        raise


@pytest.mark.model
def test_checkpoints_at_shares_of_the_steps(tiny: Path, tmp_path: Path) -> None:
    run_sft(tmp_path / "a", tiny, {"save_at": [0.25, 0.5], "keep_last": 2})
    left = sorted(path.name for path in (tmp_path / "a" / "checkpoints").iterdir())
    assert left == ["final", "step-00000002", "step-00000003"]


@pytest.mark.model
def test_another_config_in_the_same_directory_starts_afresh(tiny: Path, tmp_path: Path) -> None:
    run_sft(tmp_path / "arm", tiny, {"save_every_steps": 2, "keep_last": 2})
    run_sft(tmp_path / "arm", tiny, {"save_every_steps": 5, "lr": 2e-3})
    left = sorted(path.name for path in (tmp_path / "arm" / "checkpoints").iterdir())
    assert left == ["final", "step-00000005"]
    assert events(tmp_path / "arm", "resumed") == []
    fresh = run_sft(tmp_path / "fresh", tiny, {"lr": 2e-3})
    assert weights_hash(tmp_path / "arm" / "checkpoints" / "final") == weights_hash(fresh)


@pytest.mark.model
@pytest.mark.parametrize(
    ("kind", "stride"),
    [
        ("full", 11),
        ("lora", 40),
        pytest.param("full", 1, marks=pytest.mark.slow),
        pytest.param("lora", 1, marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment_it_resumes_to_the_same_bits(tmp_path: Path, kind: str, stride: int) -> None:
    """SIGKILL before steps in mid-epoch, and at each call that changes the disk in every save, dropout on."""
    model = make_tiny_model(tmp_path / "model", dropout=0.1)
    script = [sys.executable, "-m", "tests.training.killer", str(model), str(tmp_path / "work"), kind, str(stride)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    resumed = found["resumed"]
    assert {run["hash"] for run in resumed.values()} == {found["whole"]}
    assert {run["metrics"] for run in resumed.values()} == {found["whole_metrics"]}
    assert [resumed[f"step-{step}"]["from"] for step in (2, 5, 8, 10)] == [[], [3], [6], [9]]
    assert len(resumed) >= 4 + 60 // stride
    assert {tuple(run["left"]) for run in resumed.values()} == {("final", "step-00000006", "step-00000009")}


class Scripted:
    """An in-loop eval with the value of each step."""

    every = 1

    def __init__(self, *values: float) -> None:
        self.values = values

    def __call__(self, model: Any, tokenizer: Any, step: int) -> Mapping[str, float]:
        return {"val.pass_rate": self.values[step - 1]}


WATCHED = {"max_steps": 6, "early_stopping": {"metric": "val.pass_rate", "patience": None}}
UP_AND_DOWN = Scripted(0.1, 0.5, 0.2, 0.7, 0.3, 0.2)


def die_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The next training ends in the middle of a step."""
    plain, left = Stepper.step, [number]

    def step(self: Stepper, members: Any, lr: float) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise InterruptedError
        return plain(self, members, lr)

    monkeypatch.setattr(Stepper, "step", step)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


@pytest.mark.model
def test_the_best_checkpoint_of_what_is_resumed_stays(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 3 is resumable and knows step 2 for the best; step 4 is better, and then the process ends."""
    settings = {**WATCHED, "save_every_steps": 3}
    with monkeypatch.context() as patched, pytest.raises(InterruptedError):
        die_at(patched, 5)
        run_sft(tmp_path / "a", tiny, settings, in_loop=[UP_AND_DOWN])
    assert names(tmp_path / "a") == ["best-step-00000002", "best-step-00000004", "step-00000003"]
    worse_now = Scripted(0.1, 0.5, 0.2, 0.3, 0.3, 0.2)
    result = run_sft(tmp_path / "a", tiny, settings, in_loop=[worse_now])
    checkpoint = Path(result.artifacts["checkpoint"])
    assert checkpoint.name == "best-step-00000002" and problem_of(checkpoint) is None
    clear(sft_config(**settings), tmp_path / "a", checkpoint)
    assert names(tmp_path / "a") == ["best-step-00000002", "step-00000003"]


@pytest.mark.model
def test_without_resumable_checkpoints_only_the_best_one_is_kept(tiny: Path, tmp_path: Path) -> None:
    result = run_sft(tmp_path / "a", tiny, WATCHED, in_loop=[UP_AND_DOWN])
    assert names(tmp_path / "a") == ["best-step-00000004"]
    assert Path(result.artifacts["checkpoint"]).name == "best-step-00000004"


@pytest.mark.model
def test_the_best_checkpoint_of_another_training_is_never_taken(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(InterruptedError):
        die_at(patched, 5)
        run_sft(tmp_path / "a", tiny, {**WATCHED, "lr": 1e-2}, in_loop=[UP_AND_DOWN])
    result = run_sft(tmp_path / "a", tiny, WATCHED, in_loop=[UP_AND_DOWN])
    fresh = run_sft(tmp_path / "fresh", tiny, WATCHED, in_loop=[UP_AND_DOWN])
    assert weights_hash(result) == weights_hash(fresh)


def test_a_checkpoint_with_other_facts_is_written_again(tmp_path: Path) -> None:
    make(tmp_path, 1, run="a")
    assert facts_of(make(tmp_path, 1, run="b")) == {"run": "b"}


@pytest.mark.model
@pytest.mark.parametrize("processes", [1, 2])
def test_a_best_checkpoint_that_cannot_be_written_is_not_the_best(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    plain = Saver.save_best

    def full_disk(self: Saver, done: int, *arguments: Any) -> Path:
        if done == 4 and self.ranks.is_first:
            raise OSError(28, "No space left on device")
        return plain(self, done, *arguments)

    monkeypatch.setattr(Saver, "save_best", full_disk)
    result = run_sft(tmp_path / "a", tiny, WATCHED, in_loop=[UP_AND_DOWN], processes=processes)
    assert [line["step"] for line in events(tmp_path / "a", "checkpoint_failed")] == [4]
    assert result.metrics["steps"] == 6
    assert Path(result.artifacts["checkpoint"]).name == "best-step-00000002"


@pytest.mark.model
def test_a_best_checkpoint_that_is_gone_is_said(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Saver, "save_best", lambda self, done, *arguments: self.directory / "nowhere")
    with pytest.raises(CheckpointError, match=r"best-step-00000004 is gone"):
        run_sft(tmp_path / "a", tiny, WATCHED, in_loop=[UP_AND_DOWN])
