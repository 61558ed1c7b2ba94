"""`micro_batch_size: auto`: a pass as large as fits, found on the longest examples, without a trace in the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.training import memory
from evsys_hydra.training.stepping import Stepper

from .parts import ROWS, events, make_tiny_model, run_sft, weights_hash

pytestmark = pytest.mark.model


def test_where_memory_is_plenty_it_changes_no_bit(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", dropout=0.1)
    found = run_sft(tmp_path / "auto", model, {"micro_batch_size": "auto"})
    (event,) = events(tmp_path / "auto", "micro_batch_size_found")
    assert event["micro_batch_size"] == found.extras["micro_batch_size"] == 4
    assert event["free"] > 0
    assert weights_hash(found) == weights_hash(run_sft(tmp_path / "plain", model))


@pytest.mark.parametrize(("free", "expected"), [(0, 1), (355, 3), (10_000, 6)])
def test_as_many_examples_as_fit(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, expected: int
) -> None:
    """One example takes 150, each more 100; it is tried with the longest."""

    def peak(stepper: Stepper, members: list[int], where: Any) -> int:
        assert stepper.lengths[members[0]] == max(stepper.lengths)
        return 50 + 100 * len(members)

    monkeypatch.setattr(memory, "_peak", peak)
    monkeypatch.setattr(memory, "_free", lambda where: free / memory.SHARE + 2 * n_bytes(tiny))
    result = run_sft(tmp_path / "a", tiny, {"micro_batch_size": "auto", "batch_size": 6}, rows=ROWS)
    assert result.extras["micro_batch_size"] == expected


def n_bytes(model: Path) -> int:
    from evsys_hydra.config import ModelConfig
    from evsys_hydra.models import load_model

    return 4 * sum(parameter.numel() for parameter in load_model(ModelConfig(name=str(model)))[0].parameters())


def test_what_is_measured_grows_with_the_pass() -> None:
    import torch

    class Loss:
        def __call__(self, members: list[int]) -> torch.Tensor:
            return (torch.ones(len(members) * 12_000_000, requires_grad=True) * 2).sum()

    # 48 MB: malloc takes blocks of up to 32 MB from what it kept of earlier tests
    stepper: Any = type("S", (), {"loss": Loss(), "autocast": staticmethod(__import__("contextlib").nullcontext)})()
    one, two = (memory._peak(stepper, members, torch.device("cpu")) for members in ([0], [0, 1]))
    assert 1.5 < two / one < 2.5


def test_a_resumed_training_keeps_what_was_found(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"micro_batch_size": "auto", "save_at": [0.5], "max_steps": 6}
    whole = run_sft(tmp_path / "a", tiny, settings)
    (tmp_path / "a" / "checkpoints" / "final" / "manifest.json").unlink()
    resumed = run_sft(tmp_path / "a", tiny, settings)
    assert [line["step"] for line in events(tmp_path / "a", "resumed")] == [3]
    assert len(events(tmp_path / "a", "micro_batch_size_found")) == 1
    assert weights_hash(resumed) == weights_hash(whole)
