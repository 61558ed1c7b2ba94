"""The main job on the shipped model, as a user runs it: train, evaluate, rank, conclude."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.record import ArmView
from evsys_hydra.record.files import read_json
from tests.conftest import ROOT

pytestmark = [pytest.mark.model, pytest.mark.slow]
SHORT = ["algorithm.max_steps=15", "benchmark.limit=30", "store=none"]


def run(*words: str, cwd: Path, **environment: str) -> str:
    command = [sys.executable, "-m", "evsys_hydra", *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=env, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def conclusion(directory: Path) -> dict[str, Any]:
    found = read_json(directory / "conclusion.json")
    assert isinstance(found, dict)
    return found


def test_the_readme_sweep_finds_the_better_learning_rate(tmp_path: Path) -> None:
    out = run("-m", "lr=1e-5,3e-5", f"hydra.sweep.dir={tmp_path / 'exp'}", cwd=tmp_path)
    found = conclusion(tmp_path / "exp")
    assert found["verdict"]["verdict"] == "winner" and found["verdict"]["winner"] == "lr=3e-5"
    base = found["verdict"]["references"]["base"]["estimate"]
    assert base < found["verdict"]["arms"]["lr=1e-5"]["estimate"] < found["best_score"]
    assert found["conclusion"] in out.replace("\r", "")
    arm = tmp_path / "exp" / "arms" / "lr=3e-5"
    assert len(list(ArmView(arm).predictions("demo"))) == 200
    assert (tmp_path / "exp" / "ranking.png").stat().st_size > 10_000
    families = next(ArmView(arm).events("eval"))["breakdowns"]["family"]
    assert sum(row["n"] for row in families.values()) == 200 and len(families) == 5
    command = ["evsys-hydra", "compare", "exp:lr=1e-5", "exp:lr=3e-5", "--json"]
    flips = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(flips.stdout)["verdict"]["winner"] == "lr=3e-5"


def test_equal_seeds_give_equal_numbers_and_other_seeds_others(tmp_path: Path) -> None:
    for number in (1, 2):
        run("-m", "seed=0,1", *SHORT, "metadata.baseline=null", f"hydra.sweep.dir={tmp_path}/{number}", cwd=tmp_path)
    losses = [
        ArmView(tmp_path / number / "arms" / f"demo,seed={seed}").result["metrics"]["train_loss"]
        for number in ("1", "2")
        for seed in (0, 1)
    ]
    assert losses[:2] == losses[2:] and losses[0] != losses[1]
    answers = [(tmp_path / n / "arms" / "demo,seed=0" / "predictions" / "demo.jsonl") for n in ("1", "2")]
    outputs = [[json.loads(line)["output"] for line in path.read_text().splitlines()] for path in answers]
    assert outputs[0] == outputs[1]


def test_a_new_experiment_runs_by_command_line_and_from_python(tmp_path: Path) -> None:
    done = subprocess.run(["evsys-hydra", "new", "lr_sweep"], cwd=tmp_path, capture_output=True, text=True, check=True)
    folder = Path(done.stdout.splitlines()[0])
    run(f"experiments={folder.name}", *SHORT, f"hydra.sweep.dir={tmp_path / 'exp'}", cwd=tmp_path)
    found = conclusion(tmp_path / "exp")
    assert set(found["arms"]) == {"lr=1e-5", "lr=3e-5"} and found["verdict"]["hypothesis"]["call"]
    config = tmp_path / folder / "config.yaml"
    config.write_text(config.read_text() + "\nalgorithm: {max_steps: 15}\nbenchmark: {limit: 30}\n")
    done = subprocess.run(
        [sys.executable, str(folder / "run.py")], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    (second,) = (tmp_path / "outputs" / "lr_sweep").iterdir()
    arms = conclusion(second)["arms"]
    for name in ("lr=1e-5", "lr=3e-5"):
        assert arms[name]["metrics"]["pass_rate"] == found["arms"][name]["metrics"]["pass_rate"]


def test_the_shipped_experiment_runs(tmp_path: Path) -> None:
    for folder in sorted(path.parent for path in (ROOT / "experiments").glob("*/config.yaml")):
        where = tmp_path / folder.name
        run(f"experiments={folder.name}", *SHORT, f"hydra.sweep.dir={where}", cwd=ROOT)
        assert conclusion(where)["status"] == "completed"


def test_an_installed_wheel_runs_from_another_directory(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)], check=True
    )
    words = [*SHORT, "algorithm.max_steps=3", f"hydra.run.dir={tmp_path / 'exp'}"]
    out = run(*words, cwd=tmp_path, PYTHONPATH=str(site))
    assert "1/1 arms completed." in out
    listed = run("--info", "config", cwd=tmp_path, PYTHONPATH=str(site))
    assert str(site / "evsys_hydra" / "conf") in listed


def test_tab_completion_knows_the_groups(tmp_path: Path) -> None:
    out = run("-sc", "query=bash", cwd=tmp_path, COMP_LINE="evsys_hydra.py model=")
    assert {"model=demo", "model=hf", "model=lora"} <= set(out.split()), out
