"""Choices with vLLM: each is given behind its prompt, and vLLM tells the log-probabilities of the prompt's tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..causes import describe
from .choices import Encoded, choice_result, encode
from .client import Request, Result
from .prompts import PromptStyle

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OnResult = Callable[[int, Result], None]
CHUNK = 256
"""Requests handed over at a time: a few choices each fill a GPU, and answers are on disk when a chunk is done."""


def answer_choices(
    engine: Any,
    asked: Mapping[int, Request],
    tokenizer: PreTrainedTokenizerBase,
    style: PromptStyle,
    lora: Any,
    finish: OnResult,
) -> None:
    """Answer requests that have choices, some hundreds at a time; if vLLM refuses one (too long), in halves.

    Args:
        engine: vllm.LLM.
        lora: the adapter that answers, as vllm's LoRARequest; None: the engine's own weights.
        finish: called with (the request's key, result).
    """
    keys = list(asked)
    for start in range(0, len(keys), CHUNK):
        usable: dict[int, Encoded] = {}
        part = keys[start : start + CHUNK]
        for key, each in zip(part, encode([asked[key] for key in part], tokenizer, style), strict=True):
            if isinstance(each, str):
                finish(key, Result(finish_reason="error", error=each))
            else:
                usable[key] = each
        _answer(engine, asked, usable, lora, finish)


def choice_logprobs(encoded: Encoded, outputs: Sequence[Any]) -> list[float]:
    """The log-likelihood of each choice by a vllm RequestOutput for each: the sum over the choice's own tokens."""
    values = []
    for choice, output in zip(encoded.choices, outputs, strict=True):
        told = output.prompt_logprobs[len(encoded.prompt) :]
        values.append(sum(float(each[token].logprob) for token, each in zip(choice, told, strict=True)))
    return values


def _answer(
    engine: Any, asked: Mapping[int, Request], encoded: Mapping[int, Encoded], lora: Any, finish: OnResult
) -> None:
    from vllm import SamplingParams

    if not encoded:
        return
    started = time.monotonic()
    texts = [each.prompt + choice for each in encoded.values() for choice in each.choices]
    # vLLM has to generate something; 0 asks for the log-probability of each prompt token and of no others.
    settings = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
    try:
        told = engine.generate(
            [{"prompt_token_ids": text} for text in texts], settings, use_tqdm=False, lora_request=lora
        )
    except ValueError as error:
        keys = list(encoded)
        if len(keys) == 1:
            tokens = len(encoded[keys[0]].prompt)
            finish(keys[0], Result(finish_reason="error", error=describe(error), prompt_tokens=tokens))
            return
        for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
            _answer(engine, asked, {key: encoded[key] for key in half}, lora, finish)
        return
    seconds, outputs = time.monotonic() - started, iter(told)
    for key, each in encoded.items():
        values = choice_logprobs(each, [next(outputs) for _ in each.choices])
        finish(key, choice_result(asked[key], each, values, seconds))
