"""The one door to a model that answers: requests in, results in the same order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

FinishReason = Literal["stop", "length", "content_filter", "error"]
ChoiceNorm = Literal["characters", "bytes"]
NO_CHOICES = "choices need log-likelihoods of given texts, which this client does not give; use inference=local or vllm"


@dataclass(frozen=True)
class Request:
    """One generation to be made, or one choice among given texts.

    Args:
        messages: the chat, as {role, content}; the client renders it by the model's chat template.
        max_tokens: longest answer, in tokens.
        temperature: 0 is greedy.
        stop: the answer ends before the first of these strings.
        seed: makes sampling independent of batch size and order; derived from (run seed, task, sample).
        enable_thinking: passed to chat templates that know it; None: not passed.
        choices: if there are any, nothing is generated: the answer is the one that is the likeliest to follow.
        choice_delimiter: stands before each choice where no chat template makes the prompt.
        choice_norm: log-likelihoods are divided by the choice's length in these before they are compared.
    """

    messages: Sequence[dict[str, str]]
    max_tokens: int = 512
    temperature: float = 0.0
    stop: Sequence[str] = ()
    seed: int = 0
    enable_thinking: bool | None = None
    choices: Sequence[str] = ()
    choice_delimiter: str = " "
    choice_norm: ChoiceNorm | None = None


@dataclass
class Result:
    """What came back for one request; `error` is set where nothing usable did."""

    text: str = ""
    finish_reason: FinishReason = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0
    error: str | None = None
    extras: dict[str, float] = field(default_factory=dict)
    prompt_ids: Sequence[int] = ()
    """Token ids of the prompt, from clients that know them."""
    token_ids: Sequence[int] = ()
    """Token ids of the answer, the one that ended it included, from clients that know them."""
    choice_logprobs: Sequence[float] = ()
    """The log-likelihood of each of the request's choices: the sum over its tokens, natural logarithm."""


@runtime_checkable
class InferenceClient(Protocol):
    """Answers requests in bulk."""

    def generate(
        self, requests: Sequence[Request], on_result: Callable[[int, Result], None] | None = None
    ) -> list[Result]:
        """Answer all requests; a request that fails gives a Result with `error`, never an exception.

        Args:
            on_result: called with (index, result) as soon as each answer is there, in any order.
        """
        ...


class PlainClient(Protocol):
    """The EvSys SDK's contract, accepted wherever an InferenceClient is: one prompt, one text."""

    def generate(self, *, prompt: str, max_tokens: int, temperature: float, stop: list[str] | None) -> str: ...
