"""Preference training: the loss is TRL's, the margin grows, bad rows are refused."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.config import DataConfig, ModelConfig
from evsys_hydra.models import load_model
from evsys_hydra.training.dpo import DPOLoss
from evsys_hydra.training.dpo_config import DPOConfig
from evsys_hydra.training.pairs import encode_pairs, pair_problem
from evsys_hydra.training.policy import Policy
from evsys_hydra.training.rows import check_data
from evsys_hydra.training.stepping import Stepper

from .own_samples import PAIRS
from .parts import events, run_kind


@pytest.mark.model
@pytest.mark.slow
def test_the_loss_is_that_of_trl(tiny: Path, tmp_path: Path) -> None:
    """Both on a model that has moved away from its reference."""
    import torch

    trl: Any = importlib.import_module("trl")
    dataset: Any = importlib.import_module("datasets").Dataset
    start, tokenizer = load_model(ModelConfig(name=str(tiny)))
    moved, _ = load_model(ModelConfig(name=str(tiny)))
    torch.manual_seed(1)
    for parameter in moved.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    chats = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for row in PAIRS
    ]
    settings = trl.DPOConfig(
        output_dir=str(tmp_path), bf16=False, gradient_checkpointing=False, report_to="none", use_cpu=True,
        beta=0.3, per_device_train_batch_size=len(PAIRS), disable_tqdm=True,
    )  # fmt: skip
    trainer = trl.DPOTrainer(moved, start, settings, train_dataset=dataset.from_list(chats), processing_class=tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))
    moved.train(False)
    with torch.no_grad():
        theirs = float(trainer.compute_loss(moved, batch))

    pairs = encode_pairs(PAIRS, tokenizer, "auto", None).pairs
    everyone = list(range(len(pairs)))
    loss = DPOLoss(Policy(moved, 0), pairs, DPOConfig(lr=1, beta=0.3))
    stepper = Stepper(loss, torch.optim.SGD(moved.parameters()), [], 0, 5, None, nullcontext, lambda size: None)
    loss.compare_with(Policy(start, 0), everyone, stepper)
    with torch.no_grad():
        ours = float(loss(everyone)) / loss.sizes(everyone)[1]
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert loss.figures(everyone)["reward_margin"] != 0


@pytest.mark.model
def test_chosen_answers_become_likelier_than_rejected_ones(tiny: Path, tmp_path: Path) -> None:
    settings = {"lr": 3e-3, "max_steps": 30, "batch_size": 12, "log_every": 1}
    result = run_kind("dpo", tmp_path / "arm", tiny, settings, rows=PAIRS)
    first = events(tmp_path / "arm", "metrics")[0]["values"]
    assert first["loss"] == pytest.approx(0.6931472, abs=1e-5) and first["reward_margin"] == pytest.approx(0, abs=1e-5)
    assert result.metrics["train_loss"] < 0.3
    assert result.metrics["preference_accuracy"] == 1.0 and result.metrics["reward_margin"] > 1
    assert result.metrics["n_examples"] == len(PAIRS) and result.metrics["n_dropped"] == 0
    assert set(result.metrics) == set(DPOConfig.figures)


@pytest.mark.model
def test_the_references_passes_are_no_larger_than_those_of_the_steps(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, seen = DPOLoss._log_ratio, list[tuple[bool, int]]()

    def small_memory(self: DPOLoss, policy: Policy, members: Any) -> Any:
        seen.append((policy.model.training, len(members)))
        if len(members) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return plain(self, policy, members)

    monkeypatch.setattr(DPOLoss, "_log_ratio", small_memory)
    settings = {"batch_size": 12, "micro_batch_size": 5, "max_steps": 1}
    result = run_kind("dpo", tmp_path / "a", tiny, settings, rows=PAIRS)
    assert [size for training, size in seen if not training] == [5, 2, 2, 2, 2, 2, 2]
    assert [line["micro_batch_size"] for line in events(tmp_path / "a", "out_of_memory_retried")] == [2]
    assert result.extras["micro_batch_size"] == 2


@pytest.mark.model
def test_pairs_are_encoded_alike_whatever_their_form(tokenizer: Any) -> None:
    user, good, bad = (
        {"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "a"), ("assistant", "b"))
    )
    forms: list[dict[str, Any]] = [
        {"prompt": "Hi", "chosen": "a", "rejected": "b"},
        {"prompt": [user], "chosen": [good], "rejected": [bad]},
        {"messages": [user], "chosen": "a", "rejected": "b"},
        {"chosen": [user, good], "rejected": [user, bad]},
    ]
    assert [pair_problem(form) for form in forms] == [None] * 4
    pairs = encode_pairs(forms, tokenizer, "auto", None).pairs
    assert len({(tuple(pair.chosen.ids), tuple(pair.chosen.trained)) for pair in pairs}) == 1
    assert tokenizer.decode(pairs[0].chosen.ids[pairs[0].chosen.trained]).startswith("a")


@pytest.mark.model
def test_pairs_that_are_too_long_are_left_out_together(tokenizer: Any) -> None:
    rows = [*PAIRS[:2], {"prompt": "Say it.", "chosen": "x" * 90, "rejected": "y"}]
    encoded = encode_pairs(rows, tokenizer, "auto", 60)
    assert (encoded.n_dropped, len(encoded.pairs)) == (1, 2)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "a", "completion": "b"}, "chosen: is missing"),
        ({"prompt": "a", "chosen": "b"}, "rejected: is missing"),
        ({"prompt": "a", "chosen": "b", "rejected": 3}, "rejected: must be a list"),
        ({"chosen": "b", "rejected": "c"}, "chosen: is a string, so the row needs a prompt"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "are the same"),
        ({"prompt": [{"role": "who", "content": "a"}], "chosen": "b", "rejected": "c"}, "prompt[0].role: must be one"),
        ({"chosen": [{"role": "user", "content": "a"}], "rejected": "c"}, "chosen: must end with an assistant"),
    ],
)
def test_a_row_that_is_no_preference_is_refused_before_launch(row: dict[str, Any], says: str) -> None:
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    problems = check_data(DataConfig(rows=[good, row]), DPOConfig(lr=1))
    assert len(problems) == 1 and problems[0].startswith("data.rows[1]: ") and says in problems[0]
    assert check_data(DataConfig(rows=[good]), DPOConfig(lr=1)) == []


def test_data_of_another_algorithm_is_refused_before_launch() -> None:
    from evsys_hydra import registry
    from evsys_hydra.config import typed

    demo = DataConfig(generate=typed(registry.datasets, "demo"))
    assert "chosen: is missing" in check_data(demo, DPOConfig(lr=1))[0]
    assert check_data(demo) == []
    preferences = DataConfig(generate=typed(registry.datasets, "demo_preferences"))
    assert check_data(preferences, DPOConfig(lr=1)) == []
    assert "are no training row" in check_data(preferences)[0]
