"""Preference training, reinforcement learning and self-distillation: equal bits from equal seeds, and after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evsys_hydra.config import LoraConfig
from evsys_hydra.training.seeding import restore_rng_state, rng_state

from ..conftest import ROOT
from .own_samples import KINDS
from .parts import events, make_tiny_model, run_kind, weights_hash

pytestmark = pytest.mark.model


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "weights"), [("dpo", "lora"), ("grpo", "full"), ("grpo", "lora"), ("sdft", "full")])
def test_a_killed_training_goes_on_to_the_same_bits(kind: str, weights: str, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", dropout=0.1)
    command = [sys.executable, "-m", "tests.training.killed", kind, str(model), str(tmp_path), weights]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["from"] == [4 if kind == "grpo" else 2]
    assert found["killed"] == found["whole"]


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_bits_and_others_give_others(kind: str, tmp_path: Path) -> None:
    rows, settings = KINDS[kind]
    model = make_tiny_model(tmp_path / "model", dropout=0.1)
    lora = LoraConfig(r=2, dropout=0.1)
    runs = [
        run_kind(kind, tmp_path / f"{place}", model, settings | {"max_steps": 3}, rows=rows, seed=seed, lora=lora)
        for place, seed in enumerate((7, 7, 8))
    ]
    first, again, other = (weights_hash(run) for run in runs)
    assert first == again != other
    assert runs[0].metrics["train_loss"] == runs[1].metrics["train_loss"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_starts_from_an_earlier_checkpoint(kind: str, tiny: Path, tmp_path: Path) -> None:
    """Where training starts is also what it is compared with: the first loss is that of no distance."""
    rows, settings = KINDS[kind]
    first = run_kind(kind, tmp_path / "first", tiny, settings | {"lr": 1e-2}, rows=rows)
    start = Path(first.artifacts["checkpoint"])
    short = settings | {"max_steps": 1, "log_every": 1}
    run_kind(kind, tmp_path / "second", tiny, short, rows=rows, start_from=start)
    run_kind(kind, tmp_path / "fresh", tiny, short, rows=rows)
    second, fresh = (events(tmp_path / name, "metrics")[0]["values"] for name in ("second", "fresh"))
    if kind == "dpo":
        assert second["loss"] == pytest.approx(0.6931472, abs=1e-4) and second["reward_margin"] == pytest.approx(0)
    elif kind == "grpo":
        assert second["kl"] < 0.01
    assert second["grad_norm"] != fresh["grad_norm"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_not_finite_ends_the_arm(kind: str, tiny: Path, tmp_path: Path) -> None:
    from evsys_hydra.training.errors import TrainingDiverged

    rows, settings = KINDS[kind]
    wild = settings | {"lr": 1e30, "max_grad_norm": None, "max_steps": 20, "schedule": "constant", "warmup": 0}
    with pytest.raises(TrainingDiverged, match=r"step \d+ of 20"):
        run_kind(kind, tmp_path / "arm", tiny, wild, rows=rows)


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_in_the_config_file(kind: str) -> None:
    from omegaconf import OmegaConf

    from evsys_hydra import registry

    config = registry.algorithms.get(kind).config
    assert config is not None
    conf = OmegaConf.load(ROOT / "conf" / "algorithm" / f"{kind}.yaml")
    assert set(conf) == set(config.model_fields)
    values = OmegaConf.to_container(OmegaConf.merge({"lr": 1.0}, {"algorithm": conf}), resolve=True)
    assert isinstance(values, dict)
    written, defaults = config.model_validate(values["algorithm"]), config.model_validate({"kind": kind, "lr": 1.0})
    changed = {key for key, value in written.model_dump().items() if value != defaults.model_dump()[key]}
    assert changed <= {"max_steps", "max_tokens", "log_every"}


def test_of_several_gpus_only_the_one_that_is_computed_on_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a training resumes where fewer GPUs can be seen; there are none here, so torch.cuda is played."""
    import torch

    restored: list[object] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: "of the current one")
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: ["of the current one", "of another"])
    monkeypatch.setattr(torch.cuda, "set_rng_state", restored.append)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.extend)
    restore_rng_state(rng_state())
    assert restored == ["of the current one"]
