"""Choices of a request: as token ids after the prompt, and the one that is chosen by their log-likelihoods.

Prompt and choices are cut into tokens as lm-evaluation-harness does it, so that its log-likelihoods are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..causes import describe
from .client import Request, Result
from .prompts import PromptStyle, render, uses_chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Encoded:
    """A prompt and its choices as token ids; none is empty."""

    prompt: list[int]
    choices: list[list[int]]

    @property
    def longest(self) -> int:
        """Tokens of the prompt and its longest choice."""
        return len(self.prompt) + max(map(len, self.choices))


def encode(
    requests: Sequence[Request], tokenizer: PreTrainedTokenizerBase, style: PromptStyle = "auto"
) -> list[Encoded | str]:
    """Each request's prompt and choices as token ids, or why it has none.

    A choice's tokens are those of prompt and choice together after as many as the prompt alone has; whitespace at the
    prompt's end belongs to the choice, because tokenizers put it at the beginning of a word. Through a chat template
    a choice begins the assistant's turn; otherwise `choice_delimiter` stands before it.
    """
    chat = uses_chat(tokenizer, style)
    problems: dict[int, str] = {}
    texts: dict[int, list[str]] = {}
    for index, request in enumerate(requests):
        try:
            text = render(request, tokenizer, chat)
        except Exception as error:  # a template may refuse a chat, for example one with a system message
            problems[index] = f"the chat template failed: {describe(error)}"
            continue
        prompt = text.rstrip()
        between = text[len(prompt) :] + ("" if chat else request.choice_delimiter)
        texts[index] = [prompt, *(prompt + between + choice for choice in request.choices)]
    flat = [text for each in texts.values() for text in each]
    # One call for all: each call costs. A chat template writes the special tokens itself.
    ids = iter(tokenizer(flat, add_special_tokens=not chat)["input_ids"] if flat else [])
    found = {index: _encoded(each, [list(next(ids)) for _ in each], tokenizer) for index, each in texts.items()}
    return [problems[index] if index in problems else found[index] for index in range(len(requests))]


def chosen(request: Request, logprobs: Sequence[float]) -> int:
    """The place of the likeliest choice, after `choice_norm`; of equal ones the first."""
    sizes = [_size(choice, request) for choice in request.choices]
    return max(range(len(sizes)), key=lambda place: logprobs[place] / sizes[place])


def choice_result(request: Request, encoded: Encoded, logprobs: Sequence[float], seconds: float) -> Result:
    """The result of a request whose choices have these log-likelihoods."""
    tokens = len(encoded.prompt)
    if wrong := [choice for choice, value in zip(request.choices, logprobs, strict=True) if not math.isfinite(value)]:
        text = f"the log-likelihood of {wrong[0]!r} is no finite number"
        return Result(finish_reason="error", error=text, prompt_tokens=tokens, latency_s=seconds)
    place = chosen(request, logprobs)
    return Result(
        text=request.choices[place],
        prompt_tokens=tokens,
        completion_tokens=len(encoded.choices[place]),
        latency_s=seconds,
        prompt_ids=encoded.prompt,
        token_ids=encoded.choices[place],
        choice_logprobs=list(logprobs),
    )


def _encoded(texts: Sequence[str], ids: list[list[int]], tokenizer: PreTrainedTokenizerBase) -> Encoded | str:
    """Prompt and choices of the texts [prompt, prompt + choice, ...] and their token ids."""
    prompt, wholes = ids[0], ids[1:]
    continued = [whole[len(prompt) :] for whole in wholes]
    if not texts[0]:  # something has to stand before the first token
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if start is None:
            return "the prompt is empty"
        prompt = [start]
        continued = [list(each) for each in tokenizer(list(texts[1:]), add_special_tokens=False)["input_ids"]]
    for text, tokens in zip(texts[1:], continued, strict=True):
        if not tokens:
            return f"the choice {text[len(texts[0]) :]!r} adds no token to the prompt"
    return Encoded(prompt, continued)


def _size(choice: str, request: Request) -> int:
    if request.choice_norm is None:
        return 1
    return len(choice) if request.choice_norm == "characters" else len(choice.encode())
