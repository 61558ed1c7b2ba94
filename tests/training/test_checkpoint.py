"""Checkpoints are complete or absent; what resumes from one ends with the bits of what was never stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.training.checkpoint import (
    facts_of,
    keep_newest,
    newest_complete,
    problem_of,
    remove_unfinished,
    step_name,
    write_checkpoint,
)

from .parts import events, make_tiny_model, run_sft, weights_hash

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
    run_sft(tmp_path / "timed", tiny, {"save_every_minutes": 1e-9})
    assert [path.name for path in (tmp_path / "timed" / "checkpoints").iterdir()] == ["final"]
    assert [line["step"] for line in events(tmp_path / "timed", "checkpoint")] == [1, 2, 3, 4, 5, 6]
    run_sft(tmp_path / "asked", tiny, {"save_every_steps": 2, "keep_last": 2})
    left = sorted(path.name for path in (tmp_path / "asked" / "checkpoints").iterdir())
    assert left == ["final", "step-00000002", "step-00000004"]


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
