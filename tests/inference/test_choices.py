"""Choices: log-likelihoods are those of each prompt and choice read alone, whatever is shared and batched."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from evsys_hydra import Request
from evsys_hydra.inference.choices import Encoded, choice_result, encode
from evsys_hydra.inference.local import LocalClient, LocalInference
from evsys_hydra.inference.plain import PlainAdapter
from evsys_hydra.inference.prefix_groups import prefix_groups

from .parts import WORDS

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("one_thread")

SIZES: dict[str, Any] = {
    "vocab_size": 262, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512, "initializer_range": 0.2,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


def random_model(kind: str, **settings: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**SIZES, **settings})
    return AutoModelForCausalLM.from_config(config).float().eval()


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model("llama")


def words(rng: random.Random, least: int, most: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(least, most)))


def requests(n: int, **options: Any) -> list[Request]:
    """Prompts of three subjects, each behind examples of its own; letters, words or sentences to choose from."""
    rng = random.Random(0)
    examples = [" ".join(rng.choices(WORDS, k=30)) + "\n\n" for _ in range(3)]
    made = []
    for index in range(n):
        kinds = [["A", "B", "C"], ["yes", "no"], list(dict.fromkeys(words(rng, 1, 6) for _ in range(4)))]
        text = examples[index % 3] + words(rng, 1, 12)
        made.append(Request([{"role": "user", "content": text}], choices=kinds[rng.randrange(3)], **options))
    return made


def alone(model: Any, tokenizer: Any, asked: Sequence[Request], style: Any = "auto") -> list[list[float]]:
    """Each prompt and choice read by itself, the whole of its logits taken."""
    found = []
    for each in encode(asked, tokenizer, style):
        assert isinstance(each, Encoded)
        values = []
        for choice in each.choices:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([each.prompt + choice])).logits[0, len(each.prompt) - 1 : -1]
            logprobs = torch.log_softmax(logits.float(), -1)
            values.append(float(logprobs[torch.arange(len(choice)), torch.tensor(choice)].sum()))
        found.append(values)
    return found


def logprobs(client: LocalClient, asked: Sequence[Request]) -> list[list[float]]:
    results = client.generate(asked)
    assert all(result.error is None for result in results), results
    return [list(result.choice_logprobs) for result in results]


def assert_close(some: list[list[float]], others: list[list[float]]) -> None:
    assert [len(each) for each in some] == [len(each) for each in others]
    ours, theirs = (torch.tensor([value for row in rows for value in row]) for rows in (some, others))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("style", ["chat", "plain"])
@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"batch_size": 7}, {}, {"share_prefix": False}])
def test_log_likelihoods_are_those_of_each_read_alone(
    model: Any, tokenizer: Any, settings: dict[str, Any], style: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evsys_hydra.inference.likelihood.GROUP_COST", 64)
    asked = requests(24)
    client = LocalClient(model, tokenizer, LocalInference(prompt=style, **settings))
    assert_close(logprobs(client, asked), alone(model, tokenizer, asked, style))
    assert 1 <= client.facts["batch_size"] <= settings.get("batch_size", 128)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("mistral", {"sliding_window": 16}),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}),
        (
            "qwen3_next",
            {
                "layer_types": ["linear_attention", "full_attention"], "num_experts": 2, "num_experts_per_tok": 1,
                "moe_intermediate_size": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
                "linear_key_head_dim": 8, "linear_value_head_dim": 8, "shared_expert_intermediate_size": 16,
            },
        ),
    ],
)  # fmt: skip
def test_models_whose_cache_cannot_be_shared(kind: str, settings: dict[str, Any], tokenizer: Any) -> None:
    other = random_model(kind, **settings)
    asked = requests(9)
    assert_close(logprobs(LocalClient(other, tokenizer), asked), alone(other, tokenizer, asked))


def test_a_shared_beginning_is_read_once(model: Any, tokenizer: Any) -> None:
    read: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        asked = requests(48)
        logprobs(LocalClient(model, tokenizer, LocalInference(share_prefix=False)), asked)
        apart = sum(read)
        read.clear()
        logprobs(LocalClient(model, tokenizer), asked)
    finally:
        hook.remove()
    assert sum(read) < apart / 2


def test_choices_and_generation_in_one_call(model: Any, tokenizer: Any) -> None:
    choosing = requests(3)
    generating = [Request(request.messages, max_tokens=4) for request in choosing]
    client = LocalClient(model, tokenizer)
    seen: list[int] = []
    mixed = client.generate([choosing[0], *generating, *choosing[1:]], lambda index, _: seen.append(index))
    assert sorted(seen) == list(range(6))
    assert [result.text for result in mixed[1:4]] == [result.text for result in client.generate(generating)]
    chosen = [mixed[0], *mixed[4:]]
    assert all(result.text in request.choices for result, request in zip(chosen, choosing, strict=True))
    assert {(result.finish_reason, result.error) for result in chosen} == {("stop", None)}
    assert all(result.completion_tokens == len(result.token_ids) for result in chosen)


def test_running_out_of_memory_loses_nothing(model: Any, tokenizer: Any) -> None:
    asked = requests(20)
    wanted = logprobs(LocalClient(model, tokenizer), asked)

    def short_of_memory(_: Any, args: Any, kwargs: Any) -> None:
        if kwargs["input_ids"].shape[0] > 3:
            raise torch.OutOfMemoryError("out of memory")

    hook = model.register_forward_pre_hook(short_of_memory, with_kwargs=True)
    try:
        client = LocalClient(model, tokenizer)
        assert_close(logprobs(client, asked), wanted)
    finally:
        hook.remove()
    assert client.facts["batch_size"] <= 3


def test_memory_that_holds_no_single_choice_is_an_error_of_that_request(model: Any, tokenizer: Any) -> None:
    def nothing_long(_: Any, args: Any, kwargs: Any) -> None:
        if kwargs["input_ids"].shape[1] > 60:
            raise torch.OutOfMemoryError("out of memory")

    hook = model.register_forward_pre_hook(nothing_long, with_kwargs=True)
    try:
        asked = [Request([{"role": "user", "content": text}], choices=["a", "b"]) for text in ("x" * 90, "ab", "cd")]
        results = LocalClient(model, tokenizer).generate(asked)
    finally:
        hook.remove()
    assert results[0].error is not None and "out of memory with a single choice" in results[0].error
    assert [result.error for result in results[1:]] == [None, None]


def test_what_the_context_cannot_hold_is_an_error_of_its_request(model: Any, tokenizer: Any) -> None:
    inference = LocalInference(prompt="plain")
    room = 512 - len(tokenizer("")["input_ids"])
    texts = ["x" * (room - 3), "x" * (room - 2)]
    asked = [Request([{"role": "user", "content": text}], choices=["ab", "abc"]) for text in texts]
    fits, not_any_more = LocalClient(model, tokenizer, inference).generate(asked)
    assert fits.error is None  # a choice's last token is predicted, never read
    assert not_any_more.error is not None and "have 514 tokens, the model's context 512" in not_any_more.error


def test_tokens_of_prompt_and_choice(tokenizer: Any) -> None:
    def texts(request: Request, style: Any) -> tuple[str, list[str]]:
        (each,) = encode([request], tokenizer, style)
        assert isinstance(each, Encoded)
        return tokenizer.decode(each.prompt), [tokenizer.decode(choice) for choice in each.choices]

    asked = Request([{"role": "user", "content": "Why?\n "}], choices=["so", "no"])
    assert texts(asked, "plain")[1] == ["\n  so", "\n  no"]
    assert texts(asked, "plain")[0].endswith("Why?")
    prompt, choices = texts(asked, "chat")
    assert prompt.endswith("<|assistant|>") and choices == ["so", "no"]
    bare = Request([{"role": "user", "content": "Why?"}], choices=["so"], choice_delimiter=": ")
    assert texts(bare, "plain")[1] == [": so"]
    (empty,) = encode([Request([{"role": "user", "content": ""}], choices=["so"])], tokenizer, "plain")
    assert isinstance(empty, Encoded) and empty.prompt == [tokenizer.bos_token_id]


def test_a_template_that_refuses_costs_its_request(model: Any, tokenizer: Any) -> None:
    import copy

    strict = copy.deepcopy(tokenizer)
    strict.chat_template = "{{ raise_exception('not today') }}"
    (refused,) = LocalClient(model, strict).generate(requests(1))
    assert refused.error is not None and "not today" in refused.error


@pytest.mark.parametrize(("norm", "place"), [(None, 0), ("characters", 2), ("bytes", 1)])
def test_the_chosen_one_after_normalization(norm: Any, place: int) -> None:
    asked = Request([], choices=["ab", "éééé", "abcdefgh"], choice_norm=norm)
    result = choice_result(asked, Encoded([1], [[5], [6, 7], [8]]), [-4.0, -7.6, -12.8], 0.5)
    assert result.text == asked.choices[place]
    assert result.choice_logprobs == [-4.0, -7.6, -12.8]


def test_of_equal_choices_the_first_and_of_no_numbers_none() -> None:
    asked = Request([], choices=["a", "b", "c"])
    encoded = Encoded([1], [[5], [6], [7]])
    assert choice_result(asked, encoded, [-2.0, -1.0, -1.0], 0.0).text == "b"
    lost = choice_result(asked, encoded, [-2.0, float("nan"), -1.0], 0.0)
    assert lost.finish_reason == "error" and lost.error == "the log-likelihood of 'b' is no finite number"


def test_a_client_of_texts_alone_says_so() -> None:
    class Plain:
        def generate(self, *, prompt: str, max_tokens: int, temperature: float, stop: list[str] | None) -> str:
            raise AssertionError("not to be asked")

    (result,) = PlainAdapter(Plain()).generate(requests(1))
    assert result.error is not None and "use inference=local or vllm" in result.error


def test_groups_save_the_most() -> None:
    rng = random.Random(0)
    for _ in range(60):
        prompts = [[rng.randrange(2) for _ in range(rng.randint(1, 6))] for _ in range(rng.randint(1, 6))]
        cost = rng.randrange(4)
        groups = prefix_groups(prompts, cost)
        assert sorted(place for group in groups for place in group.places) == list(range(len(prompts)))
        saved = 0
        for group in groups:
            assert group.shared == (_shared([prompts[place] for place in group.places]) if group.shared else 0)
            saved += group.shared * (len(group.places) - 1) - cost if group.shared else 0
        assert saved == max(
            sum(max(0, _shared([prompts[p] for p in part]) * (len(part) - 1) - cost) for part in parts)
            for parts in _partitions(list(range(len(prompts))))
        )


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    columns = zip(*(prompt[:-1] for prompt in prompts), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, columns))


def _partitions(places: list[int]) -> Iterator[list[list[int]]]:
    if not places:
        yield []
        return
    first, *rest = places
    for size in range(len(rest) + 1):
        for others in itertools.combinations(rest, size):
            for parts in _partitions([place for place in rest if place not in others]):
                yield [[first, *others], *parts]
