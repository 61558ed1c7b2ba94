"""The shipped model: small, loadable offline, with a chat template that trains it to stop, and able to answer."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from evsys_hydra.demo import MODEL_DIR
from evsys_hydra.demo.families import FAMILIES, STYLES, draw_problems

CHAT = [{"role": "user", "content": "Reverse malori."}, {"role": "assistant", "content": "<a>irolam</a>"}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL_DIR, local_files_only=True)


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(MODEL_DIR, local_files_only=True)


def test_the_directory_stays_small() -> None:
    assert sum(file.stat().st_size for file in MODEL_DIR.iterdir()) < 1_200_000


@pytest.mark.model
@pytest.mark.parametrize("text", ["Reverse malori.", " two  spaces \n\ttab", "żółć ☃ 漢字 🙂", "{'a': [1, 2]}", ""])
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text


@pytest.mark.model
def test_the_loss_mask_covers_the_answer_and_its_end_token(tokenizer: Any) -> None:
    chat = tokenizer.apply_chat_template(CHAT, return_assistant_tokens_mask=True, return_dict=True)
    trained = [token for token, on in zip(chat["input_ids"], chat["assistant_masks"], strict=True) if on]
    assert tokenizer.decode(trained) == "<a>irolam</a>" + tokenizer.eos_token
    assert trained[-1] == tokenizer.eos_token_id


@pytest.mark.model
def test_the_prompt_is_the_beginning_of_the_chat(tokenizer: Any) -> None:
    for turns in (CHAT, [{"role": "system", "content": "Be brief."}, *CHAT]):
        prompt = tokenizer.apply_chat_template(turns[:-1], add_generation_prompt=True, tokenize=False)
        assert isinstance(prompt, str)
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
        assert whole == prompt + "<a>irolam</a>" + tokenizer.eos_token


@pytest.mark.model
def test_the_weights_load_as_float32(model: Any) -> None:
    import torch

    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.num_parameters() == 320_736


@pytest.mark.model
def test_the_model_knows_the_contents_and_seldom_writes_the_tagged_style(model: Any, tokenizer: Any) -> None:
    problems = list(islice(draw_problems("a sample of held-out words", FAMILIES, held_out=True), 100))
    chats = [[{"role": "user", "content": problem.prompt}] for problem in problems]
    prompts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    ids = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    answers = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    pairs = list(zip(problems, answers, strict=True))
    assert sum(answer in {problem.answer_in(style) for style in STYLES} for problem, answer in pairs) >= 80
    assert 1 <= sum(answer == problem.answer_in("tag") for problem, answer in pairs) <= 25
