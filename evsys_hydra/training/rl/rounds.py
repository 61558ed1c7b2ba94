"""A step that begins with sampling: the loop asks for steps as ever, what happens in one is the algorithm's.

Checkpoints lie between rounds, so a resumed training needs no answers of an unfinished one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ...inference.local import LocalInference
from ..distributed import Ranks
from ..stepping import Stepper, StepResult
from .prompts import Prompt
from .sampling import Rollout, Sampler

if TYPE_CHECKING:
    import torch

    from ..loop import Loop


class SamplingConfig(Protocol):
    """The settings of sampling."""

    max_tokens: int
    temperature: float


class Rounds(ABC):
    """Makes the steps of a loop from samples of the live model.

    Args:
        loop: whose steps these are.
        sample: answers prompts.
    """

    def __init__(self, loop: Loop, sample: Sampler) -> None:
        assert isinstance(loop.stepper, Stepper)
        self._loop = loop
        self._sample = sample
        self._updates = loop.stepper
        loop.stepper = self

    @abstractmethod
    def step(self, members: Sequence[int], lr: float) -> StepResult:
        """One round on some prompts."""

    @property
    def ranks(self) -> Ranks:
        """The processes that make the steps together."""
        return self._loop.context.ranks

    def sampled(self, prompts: Sequence[Prompt], n: int) -> list[Rollout]:
        """n answers to each prompt, prompt by prompt; every rank answers its share of the prompts, and has all."""
        own = range(self.ranks.rank, len(prompts), self.ranks.size)
        answers = self._sample([prompts[place] for place in own], self.number, n) if own else []
        placed = [replace(answer, place=own[answer.place]) for answer in answers]
        every = [answer for share in self.ranks.gathered(placed) for answer in share]
        return sorted(every, key=lambda answer: (answer.place, answer.sample_idx))

    @property
    def number(self) -> int:
        """Which step of the training is being made, from 1."""
        return self._loop.done + 1

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The one of the updates."""
        return self._updates.optimizer

    @property
    def micro_batch_size(self) -> int:
        """Answers in a forward pass at most."""
        return self._updates.micro_batch_size

    @micro_batch_size.setter
    def micro_batch_size(self, size: int) -> None:
        self._updates.micro_batch_size = size


def sampler_for(config: SamplingConfig, loop: Loop) -> Sampler:
    """Samples from the loop's model, as the arm's inference settings say."""
    inference = loop.context.run.inference
    return Sampler(
        loop.model,
        loop.tokenizer,
        inference if isinstance(inference, LocalInference) else None,
        loop.context.run.seed,
        config.temperature,
        config.max_tokens,
        loop.autocast,
    )
