"""In-loop validation on the demo model: rows with their step, and no trace in the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evsys_hydra import BenchmarkConfig
from evsys_hydra.benchmark import Benchmark
from evsys_hydra.benchmark.in_loop import in_loop_eval
from evsys_hydra.config import ModelConfig
from evsys_hydra.inference.local import LocalInference
from evsys_hydra.record import ArmRecord
from evsys_hydra.record.files import read_lines

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def parts() -> Any:
    from evsys_hydra.models import load_model

    return load_model(ModelConfig(name="demo", dtype="float32"))


@pytest.fixture
def entry() -> BenchmarkConfig:
    return BenchmarkConfig.model_validate(
        {"generate": {"kind": "demo", "n": 20}, "name": "words", "run_every": 5, "max_tokens": 24, "temperature": 0.5}
    )


def test_the_live_model_is_scored_and_left_as_it_was(parts: Any, entry: BenchmarkConfig, tmp_path: Path) -> None:
    import torch

    model, tokenizer = parts
    record = ArmRecord(tmp_path)
    in_loop = in_loop_eval(Benchmark.load(entry), entry, seed=0, record=record, inference=LocalInference(batch_size=8))
    assert in_loop.every == 5
    model.train()
    random_state = torch.random.get_rng_state()
    values = in_loop(model, tokenizer, 5)
    again = in_loop(model, tokenizer, 10)
    assert model.training and torch.equal(random_state, torch.random.get_rng_state())
    assert values == again and values["words.n_tasks"] == 20 and values["words.n_errors"] == 0
    loss = model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss
    loss.backward()  # what was computed in between must not keep the model from training
    events = [row for row in read_lines(tmp_path / "events.jsonl") if row["kind"] == "eval"]
    assert [(row["name"], row["step"]) for row in events] == [("words", 5), ("words", 10)]
    assert events[0]["metrics"]["mean_reward"] == values["words.mean_reward"]
    assert len(list(read_lines(tmp_path / "predictions" / "words-step5.jsonl"))) == 20


def test_no_secret_of_the_config_is_written(
    parts: Any, entry: BenchmarkConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("TOKEN_OF_TEST", "tok-very-secret")
    (tmp_path / "config.yaml").write_text("token: ${oc.env:TOKEN_OF_TEST}\n")
    monkeypatch.setattr("evsys_hydra.benchmark.in_loop.score", lambda *_, **__: 1 / len("x") / int("tok-very-secret"))
    in_loop = in_loop_eval(Benchmark.load(entry), entry, seed=0, record=ArmRecord(tmp_path))
    assert in_loop(*parts, 5) == {}
    (event,) = read_lines(tmp_path / "events.jsonl")
    assert "${oc.env:TOKEN_OF_TEST}" in event["error"] and "tok-very-secret" not in event["error"]
    assert "tok-very-secret" not in capsys.readouterr().out


def test_what_fails_is_noted_and_training_goes_on(parts: Any, entry: BenchmarkConfig, tmp_path: Path) -> None:
    model, _ = parts
    in_loop = in_loop_eval(Benchmark.load(entry), entry, seed=0, record=ArmRecord(tmp_path))
    assert in_loop(model, object(), 5) == {"words.n_tasks": 20, "words.n_errors": 20}
    (event,) = read_lines(tmp_path / "events.jsonl")
    assert event["error"].startswith("none of 20 predictions could be scored; the first: AttributeError")
