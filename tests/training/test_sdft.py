"""Self-distillation: the loss is TRL's, the student comes nearer to its teacher, bad rows are refused."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from evsys_hydra.config import DataConfig, LoraConfig, ModelConfig
from evsys_hydra.inference.local import LocalInference
from evsys_hydra.models import load_model
from evsys_hydra.training.policy import Policy, frozen
from evsys_hydra.training.rl.reference import Reference
from evsys_hydra.training.rl.sampling import joined
from evsys_hydra.training.rows import check_data
from evsys_hydra.training.sdft import DistillationLoss, lessons_of
from evsys_hydra.training.sdft_config import SDFTConfig
from evsys_hydra.training.sft import training_hash

from .own_samples import DEMONSTRATED, KINDS
from .parts import events, make_context, run_kind, sft_config


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize(("divergence", "alpha"), [("reverse", 1.0), ("forward", 0.0)])
def test_the_loss_is_that_of_trl(divergence: Any, alpha: float, tiny: Path) -> None:
    import torch
    from trl.experimental.sdft.loss_utils import compute_full_logit_self_distillation_loss

    student, _ = load_model(ModelConfig(name=str(tiny)))
    teacher, _ = load_model(ModelConfig(name=str(tiny)))
    torch.manual_seed(1)
    for parameter in student.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    rng = np.random.default_rng(0)
    asked, shown, answers = ([rng.integers(6, 262, n).tolist() for n in ns] for ns in ((5, 3), (9, 12), (4, 7)))
    theirs = 0.0
    for one, other, answer in zip(asked, shown, answers, strict=True):
        logits = [
            model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
            for model, prompt in ((student, one), (teacher, other))
        ]
        theirs += float(compute_full_logit_self_distillation_loss(*logits, distillation_alpha=alpha).sum())

    class Start:
        @contextmanager
        def policy(self) -> Any:
            from contextlib import nullcontext

            with frozen(teacher, nullcontext):
                yield Policy(teacher, 0)

    loss = DistillationLoss(Policy(student, 0), SDFTConfig(lr=1, divergence=divergence))
    loss.teacher = cast(Reference, Start())
    loss.take(*([joined(p, a) for p, a in zip(prompts, answers, strict=True)] for prompts in (asked, shown)))
    assert float(loss([0, 1])) == pytest.approx(theirs, rel=1e-4)
    assert loss.sizes([0, 1]) == (19, 11)


@pytest.mark.model
@pytest.mark.parametrize("lora", [None, LoraConfig(r=4)], ids=["full", "lora"])
def test_the_student_comes_nearer_to_its_teacher(lora: LoraConfig | None, tmp_path: Path) -> None:
    settings = KINDS["sdft"][1] | {"lr": 1e-3, "max_steps": 40, "batch_size": 12, "log_every": 1}
    result = run_kind("sdft", tmp_path / "arm", "demo", settings, rows=DEMONSTRATED, lora=lora)
    first = events(tmp_path / "arm", "metrics")[0]["values"]["loss"]
    assert 0 < result.metrics["train_loss"] < 0.7 * first
    assert result.metrics["n_examples"] == 12 and 1 <= result.metrics["answer_tokens"] <= 6
    assert set(result.metrics) == set(SDFTConfig.figures)


@pytest.mark.model
def test_the_teacher_sees_the_demonstration_and_the_student_does_not(tokenizer: Any) -> None:
    said = (("system", "Be {demonstration}."), ("user", "Say {prompt}."), ("assistant", "ant"))
    rows = [{"messages": [{"role": role, "content": content} for role, content in said]}]
    config = SDFTConfig(lr=1, teacher_prompt="{prompt} For example: {demonstration}")
    (lesson,) = lessons_of(rows, config, tokenizer, None)
    assert [message["content"] for message in lesson.student.messages] == ["Be {demonstration}.", "Say {prompt}."]
    assert "Say {prompt}. For example: ant" in tokenizer.decode(lesson.teacher)
    (plain,) = lessons_of(rows, config, tokenizer, None, "plain")
    said_plainly = "Be {demonstration}.\n\nSay {prompt}. For example: ant"
    assert tokenizer.decode(plain.teacher, skip_special_tokens=True) == said_plainly


@pytest.mark.model
@pytest.mark.parametrize("kind", ["sft", "sdft"])
def test_how_prompts_are_rendered_decides_the_weights_where_they_are_answered(tmp_path: Path, kind: str) -> None:
    config = {"sft": sft_config(), "sdft": SDFTConfig(lr=1)}[kind]
    context = make_context(tmp_path, "demo", rows=DEMONSTRATED)
    plain = replace(context, run=context.run.model_copy(update={"inference": LocalInference(prompt="plain")}))
    assert (training_hash(config, context) != training_hash(config, plain)) == (kind == "sdft")


@pytest.mark.model
def test_rows_without_room_for_an_answer_are_left_out(tokenizer: Any) -> None:
    rows = [*DEMONSTRATED[:2], {"prompt": "Say it.", "completion": "x" * 300}]
    assert len(lessons_of(rows, SDFTConfig(lr=1, max_tokens=40), tokenizer, 300)) == 2


def test_rows_without_a_demonstration_are_refused_before_launch() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    rows: list[dict[str, Any]] = [{"prompt": "a", "completion": "b"}, {"text": "all"}, {"messages": turns}]
    (problem,) = check_data(DataConfig(rows=rows), SDFTConfig(lr=1))
    assert "data.rows[1]: text: has no answer" in problem
    assert "data.rows[2]: messages: must end with a user and an assistant message" in problem
    with pytest.raises(ValueError, match=r"must contain {demonstration}"):
        SDFTConfig(lr=1, teacher_prompt="{prompt}")
