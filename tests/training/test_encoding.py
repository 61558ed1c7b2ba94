"""What is trained on, checked as decoded text."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evsys_hydra.errors import DataError
from evsys_hydra.training import chat as chat_module
from evsys_hydra.training.context import Row
from evsys_hydra.training.encoding import EncodingOptions, encode_rows, marked_examples

CHAT: Row = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "So soon?"},
    ]
}

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Like some reasoning models' templates: reasoning is shown in the last turn only.
FORGETFUL = (
    "{% for m in messages %}[{{ m.role }}]"
    "{% if m.role == 'assistant' and loop.last %}<think>{{ m.reasoning }}</think>{% endif %}"
    "{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}[assistant]<think>{% endif %}"
)


def with_template(tokenizer: Any, template: str | None) -> Any:
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed


def marked(tokenizer: Any, row: Row, **options: Any) -> str:
    (text,) = marked_examples([row], tokenizer, 1, EncodingOptions(**options))
    return text


def test_a_chat_with_marks_trains_on_every_assistant_turn_and_its_end(tokenizer: Any) -> None:
    start = "<|begin|><|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>"
    assert marked(tokenizer, CHAT) == f"{start}⟦Ho<|end|>⟧<|user|>Bye<|end|><|assistant|>⟦So soon?<|end|>⟧"
    assert (
        marked(tokenizer, CHAT, loss_on="last") == f"{start}Ho<|end|><|user|>Bye<|end|><|assistant|>⟦So soon?<|end|>⟧"
    )


def test_a_template_without_marks_trains_on_what_follows_the_generation_prompt(tokenizer: Any) -> None:
    plain = with_template(tokenizer, CHATML)
    start = "<|im_start|>system\nBe brief.<|end|>\n<|im_start|>user\nHi<|end|>\n<|im_start|>assistant\n"
    end = "\n<|im_start|>user\nBye<|end|>\n<|im_start|>assistant\n"
    assert marked(plain, CHAT) == f"{start}⟦Ho<|end|>⟧{end}⟦So soon?<|end|>⟧\n"
    assert marked(plain, CHAT, loss_on="last") == f"{start}Ho<|end|>{end}⟦So soon?<|end|>⟧\n"


def test_marks_and_rendering_agree(tokenizer: Any) -> None:
    template = tokenizer.chat_template.replace("{%- generation %}", "").replace("{%- endgeneration %}", "")
    unmarked = with_template(tokenizer, template)
    for loss_on in ("all", "last"):
        assert marked(tokenizer, CHAT, loss_on=loss_on) == marked(unmarked, CHAT, loss_on=loss_on)


def test_turns_that_a_template_renders_differently_later_are_trained_on_as_they_were_said(tokenizer: Any) -> None:
    forgetful = with_template(tokenizer, FORGETFUL)
    chat = {
        "messages": [
            {"role": "user", "content": "1+1"},
            {"role": "assistant", "content": "2", "reasoning": "easy"},
            {"role": "user", "content": "2+2"},
            {"role": "assistant", "content": "4", "reasoning": "also"},
        ]
    }
    assert marked_examples([chat], forgetful, 2) == [
        "[user]1+1<|end|>[assistant]<think>⟦easy</think>2<|end|>⟧",
        "[user]1+1<|end|>[assistant]2<|end|>[user]2+2<|end|>[assistant]<think>⟦also</think>4<|end|>⟧",
    ]
    assert len(encode_rows([chat], forgetful, EncodingOptions()).examples) == 2
    assert len(encode_rows([chat], forgetful, EncodingOptions(loss_on="last")).examples) == 1


def test_marked_turns_are_trained_on_as_they_were_said_too(tokenizer: Any) -> None:
    template = (
        "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}{% generation %}"
        "{% if loop.last %}<think>{{ m.reasoning }}</think>{% endif %}{{ m.content }}<|end|>{% endgeneration %}"
        "{% else %}{{ m.content }}<|end|>{% endif %}{% endfor %}"
    )
    forgetful = with_template(tokenizer, template)
    said = [("1+1", "2", "easy"), ("2+2", "4", "also")]
    messages = [
        message
        for asked, answer, reasoning in said
        for message in (
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answer, "reasoning": reasoning},
        )
    ]
    turns = [
        "[user]1+1<|end|>[assistant]⟦<think>easy</think>2<|end|>⟧",
        "[user]1+1<|end|>[assistant]2<|end|>[user]2+2<|end|>[assistant]⟦<think>also</think>4<|end|>⟧",
    ]
    assert marked_examples([{"messages": messages}], forgetful, 3) == turns
    assert marked(forgetful, {"messages": messages}, loss_on="last") == turns[1]
    thanked = {"messages": [*messages, {"role": "user", "content": "Thanks"}]}
    assert marked_examples([thanked], forgetful, 3) == turns


def test_a_generation_prompt_that_no_turn_begins_with_gives_way_to_the_header(
    tokenizer: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of models that always reason: the rendered turn begins with no <think>, but may begin with a `<` too."""
    chat_module._warn_once.cache_clear()
    monkeypatch.setattr(chat_module, "log", logging.getLogger("of this test"))  # trackers' tests switch loggers off
    thinking = with_template(tokenizer, CHATML.replace("assistant\n{% endif %}", "assistant\n<think>{% endif %}"))
    for answer in ("<a>Ho</a>", "Ho"):
        chat = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]}
        text = f"<|im_start|>user\nHi<|end|>\n<|im_start|>assistant\n⟦{answer}<|end|>⟧\n"
        assert marked(thinking, chat) == text
    assert ["'<|im_start|>assistant\\n<think>'" in record.getMessage() for record in caplog.records] == [True]


def test_the_header_of_a_chat_that_the_assistant_begins_is_not_trained_on(tokenizer: Any) -> None:
    template = "{{ 'Be helpful.' }}" + CHATML
    chat = {"messages": [{"role": "assistant", "content": "Welcome"}]}
    expected = "Be helpful.<|im_start|>assistant\n⟦Welcome<|end|>⟧\n"
    assert marked(with_template(tokenizer, template), chat) == expected


def test_prompt_and_completion_follow_the_chat_template_if_there_is_one(tokenizer: Any) -> None:
    row = {"prompt": "2+2= ", "completion": "4"}
    assert marked(tokenizer, row) == "<|begin|><|user|>2+2= <|end|><|assistant|>⟦4<|end|>⟧"
    assert marked(tokenizer, row, render="text") == "2+2= ⟦4<|end|>⟧"
    assert marked(with_template(tokenizer, None), row) == "2+2= ⟦4<|end|>⟧"


def test_text_trains_on_everything_and_its_end(tokenizer: Any) -> None:
    assert marked(tokenizer, {"text": "a b"}) == "⟦a b<|end|>⟧"
    assert marked(tokenizer, {"text": "a b<|end|>"}) == "⟦a b<|end|>⟧"


def test_rows_of_several_shapes_keep_their_order(tokenizer: Any) -> None:
    rows = [{"text": "a"}, {"prompt": "b", "completion": "c"}, {"text": "d"}, {"messages": CHAT["messages"][1:3]}]
    assert marked_examples(rows, tokenizer, 4) == [marked(tokenizer, row) for row in rows]


def test_chats_without_a_template_say_what_to_set(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"set model\.chat_template"):
        marked(with_template(tokenizer, None), CHAT)


def test_a_template_that_refuses_a_chat_shows_it(tokenizer: Any) -> None:
    strict = with_template(tokenizer, "{{ raise_exception('no system role') }}")
    with pytest.raises(DataError, match=r"no system role.*Be brief"):
        marked(strict, CHAT)


@pytest.mark.parametrize(
    ("policy", "lengths", "truncated", "dropped"),
    [("drop", [4], 0, 1), ("cut_end", [4, 5], 1, 0), ("cut_start", [4, 5], 1, 0)],
)
def test_too_long_sequences_are_treated_as_asked_and_counted(
    tokenizer: Any, policy: Any, lengths: list[int], truncated: int, dropped: int
) -> None:
    rows = [{"text": "abc"}, {"text": "defghi"}]
    encoded = encode_rows(rows, tokenizer, EncodingOptions(max_length=5, too_long=policy))
    assert [len(tokens.ids) for tokens in encoded.examples] == lengths
    assert (encoded.n_rows, encoded.n_truncated, encoded.n_dropped) == (2, truncated, dropped)
    if policy == "cut_start":
        assert tokenizer.decode(encoded.examples[1].ids.tolist()) == "fghi<|end|>"
    if policy == "cut_end":
        assert tokenizer.decode(encoded.examples[1].ids.tolist()) == "defgh"


def test_a_cut_that_leaves_nothing_to_train_on_drops_the_sequence(tokenizer: Any) -> None:
    rows = [{"prompt": "abcdef", "completion": "g"}, {"text": "ab"}]
    encoded = encode_rows(rows, tokenizer, EncodingOptions(max_length=5, too_long="cut_end"))
    assert (len(encoded.examples), encoded.n_dropped) == (1, 1)


def test_too_long_as_an_error_and_nothing_left(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"has 7 tokens, more than algorithm\.max_length=5"):
        encode_rows([{"text": "abcdef"}], tokenizer, EncodingOptions(max_length=5, too_long="error"))
    with pytest.raises(DataError, match="none of the 1 rows can be trained on"):
        encode_rows([{"text": "abcdef"}], tokenizer, EncodingOptions(max_length=5))


def test_counts_of_tokens(tokenizer: Any) -> None:
    encoded = encode_rows(
        [{"text": "abc"}, {"prompt": "ab", "completion": "c"}], tokenizer, EncodingOptions(render="text")
    )
    assert encoded.n_tokens == 4 + 4
    assert encoded.n_trained_tokens == 3 + 2


@given(st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=8))
@settings(max_examples=50, deadline=None)
def test_any_words_of_the_assistant_are_what_is_trained_on(words: list[str]) -> None:
    tokenizer = _cached_tokenizer()
    words = [word.replace("<|", "< |") for word in words]
    roles = ["user", "assistant"] * len(words)
    messages = [{"role": role, "content": word} for role, word in zip(roles, words, strict=False)]
    (tokens,) = encode_rows([{"messages": messages}], tokenizer, EncodingOptions()).examples
    said = "".join(word + "<|end|>" for role, word in zip(roles, words, strict=False) if role == "assistant")
    assert tokenizer.decode(tokens.ids[tokens.trained].tolist()) == said


def _cached_tokenizer(cache: list[Any] = []) -> Any:  # noqa: B006  one tokenizer for all examples
    from transformers import AutoTokenizer

    from evsys_hydra.demo import MODEL_DIR

    if not cache:
        cache.append(AutoTokenizer.from_pretrained(MODEL_DIR, local_files_only=True))
    return cache[0]
