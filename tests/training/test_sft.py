"""Supervised fine-tuning on a tiny real model: the loss, the bits, the record, the ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.config import LoraConfig, ModelConfig
from evsys_hydra.errors import ConfigError
from evsys_hydra.models import load_model, load_tokenizer, merge_adapters
from evsys_hydra.training.encoding import EncodingOptions, encode_rows
from evsys_hydra.training.errors import TrainingDiverged
from evsys_hydra.training.loss import LabelLoss, head_takes_positions
from evsys_hydra.training.sft_config import SFTConfig

from .parts import ROWS, events, make_tiny_model, run_sft, weights_hash

pytestmark = pytest.mark.model
LORA = LoraConfig(r=4, alpha=8, dropout=0.1)


def model_config(directory: Path | str, **settings: Any) -> ModelConfig:
    return ModelConfig(name=str(directory), **settings)


def test_the_loss_is_that_of_a_plain_forward_pass(tiny: Path) -> None:
    import torch

    model, tokenizer = load_model(model_config(tiny))
    examples = encode_rows(ROWS, tokenizer, EncodingOptions()).examples
    loss = LabelLoss(model, examples, pad_id=0)
    assert head_takes_positions(model)
    members = [0, 3, 5]
    plain = []
    for member in members:
        ids = torch.tensor(examples[member].ids.tolist())[None]
        labels = torch.where(torch.tensor(examples[member].trained), ids[0], -100)[None]
        n_labels = int((labels[0, 1:] != -100).sum())
        plain.append(model(input_ids=ids, labels=labels).loss * n_labels)
    assert loss.sizes(members)[1] == sum(int(examples[member].trained[1:].sum()) for member in members)
    torch.testing.assert_close(loss(members), torch.stack(plain).sum())
    loss._head_on_labels = False
    torch.testing.assert_close(loss(members), torch.stack(plain).sum())


def test_gradients_do_not_depend_on_how_a_step_is_cut_into_parts(tiny: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    whole = run_sft(tmp_path / "whole", tiny, {"batch_size": 6})
    parts = run_sft(tmp_path / "parts", tiny, {"batch_size": 6, "micro_batch_size": 2})
    a, b = (load_file(Path(run.artifacts["checkpoint"]) / "model.safetensors") for run in (whole, parts))
    assert all((a[name] - b[name]).abs().max() < 1e-4 for name in a)
    assert whole.metrics["train_loss"] == pytest.approx(parts.metrics["train_loss"], rel=1e-4)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_equal_seeds_give_equal_bits_and_others_give_others(tmp_path: Path, lora: LoraConfig | None) -> None:
    model = make_tiny_model(tmp_path / "model", dropout=0.1)
    runs = [run_sft(tmp_path / f"{i}", model, seed=seed, lora=lora) for i, seed in enumerate((7, 7, 8))]
    first, again, other = (weights_hash(run) for run in runs)
    assert first == again != other
    assert runs[0].metrics["train_loss"] == runs[1].metrics["train_loss"]


def test_one_or_two_threads_give_the_same_bits(tmp_path: Path) -> None:
    import torch

    threads = torch.get_num_threads()
    hashes = set()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            hashes.add(weights_hash(run_sft(tmp_path / str(number), "demo", {"batch_size": 12, "lr": 1e-4})))
    finally:
        torch.set_num_threads(threads)
    assert len(hashes) == 1


def test_it_learns_and_says_so(tiny: Path, tmp_path: Path) -> None:
    result = run_sft(tmp_path / "arm", tiny, {"max_steps": 60, "lr": 1e-2, "batch_size": 12, "log_every": 20})
    lines = events(tmp_path / "arm", "metrics")
    assert [line["step"] for line in lines] == [20, 40, 60]
    assert set(lines[0]["values"]) == {"loss", "lr", "grad_norm", "tokens", "tokens_per_s"}
    assert lines[0]["values"]["loss"] > 2 * lines[-1]["values"]["loss"]
    assert result.metrics["steps"] == 60 and result.metrics["n_examples"] == len(ROWS)
    assert set(result.metrics) == set(SFTConfig.figures)
    assert result.metrics["train_loss"] < result.metrics["train_loss_mean"]
    assert events(tmp_path / "arm", "progress")[-1]["done"] == 60
    final = events(tmp_path / "arm", "checkpoint")[-1]
    assert final["is_final"] and final["step"] == 60
    assert (tmp_path / "arm" / final["uri"]).samefile(result.artifacts["checkpoint"])


def test_steps_follow_from_epochs(tiny: Path, tmp_path: Path) -> None:
    result = run_sft(tmp_path / "arm", tiny, {"max_steps": None, "epochs": 1.5, "batch_size": 4})
    assert result.metrics["steps"] == math.ceil(1.5 * 3)


def test_the_learning_rate_that_is_recorded_is_the_one_of_the_schedule(tiny: Path, tmp_path: Path) -> None:
    run_sft(tmp_path / "arm", tiny, {"schedule": "cosine", "warmup": 2, "log_every": 1})
    rates = [line["values"]["lr"] for line in events(tmp_path / "arm", "metrics")]
    assert rates == pytest.approx([0, 0.5e-3, *(5e-4 * (1 + math.cos(math.pi * k / 4)) for k in range(4))])


def test_adapters_are_saved_loaded_and_merged(tiny: Path, tmp_path: Path) -> None:
    import torch

    result = run_sft(tmp_path / "arm", tiny, {"lr": 1e-2, "max_steps": 20}, lora=LORA)
    checkpoint = Path(result.artifacts["checkpoint"])
    assert (checkpoint / "adapter_config.json").is_file()
    assert not (checkpoint / "model.safetensors").exists()
    config = model_config(tiny, lora=LORA)
    adapted, tokenizer = load_model(config, checkpoint)
    base, _ = load_model(config)
    merged, _ = load_model(config, merge_adapters(config, checkpoint, tmp_path / "merged"))
    ids = torch.tensor([tokenizer("Say cat.")["input_ids"]])
    with torch.no_grad():
        logits = [model(input_ids=ids).logits for model in (adapted, merged, base)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-4)
    assert (logits[0] - logits[2]).abs().max() > 0.01


def test_a_stage_starts_from_an_earlier_checkpoint(tiny: Path, tmp_path: Path) -> None:
    first = run_sft(tmp_path / "first", tiny, {"lr": 1e-2, "max_steps": 40, "batch_size": 12, "log_every": 1})
    second = run_sft(
        tmp_path / "second",
        tiny,
        {"batch_size": 12, "log_every": 1, "schedule": "constant"},
        start_from=Path(first.artifacts["checkpoint"]),
    )
    losses = [events(tmp_path / name, "metrics") for name in ("first", "second")]
    assert losses[1][0]["values"]["loss"] < losses[0][0]["values"]["loss"] / 2
    assert second.metrics["train_loss"] < first.metrics["train_loss_mean"]


def test_divergence_stops_with_the_step_and_the_last_good_checkpoint(tiny: Path, tmp_path: Path) -> None:
    settings = {"lr": 1e30, "max_grad_norm": None, "max_steps": 20, "schedule": "constant", "save_every_steps": 1}
    with pytest.raises(TrainingDiverged, match=r"step \d+ of 20: loss .* The last good checkpoint is .*step-0000000"):
        run_sft(tmp_path / "a", tiny, settings)
    with pytest.raises(TrainingDiverged, match="No checkpoint was saved yet"):
        run_sft(tmp_path / "b", tiny, settings | {"save_every_steps": None})


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def full_disk(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    result = run_sft(tmp_path / "a", tiny, {"save_every_steps": 2})
    assert result.metrics["steps"] == 6
    assert ["No space left" in line["error"] for line in events(tmp_path / "a", "checkpoint_failed")] == [True, True]
    assert [path.name for path in (tmp_path / "a" / "checkpoints").iterdir()] == ["final"]


class Scripted:
    """An in-loop eval with values from a list; draws random numbers, as a sampling one would."""

    def __init__(self, every: int, values: list[float]) -> None:
        self.every, self.values, self.steps = every, values, list[int]()

    def __call__(self, model: Any, tokenizer: Any, step: int) -> Mapping[str, float]:
        import torch

        assert not model.training
        torch.rand(10)
        self.steps.append(step)
        return {"val.pass_rate": self.values[len(self.steps) - 1]}


def test_in_loop_evals_run_when_due_and_change_nothing(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", dropout=0.1)
    every = Scripted(2, [0.1, 0.2, 0.3])
    with_evals = run_sft(tmp_path / "a", model, in_loop=[every])
    assert every.steps == [2, 4, 6]
    assert weights_hash(with_evals) == weights_hash(run_sft(tmp_path / "b", model))


def test_early_stopping_keeps_the_best_checkpoint(tiny: Path, tmp_path: Path) -> None:
    every = Scripted(1, [0.1, 0.5, 0.55, 0.4, 0.3, 0.2])
    watched = {"metric": "val.pass_rate", "patience": 2, "min_delta": 0.1}
    result = run_sft(tmp_path / "a", tiny, {"early_stopping": watched}, in_loop=[every])
    assert every.steps == [1, 2, 3, 4]
    assert result.extras["stopped_early"] and result.extras["checkpoint_step"] == 2
    assert Path(result.artifacts["checkpoint"]).name == "best-step-00000002"
    assert events(tmp_path / "a", "stopped_early")[0]["best"] == 0.5
    last = run_sft(
        tmp_path / "b",
        tiny,
        {"early_stopping": watched | {"keep_best": False, "direction": "minimize", "patience": 3}},
        in_loop=[Scripted(1, [0.1, 0.5, 0.55, 0.4, 0.3, 0.2])],
    )
    assert Path(last.artifacts["checkpoint"]).name == "final" and last.metrics["steps"] == 4


def test_early_stopping_that_watches_nothing_is_an_error(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set run_every on the benchmark"):
        run_sft(tmp_path / "a", tiny, {"early_stopping": {"metric": "val.pass_rate"}})
    with pytest.raises(ConfigError, match=r"'val\.passrate' is not among .*: val\.pass_rate"):
        run_sft(tmp_path / "b", tiny, {"early_stopping": {"metric": "val.passrate"}}, in_loop=[Scripted(1, [0.1])])


class Failing(Scripted):
    """An in-loop eval that cannot score, as one whose worker died."""

    def __call__(self, model: Any, tokenizer: Any, step: int) -> Mapping[str, float]:
        return {}


def test_an_in_loop_eval_that_fails_does_not_end_the_training(tiny: Path, tmp_path: Path) -> None:
    evals = [Failing(1, []), Scripted(2, [0.1, 0.2, 0.3])]
    watched = {"metric": "other.pass_rate"}
    assert run_sft(tmp_path / "a", tiny, {"early_stopping": watched}, in_loop=evals).metrics["steps"] == 6


def test_a_step_that_runs_out_of_memory_is_tried_again_in_smaller_parts(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = LabelLoss.__call__

    def small_memory(self: LabelLoss, members: Any) -> Any:
        if len(members) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return plain(self, members)

    monkeypatch.setattr(LabelLoss, "__call__", small_memory)
    result = run_sft(tmp_path / "a", tiny)
    assert [line["micro_batch_size"] for line in events(tmp_path / "a", "out_of_memory_retried")] == [2, 1]
    assert result.extras["micro_batch_size"] == 1 and result.metrics["steps"] == 6


@pytest.mark.parametrize("where", ["optimizer", "gradients"])
def test_no_memory_for_the_optimizer_ends_with_advice(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    import torch

    from evsys_hydra.causes import cause_of
    from evsys_hydra.training.distributed import Ranks

    def no_memory(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    of, name = {"optimizer": (torch.optim.AdamW, "step"), "gradients": (Ranks, "sum_gradients")}[where]
    monkeypatch.setattr(of, name, no_memory)
    with pytest.raises(Exception, match=r"optimizer's moments .*2\.00 GiB.*model=lora") as caught:
        run_sft(tmp_path / "a", tiny)
    assert cause_of(caught.value) == "out_of_memory"


def test_memory_for_not_even_one_example_ends_with_advice(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evsys_hydra.causes import cause_of

    def no_memory(self: LabelLoss, members: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(LabelLoss, "__call__", no_memory)
    with pytest.raises(Exception, match=r"does not fit into memory.*max_length") as caught:
        run_sft(tmp_path / "a", tiny)
    assert cause_of(caught.value) == "out_of_memory"


def test_bfloat16_trains_float32_weights_and_saves_bfloat16(tiny: Path, tmp_path: Path) -> None:
    import torch

    result = run_sft(tmp_path / "a", tiny, dtype="bfloat16")
    model, _ = load_model(model_config(tiny), result.artifacts["checkpoint"])
    assert model.dtype == torch.float32
    from safetensors.torch import load_file

    saved = load_file(Path(result.artifacts["checkpoint"]) / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    with pytest.raises(ConfigError, match="float16 cannot be trained in"):
        run_sft(tmp_path / "b", tiny, dtype="float16")


def test_gradient_checkpointing_changes_no_bit(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", dropout=0.1)
    plain = run_sft(tmp_path / "a", model)
    assert weights_hash(plain) == weights_hash(run_sft(tmp_path / "b", model, {"gradient_checkpointing": True}))


def test_the_chat_template_of_the_config_is_saved_with_the_checkpoint(tiny: Path, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    (tmp_path / "chat.jinja").write_text(template)
    result = run_sft(tmp_path / "a", tiny, chat_template=str(tmp_path / "chat.jinja"))
    assert load_tokenizer(model_config(tiny), result.artifacts["checkpoint"]).chat_template == template
