"""Answers of the live model, by the engine that evaluates checkpoints, with the tokens it chose.

Each sample has random numbers of its own, from (seed, prompt, step, sample): the same ones however they are batched,
and when a resumed training makes the step again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...benchmark.predictions import sample_seed
from ...errors import DataError
from ...inference.client import Request
from ...inference.prompts import PromptStyle, tokenize
from ..chat import Tokens, tokens_of
from ..policy import frozen
from .prompts import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ...inference.local import LocalInference


@dataclass(frozen=True)
class Rollout:
    """One sampled answer.

    Args:
        place: which of the prompts it answers.
        sample_idx: which of the prompt's samples it is.
        tokens: prompt and answer; trained on is the answer.
        finish_reason: stop, or length if it was cut.
    """

    place: int
    sample_idx: int
    tokens: Tokens
    text: str
    finish_reason: str

    @property
    def answer_ids(self) -> list[int]:
        """The answer's tokens, the one that ended it included."""
        ids: list[int] = self.tokens.ids[self.tokens.trained].tolist()
        return ids


@dataclass
class Sampler:
    """Samples from the live model.

    Args:
        settings: batch size and prompt style; None: found by itself.
        seed: the arm's.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: LocalInference | None
    seed: int
    temperature: float
    max_tokens: int
    autocast: Callable[[], AbstractContextManager[object]]

    def __call__(self, prompts: Sequence[Prompt], step: int, n: int) -> list[Rollout]:
        """n answers to each prompt, prompt by prompt.

        Raises:
            DataError: a prompt that cannot be answered (it is too long, or the chat template fails on it).
        """
        from ...inference.local import LocalClient

        samples = [(place, index) for place in range(len(prompts)) for index in range(n)]
        requests = [
            Request(
                messages=prompts[place].messages,
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                seed=sample_seed(self.seed, f"{prompts[place].id}\0{step}", index),
            )
            for place, index in samples
        ]
        with frozen(self.model, self.autocast):
            results = LocalClient(self.model, self.tokenizer, self.settings).generate(requests)
        rollouts = []
        for (place, index), result in zip(samples, results, strict=True):
            if result.error is not None:
                raise DataError(f"prompt {prompts[place].id!r} cannot be answered in training: {result.error}")
            tokens = joined(result.prompt_ids, result.token_ids)
            rollouts.append(Rollout(place, index, tokens, result.text, result.finish_reason))
        return rollouts


def answerable(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, style: PromptStyle, longest: int | None
) -> list[int]:
    """Places of the prompts that leave room for an answer.

    Args:
        longest: tokens that the model can take; None: no limit is known.

    Raises:
        DataError: the chat template fails on a prompt, or no prompt is left.
    """
    kept = []
    found = tokenize([Request(list(prompt.messages)) for prompt in prompts], tokenizer, style)
    for place, ids in enumerate(found):
        if isinstance(ids, str):
            raise DataError(f"prompt {prompts[place].id!r} cannot be answered in training: {ids}")
        if longest is None or len(ids) < longest:
            kept.append(place)
    if not kept:
        raise DataError(
            f"none of the {len(prompts)} prompts leaves room for an answer: the model takes {longest} tokens, the "
            f"shortest prompt has {min(map(len, found))}"
        )
    return kept


def joined(prompt: Sequence[int], answer: Sequence[int]) -> Tokens:
    """A sequence whose answer is trained on."""
    return tokens_of([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))
