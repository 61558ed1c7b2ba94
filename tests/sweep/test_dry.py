"""dry=true: a few steps of every arm in a directory of its own, an estimate, and no claim."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from evsys_hydra.record import ArmView, ExperimentRecord
from evsys_hydra.record.files import read_json, read_lines
from evsys_hydra.sweep.dry import dry_facts, dry_text, duration
from tests.conftest import Run, command_line


@pytest.mark.slow
@pytest.mark.model
def test_a_dry_run_shows_what_is_trained_on_and_what_it_would_take(tmp_path: Path) -> None:
    words = ["lr=1e-5,3e-5", "dry=true", "hydra.launcher.timeout_min=1", "store=local"]
    words += [f"store.path={tmp_path / 'store.sqlite'}", "algorithm.max_steps=20000"]
    done = subprocess.run(command_line(*words), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [experiment] = (tmp_path / "outputs" / "demo").iterdir()
    assert experiment.name.endswith("-dry")
    assert not (tmp_path / "store.sqlite").exists()
    conclusion = read_json(experiment / "conclusion.json")
    assert conclusion["verdict"] == {} and conclusion["best_arm"] is None
    dry = conclusion["dry"]
    arms = {arm["name"]: arm for arm in dry["arms"]}
    for name in ("lr=1e-5", "lr=3e-5"):
        assert arms[name]["steps"] == 20_000 and arms[name]["n_tasks"] == 200
        assert arms[name]["train_s"] == pytest.approx(20_000 * arms[name]["step_s"], rel=0.5)
        assert arms[name]["estimate_s"] > arms[name]["train_s"]
        trained = [event["step"] for event in ArmView(experiment / "arms" / name).events("metrics")]
        assert max(trained) == 5
        assert len(list(read_lines(experiment / "arms" / name / "predictions" / "demo.jsonl"))) == 4
    assert dry["over_timeout"] == ["lr=1e-5", "lr=3e-5"]
    text = (experiment / "conclusion.md").read_text()
    assert "⟦<a>" in text and "Nothing is ranked" in text and "Warning: over hydra.launcher.timeout_min=1" in text
    assert "Best arm" not in text


@pytest.mark.slow
def test_a_broken_recipe_is_found_by_a_dry_run_and_other_parts_are_shortened_by_rows(
    sweep: Run, tmp_path: Path
) -> None:
    done = sweep("algorithm.do=complete,raise", "dry=true", "data.rows=[{prompt: a, completion: b}]")
    assert done.returncode == 0, done.stderr
    facts = read_json(tmp_path / "exp" / "conclusion.json")["dry"]
    errors = {arm["name"]: arm["error"] for arm in facts["arms"]}
    assert errors["do=complete"] is None and errors["do=raise"] == "ValueError: this recipe does not work"
    assert facts["total_s"] is None  # its algorithm does not say how long it is
    assert facts["examples"] == ['{"prompt":"a","completion":"b"}']
    record = ExperimentRecord.load(tmp_path / "exp")
    again = dry_facts([ArmView(record.arm_directory(name)) for name in record.arm_names], {"timeout_min": None})
    assert "2 of 3 arms" in dry_text(again)


def test_durations_are_said_in_fitting_units() -> None:
    assert [duration(seconds) for seconds in (None, 30, 300, 7200)] == ["unknown", "30 s", "5 min", "2.0 h"]
