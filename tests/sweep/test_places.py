"""What arms run on: a GPU belongs to one arm at a time; an arm of several processes gets all of its GPUs at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from evsys_hydra.errors import ConfigError
from evsys_hydra.record import ArmView, ExperimentRecord
from evsys_hydra.record.files import read_json
from evsys_hydra.sweep.launch import Places, what_they_need
from tests.conftest import Run


def test_gpus_are_given_all_at_once() -> None:
    places = Places(["0", "1", "2"], None)
    assert places.take(2) == ["0", "1"]
    assert places.take(2) is None
    assert places.take(1) == ["2"]
    places.give_back(["0", "1"])
    assert places.take(2) == ["0", "1"]


def test_n_jobs_bounds_the_arms_and_gpus_bound_n_jobs() -> None:
    assert Places(["0", "1"], 1).slots == 1 and Places(["0", "1"], 8).slots == 2
    places = Places([], 2)
    assert (places.take(4), places.take(1), places.take(1)) == ([], [], None)


def test_more_gpus_than_there_are_is_an_error_before_launch() -> None:
    with pytest.raises(ConfigError, match=r"model.processes=4 of big and 1 more: .* 2 are visible here \(0, 1\)"):
        Places(["0", "1"], None).check({Path("big"): 4, Path("bigger"): 8, Path("fits"): 2})
    Places([], None).check({Path("on the CPU"): 4})


def test_what_arms_need_is_read_from_their_configs(tmp_path: Path) -> None:
    for name, text in {
        "own": "{algorithm: {kind: noop}, inference: {kind: api}, model: {}}",
        "two": "{algorithm: {kind: sft}, inference: {kind: local}, model: {processes: 2}}",
        "base": "{algorithm: {kind: none}, inference: {kind: local}, model: {processes: 2}}",
        "lora": "{algorithm: {kind: sft}, inference: {kind: local}, model: {lora: {r: 4}}}",
        "broken": "{",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
    needs = what_they_need([tmp_path / name for name in ("own", "two", "base", "lora", "broken")])
    assert needs.preload == "peft,torch" and needs.gpus == {tmp_path / "two": 2}
    assert what_they_need([tmp_path / "own"]).preload == ""


@pytest.mark.slow
def test_an_arm_that_cannot_have_its_gpus_stops_the_sweep_before_the_first(
    sweep: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    words = ["algorithm=sft", "lr=1,2", "model.processes=3", "metadata.baseline=null"]
    done = sweep(*words)
    assert done.returncode == 1 and "3 of lr=1 and 1 more" in done.stderr
    record = ExperimentRecord.load(tmp_path / "exp")
    assert {ArmView(record.arm_directory(name)).cause for name in record.arm_names} == {"never_started"}
    assert "All 2 arms failed." in read_json(tmp_path / "exp" / "conclusion.json")["conclusion"]
