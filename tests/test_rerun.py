"""A rerun from the record alone: identical where nothing changed, and the first difference where something did."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from evsys_hydra.record import ArmView
from evsys_hydra.record.files import read_json
from tests.conftest import ROOT, Run, command_line


def rerun(*words: str | Path, cwd: Path) -> tuple[int, dict[str, object]]:
    command = ["evsys-hydra", "rerun", *map(str, words), "--json"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def content(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(directory)).encode() + path.read_bytes())
    return digest.hexdigest()


@pytest.mark.slow
@pytest.mark.model
def test_a_trained_arm_is_reproduced_bit_for_bit(tmp_path: Path) -> None:
    words = [
        "algorithm.max_steps=6",
        "benchmark.limit=8",
        "metadata.baseline=null",
        "store=none",
        "algorithm.log_every=1",
    ]
    subprocess.run(command_line(*words, "hydra.sweep.dir=exp"), cwd=tmp_path, check=True, capture_output=True)
    before = content(tmp_path / "exp")
    code, facts = rerun(tmp_path / "exp" / "arms" / "demo", cwd=tmp_path)
    assert (code, facts["identical"], facts["environment"]) == (0, True, [])
    counts = {part["what"]: part["n"] for part in facts["compared"]}  # type: ignore[attr-defined, index]
    assert counts["predictions"] == 8 and counts["weight files"] == 1 and counts["train metrics"] >= 6 * 3
    assert content(tmp_path / "exp") == before
    assert facts["directory"] == str(tmp_path / "exp-rerun-1")


@pytest.mark.slow
def test_the_first_difference_is_named_with_what_changed_around_it(sweep: Run, tmp_path: Path) -> None:
    plugin = tmp_path / "noop.py"
    plugin.write_text((ROOT / "tests/parts/noop.py").read_text())
    sweep("lr=0.5", f"plugins=[{plugin}]", check=True)
    plugin.write_text(plugin.read_text().replace("write_text(str(config.skill))", "write_text('0.9')"))
    code, facts = rerun(tmp_path / "exp", "demo", "--out", tmp_path / "again", cwd=tmp_path)
    assert code == 1 and not facts["identical"]
    parts = {part["what"]: part for part in facts["compared"]}  # type: ignore[attr-defined, index]
    assert parts["train metrics"]["differs"] == 0
    assert parts["eval metrics"]["first"]["where"] == "tasks, mean_reward"
    assert parts["predictions"]["first"]["before"]["output"] == "?"
    assert [part["what"] for part in facts["environment"]] == ["plugin noop.py"]  # type: ignore[attr-defined, index]
    text = subprocess.run(
        ["evsys-hydra", "rerun", str(tmp_path / "exp"), "demo"], capture_output=True, text=True, check=False
    ).stdout
    assert "Different:" in text and "was {'output': '?'" in text and "plugin noop.py" in text


@pytest.mark.slow
def test_a_stage_is_rerun_from_the_weights_it_started_from(sweep: Run, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    plugins = f"plugins=[{ROOT / 'tests/parts/noop.py'},{ROOT / 'tests/parts/carried.py'}]"
    sweep("algorithm=carried", plugins, f"continual.datasets=[{rows},{rows}]", "name=chain", check=True)
    code, facts = rerun(tmp_path / "exp" / "arms" / "chain_stage1", cwd=tmp_path)
    assert code == 0 and facts["identical"]
    again = ArmView(tmp_path / "exp-rerun-1" / "arms" / "chain_stage1")
    assert again.result["metrics"]["started_at"] == pytest.approx(0.4)
    assert "1/1 arms completed." in read_json(tmp_path / "exp-rerun-1" / "conclusion.json")["conclusion"]


@pytest.mark.slow
def test_an_arm_that_failed_has_nothing_to_compare_with(sweep: Run, tmp_path: Path) -> None:
    sweep("algorithm.do=raise")
    done = subprocess.run(
        ["evsys-hydra", "rerun", str(tmp_path / "exp"), "noop"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "No arm 'noop'" in done.stderr
    done = subprocess.run(
        ["evsys-hydra", "rerun", str(tmp_path / "exp" / "arms" / "demo")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "there are no numbers to compare with" in done.stderr
