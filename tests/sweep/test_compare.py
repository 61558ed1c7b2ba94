"""`compare`, `validate` and what a sweep says before it starts: what can be told apart, and from which assumptions."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import TASKS, Run, command_line


def verb(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["evsys-hydra", *words], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_two_groups_of_two_experiments_are_paired_and_their_flips_shown(sweep: Run, tmp_path: Path) -> None:
    sweep("algorithm.skill=0.2,0.4", check=True)
    sweep("algorithm.skill=0.9", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'two'}", check=True)
    done = verb("compare", "exp:skill=0.2", "two", "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert facts["verdict"]["winner"] == "demo" and facts["groups"] == ["skill=0.2", "demo"]
    assert all(flip["sides"][0]["reward"] == 0 and flip["sides"][1]["reward"] == 1 for flip in facts["flipped"])
    shown = verb("compare", "exp:skill=0.2", "two", "--show", "1", cwd=tmp_path).stdout
    assert f"{len(facts['flipped'])} task(s) flipped between skill=0.2 and demo." in shown
    assert "0.00  skill=0.2: ?" in shown and "1.00  demo: " in shown and "--show" in shown


@pytest.mark.slow
def test_what_cannot_be_compared_is_said(sweep: Run, tmp_path: Path, tasks_folder: Path) -> None:
    sweep("algorithm.skill=0.2,0.4", check=True)
    done = verb("compare", "exp:skill=0.3", "exp", cwd=tmp_path)
    assert done.returncode == 1 and "Scored groups: base, skill=0.2, skill=0.4" in done.stderr
    (tasks_folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in TASKS[:20]))
    sweep("algorithm.skill=0.2", f"hydra.sweep.dir={tmp_path / 'two'}", check=True)
    done = verb("compare", "exp", "two", cwd=tmp_path)
    assert done.returncode == 1 and "were not scored on the same tasks" in done.stderr
    assert verb("compare", "exp", "nowhere", cwd=tmp_path).returncode == 1


@pytest.mark.slow
def test_power_is_said_from_assumptions_and_then_from_the_pilot(tmp_path: Path, noop_words: list[str]) -> None:
    words = [*noop_words, "algorithm.skill=0.3,0.6", "seed=0,1"]
    first = subprocess.run(command_line(*words), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "2 groups x 2 seeds on 40 tasks can detect a lead of" in first.stderr and "assuming" in first.stderr
    second = subprocess.run(command_line(*words), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "pilot" in second.stderr and second.stderr != first.stderr
    clustered = [*words, "benchmark.cluster_key=parity"]
    third = subprocess.run(command_line(*clustered), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "2 tasks" in third.stderr or "cannot" in third.stderr or "nothing" in third.stderr.lower(), third.stderr


def test_a_group_that_the_metadata_names_must_exist(sweep: Run, tmp_path: Path) -> None:
    done = sweep("lr=1,2", "metadata.compare={better: 'lr=3', than: 'lr=1'}")
    assert done.returncode == 1 and "metadata.compare.better = 'lr=3'" in done.stderr
    assert "Groups: base, lr=1, lr=2" in done.stderr and not (tmp_path / "exp").exists()


@pytest.mark.slow
def test_validate_launches_nothing(tmp_path: Path) -> None:
    done = verb("validate", "lr=1e-5,3e-5", "seed=0,1", "store=none", "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert [arm["name"] for arm in facts["arms"]][:2] == ["lr=1e-5,seed=0", "lr=1e-5,seed=1"]
    assert facts["arms"][-1] == {"name": "base", "group": "base", "seed": 0, "role": "baseline"}
    assert 0 < facts["power"]["detectable"] < 0.3 and "<a>" in facts["examples"][0]
    assert not (tmp_path / "outputs").exists()
