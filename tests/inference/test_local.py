"""The local engine: the same tokens as one at a time, whatever the batch, and nothing lost when memory runs out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from evsys_hydra import ConfigError, ModelConfig, Request, Result, RunConfig
from evsys_hydra.inference.local import LocalClient, LocalInference, open_local
from evsys_hydra.inference.prompts import tokenize

from .parts import WORDS

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("one_thread")

SYSTEM = "You are a careful assistant who answers in very few words and never explains."


@pytest.fixture(scope="module")
def model() -> Any:
    """A random model whose logits lie far apart, so that greedy choices are no coin tosses."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=262, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, initializer_range=0.2,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).float().eval()


def requests(n: int, seed: int = 0, system: bool = False, **options: Any) -> list[Request]:
    rng = random.Random(seed)
    made = []
    for index in range(n):
        text = " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))
        messages = [{"role": "user", "content": text}]
        if system:
            messages.insert(0, {"role": "system", "content": SYSTEM})
        settings = {"max_tokens": rng.randint(1, 24), "seed": index, **options}
        made.append(Request(messages, **settings))
    return made


def one_at_a_time(model: Any, tokenizer: Any, asked: Sequence[Request]) -> list[list[int]]:
    """What transformers' own generate gives for each request alone."""
    answers = []
    for prompt, request in zip(tokenize(asked, tokenizer), asked, strict=True):
        ids = torch.tensor([prompt])
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=request.max_tokens,
            eos_token_id=2,
            pad_token_id=0,
        )
        answers.append(out[0, ids.shape[1] :].tolist())
    return answers


def texts(results: Sequence[Result]) -> list[str]:
    assert all(result.error is None for result in results), results
    return [result.text for result in results]


@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.slow
def test_greedy_is_one_at_a_time_token_by_token(model: Any, tokenizer: Any, batch_size: int, system: bool) -> None:
    asked = requests(32, system=system)
    tokens: dict[int, list[int]] = {}
    client = LocalClient(model, tokenizer, LocalInference(batch_size=batch_size))
    _spy(client, tokens)
    client.generate(asked)
    assert [tokens[index] for index in range(32)] == one_at_a_time(model, tokenizer, asked)


def _spy(client: LocalClient, tokens: dict[int, list[int]]) -> None:
    """Keep each row's tokens as it is finished."""
    from evsys_hydra.inference.decoding import Decoder

    original = client._decode

    def decode(decoder: Decoder, rows: Any, prefix: Any, finish: Any) -> None:
        kept = {row.index: row for row in rows}
        original(decoder, rows, prefix, finish)
        tokens.update({index: row.generated for index, row in kept.items()})

    client._decode = decode  # type: ignore[method-assign]


def test_sliding_windows_are_decoded_exactly(tokenizer: Any) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=262, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=512, initializer_range=0.2, sliding_window=16,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    windowed = MistralForCausalLM(config).float().eval()
    asked = requests(16, system=True)
    tokens: dict[int, list[int]] = {}
    client = LocalClient(windowed, tokenizer, LocalInference(batch_size=6))
    _spy(client, tokens)
    client.generate(asked)
    assert [tokens[index] for index in range(16)] == one_at_a_time(windowed, tokenizer, asked)


@pytest.mark.parametrize("kind", ["lfm2", "qwen3_next"])
def test_hybrid_models_are_decoded_exactly(kind: str, tokenizer: Any) -> None:
    """Some of their layers keep a state instead of keys and values."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    recurrent = {"lfm2": "conv", "qwen3_next": "linear_attention"}[kind]
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
    linear = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8}
    config = AutoConfig.for_model(
        kind, vocab_size=262, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, linear_value_head_dim=8, shared_expert_intermediate_size=16,
        layer_types=[recurrent, "full_attention"], max_position_embeddings=512, initializer_range=0.2,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, **experts, **linear,
    )  # fmt: skip
    hybrid = AutoModelForCausalLM.from_config(config).float().eval()
    asked = requests(16)
    tokens: dict[int, list[int]] = {}
    client = LocalClient(hybrid, tokenizer, LocalInference(batch_size=6))
    _spy(client, tokens)
    client.generate(asked)
    assert [tokens[index] for index in range(16)] == one_at_a_time(hybrid, tokenizer, asked)


@pytest.mark.model
def test_greedy_is_one_at_a_time_on_the_demo_model() -> None:
    from evsys_hydra.config import ModelConfig
    from evsys_hydra.models import load_model

    model, tokenizer = load_model(ModelConfig(name="demo", dtype="float32"))
    asked = requests(64, max_tokens=40)
    tokens: dict[int, list[int]] = {}
    client = LocalClient(model, tokenizer)
    _spy(client, tokens)
    client.generate(asked)
    assert [tokens[index] for index in range(64)] == one_at_a_time(model, tokenizer, asked)


def test_sampling_depends_neither_on_batch_nor_on_order(model: Any, tokenizer: Any) -> None:
    asked = requests(24, temperature=0.7)
    once = texts(LocalClient(model, tokenizer, LocalInference(batch_size=24)).generate(asked))
    alone = texts(LocalClient(model, tokenizer, LocalInference(batch_size=1)).generate(asked))
    turned = texts(LocalClient(model, tokenizer, LocalInference(batch_size=7)).generate(asked[::-1]))
    assert once == alone == turned[::-1]
    other = [Request(**{**vars(request), "seed": request.seed + 1000}) for request in asked]
    assert texts(LocalClient(model, tokenizer).generate(other)) != once


def test_sampling_follows_the_model(model: Any, tokenizer: Any) -> None:
    prompt = [{"role": "user", "content": "the fox"}]
    asked = [Request(prompt, max_tokens=1, temperature=1.3, seed=seed) for seed in range(4000)]
    tokens: dict[int, list[int]] = {}
    client = LocalClient(model, tokenizer, LocalInference(batch_size=1000))
    _spy(client, tokens)
    client.generate(asked)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(tokenize(asked[:1], tokenizer))).logits[0, -1].double()
    wanted = torch.softmax(logits / 1.3, -1)
    seen = torch.bincount(torch.tensor([each[0] for each in tokens.values()]), minlength=262) / 4000
    error = (wanted * (1 - wanted) / 4000).sqrt()
    likely = wanted > 0.005
    assert (((seen - wanted).abs() / error)[likely] < 4.5).all()


def test_sampling_leaves_the_global_random_numbers_alone(model: Any, tokenizer: Any) -> None:
    before = torch.random.get_rng_state()
    LocalClient(model, tokenizer).generate(requests(4, temperature=1.0))
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_answer_ends_before_its_stop_string(model: Any, tokenizer: Any) -> None:
    asked = requests(16, max_tokens=24)
    whole = texts(LocalClient(model, tokenizer).generate(asked))
    index, text = next((index, text) for index, text in enumerate(whole) if len(text) >= 8)
    stop = text[3:5]
    mixed = [*asked[:index], Request(**{**vars(asked[index]), "stop": (stop, "never there")}), *asked[index + 1 :]]
    results = LocalClient(model, tokenizer).generate(mixed)
    assert results[index].text == text[: text.index(stop)]
    assert results[index].finish_reason == "stop"
    assert [each for i, each in enumerate(texts(results)) if i != index] == [
        each for i, each in enumerate(whole) if i != index
    ]


def test_a_special_token_is_a_stop_string_too(model: Any, tokenizer: Any) -> None:
    """It is in no text; an answer may still end there, as with `<|im_end|>`."""
    asked = requests(16, max_tokens=24)
    mark = tokenizer.convert_tokens_to_ids("<|assistant|>")
    whole = LocalClient(model, tokenizer).generate(asked)
    index, place = next((i, each.token_ids.index(mark)) for i, each in enumerate(whole) if mark in each.token_ids)
    stopping = Request(**{**vars(asked[index]), "stop": ("<|assistant|>", "")})
    (result,) = LocalClient(model, tokenizer).generate([stopping])
    assert result.finish_reason == "stop" and list(result.token_ids) == whole[index].token_ids[: place + 1]
    assert whole[index].text.startswith(result.text)


def test_a_special_token_that_was_added_is_known(model: Any, tokenizer: Any) -> None:
    """Some tokenizers list theirs among the added tokens only."""
    import copy

    from transformers import AddedToken

    from evsys_hydra.inference.decoding import Decoder
    from evsys_hydra.inference.rows import Row

    other = copy.deepcopy(tokenizer)
    other.add_tokens([AddedToken("<|eot_id|>", special=True)])
    row = Row(0, [1], 9, 0.0, 0, ("<|eot_id|>",))
    Decoder(model, other, frozenset())._append(row, other.convert_tokens_to_ids("<|eot_id|>"))
    assert row.finish == "stop"


def test_running_out_of_memory_loses_nothing(model: Any, tokenizer: Any) -> None:
    asked = requests(20, temperature=0.7, max_tokens=16)
    wanted = texts(LocalClient(model, tokenizer).generate(asked))
    forwards = {"tokens": 0}

    def short_of_memory(_: Any, args: Any, kwargs: Any) -> None:
        ids = kwargs["input_ids"]
        if ids.shape[0] > 5 and ids.shape[1] == 1 and kwargs["position_ids"].shape[0] * forwards["tokens"] > 40:
            raise torch.OutOfMemoryError("out of memory")
        forwards["tokens"] += 1

    hook = model.register_forward_pre_hook(short_of_memory, with_kwargs=True)
    try:
        client = LocalClient(model, tokenizer, LocalInference(batch_size=20))
        delivered: list[int] = []
        results = client.generate(asked, lambda index, _: delivered.append(index))
    finally:
        hook.remove()
    assert texts(results) == wanted
    assert sorted(delivered) == list(range(20))
    assert client.facts["batch_size"] <= 5


def test_memory_that_holds_no_single_answer_is_an_error_of_that_answer(model: Any, tokenizer: Any) -> None:
    def no_long_prompts(_: Any, args: Any, kwargs: Any) -> None:
        if kwargs["input_ids"].shape[1] > 40:
            raise torch.OutOfMemoryError("out of memory")

    hook = model.register_forward_pre_hook(no_long_prompts, with_kwargs=True)
    try:
        asked = [Request([{"role": "user", "content": text}], max_tokens=4) for text in ("x" * 60, "ab", "cd")]
        results = LocalClient(model, tokenizer).generate(asked)
    finally:
        hook.remove()
    assert results[0].error is not None and "out of memory with a single answer" in results[0].error
    assert texts(results[1:])


def test_a_prompt_beyond_the_context_is_an_error_of_that_prompt(model: Any, tokenizer: Any) -> None:
    asked = [Request([{"role": "user", "content": text}], max_tokens=600) for text in ("x" * 600, "y" * 480)]
    long, near = LocalClient(model, tokenizer).generate(asked)
    assert long.error is not None and "the model's context 512" in long.error
    assert near.error is None and near.prompt_tokens + near.completion_tokens <= 512


def test_without_a_chat_template_the_texts_are_joined(tokenizer: Any) -> None:
    request = Request([{"role": "system", "content": "Short."}, {"role": "user", "content": "Why?"}])
    (plain,) = tokenize([request], tokenizer, "plain")
    assert tokenizer.decode(plain, skip_special_tokens=True) == "Short.\n\nWhy?"
    (chat,) = tokenize([request], tokenizer)
    assert tokenizer.decode(chat).endswith("<|assistant|>")


def test_a_template_that_refuses_costs_its_request(tokenizer: Any) -> None:
    import copy

    strict = copy.deepcopy(tokenizer)
    strict.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system message') }}{% endif %}"
        "{{ messages[-1]['content'] }}{% if enable_thinking is defined %}[{{ enable_thinking }}]{% endif %}"
    )
    refused, taken = tokenize([requests(1, system=True)[0], Request([{"role": "user", "content": "x"}])], strict)
    assert isinstance(refused, str) and "no system message" in refused
    assert isinstance(taken, list)
    thinking = Request([{"role": "user", "content": "x"}], enable_thinking=False)
    (ids,) = tokenize([thinking], strict)
    assert strict.decode(ids) == "x[False]"


def test_the_module_imports_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, evsys_hydra.inference.local, evsys_hydra.inference.api, evsys_hydra.inference.plain, "
        "evsys_hydra.benchmark.scoring, evsys_hydra.benchmark.in_loop, evsys_hydra.benchmark.verifiers; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.model
@pytest.mark.parametrize("kind", ["mamba", "recurrent_gemma"])
def test_a_model_whose_state_cannot_be_batched_is_refused(kind: str, tokenizer: Any) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"mamba": {"state_size": 4}, "recurrent_gemma": {"num_attention_heads": 4, "num_key_value_heads": 1}}[kind]
    config = AutoConfig.for_model(kind, vocab_size=262, hidden_size=32, num_hidden_layers=3, **sizes)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ConfigError, match=f"models of type '{kind}' keep a state of their own kind.*inference=vllm"):
        LocalClient(model, tokenizer).generate(requests(2))


def test_answers_to_prompts_of_another_style_are_not_taken() -> None:
    run = RunConfig.model_construct(model=ModelConfig(name="demo"))
    chat, plain = (open_local(LocalInference(prompt=style), None, run) for style in ("chat", "plain"))
    assert chat.identity != plain.identity
