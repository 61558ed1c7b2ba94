"""Answering requests that have choices: in batches, longest first, as many at a time as memory takes.

Prompts that begin alike (few-shot examples, a system prompt) are read behind their common beginning, in groups where
that saves reading. The log-likelihoods themselves are computed in choice_reading.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .batch import chunks, tokens_at_a_time
from .cache import can_join
from .choice_reading import read_against_cache, read_whole
from .choices import Encoded, choice_result, encode
from .client import Request, Result
from .memory import budget, bytes_per_row, bytes_per_token, free_unused, is_out_of_memory
from .prefix_groups import prefix_groups
from .prompts import PromptStyle
from .rows import Prefix

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OnResult = Callable[[int, Result], None]
GROUP_COST = 512
"""Tokens that a shared beginning must save to be read apart from other prompts."""


@dataclass(frozen=True)
class Likelihood:
    """Scores choices with one model.

    Args:
        model: on its device, in eval mode.
        most: prompts or choices in the model at a time, at most.
        fixed: whether that many fit for sure; else as many as free memory takes by an estimate.
        read_prefix: gives the cache of a shared beginning, if there can be one; None: nothing is shared.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    style: PromptStyle
    most: int
    fixed: bool
    read_prefix: Callable[[Sequence[int]], Prefix | None] | None

    def answer(self, requests: Sequence[Request], finish: OnResult) -> int:
        """Answer each request; the largest batch, or what was left of it when memory ran out.

        Args:
            finish: called with (place, result) as soon as a request is answered.
        """
        fitting: dict[int, Encoded] = {}
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        for place, each in enumerate(encode(requests, self.tokenizer, self.style)):
            if isinstance(each, str):
                finish(place, Result(finish_reason="error", error=each))
            elif context is not None and each.longest - 1 > context:  # a choice's last token is never read
                text = f"the prompt and its longest choice have {each.longest} tokens, the model's context {context}"
                finish(place, Result(finish_reason="error", error=text, prompt_tokens=len(each.prompt)))
            else:
                fitting[place] = each

        def scored(place: int, values: list[float], seconds: float) -> None:
            finish(place, choice_result(requests[place], fitting[place], values, seconds))

        def failed(place: int, error: str) -> None:
            finish(place, Result(finish_reason="error", error=error, prompt_tokens=len(fitting[place].prompt)))

        places, largest, most = list(fitting), 0, self.most
        for shared, members in self._groups([fitting[place].prompt for place in places]):
            group = {places[member]: fitting[places[member]] for member in members}
            tokens = fitting[places[members[0]]].prompt[:shared]
            prefix = self.read_prefix(tokens) if shared and self.read_prefix is not None else None
            most, used = self._batches(group, prefix, most, scored, failed)
            largest = max(largest, used) if most == self.most else most
        return largest

    def _groups(self, prompts: Sequence[list[int]]) -> list[tuple[int, list[int]]]:
        if self.read_prefix is None or not can_join(self.model):
            return [(0, list(range(len(prompts))))] if prompts else []
        return [(group.shared, group.places) for group in prefix_groups(prompts, GROUP_COST)]

    def _batches(
        self,
        asked: dict[int, Encoded],
        prefix: Prefix | None,
        most: int,
        scored: Callable[[int, list[float], float], None],
        failed: Callable[[int, str], None],
    ) -> tuple[int, int]:
        """Score these; how many may be in the model at a time from now on, and how many were."""
        # Longest first: if memory runs out, it does so at once.
        left = sorted(asked, key=lambda place: (-len(asked[place].prompt), -asked[place].longest, place))
        skip, largest = prefix.length if prefix is not None else 0, 0
        while left:
            fits = self._fitting([asked[place] for place in left[:most]], most)
            lengths = [len(asked[place].prompt) - skip for place in left[:fits]]
            batch = left[: chunks(lengths, tokens_at_a_time(self.model.device))[0][1]]
            started = time.monotonic()
            try:
                values, used = self._read([asked[place] for place in batch], prefix, fits)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                free_unused(self.model.device)
                if fits == 1:
                    failed(batch[0], f"out of memory with a single choice ({asked[batch[0]].longest} tokens)")
                    left = left[1:]
                most = max(1, fits // 2)
                continue
            largest = max(largest, used)
            seconds = time.monotonic() - started
            for place, each in zip(batch, values, strict=True):
                scored(place, each, seconds)
            left = left[len(batch) :]
        return most, largest

    def _read(self, batch: Sequence[Encoded], prefix: Prefix | None, most: int) -> tuple[list[list[float]], int]:
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        if can_join(self.model):
            return read_against_cache(self.model, batch, prefix, pad, most)
        return read_whole(self.model, batch, pad, most)

    def _fitting(self, some: Sequence[Encoded], most: int) -> int:
        """How many prompts or choices may be in the model at a time."""
        if self.fixed:
            return most
        length = max(each.longest for each in some)
        choice = max(each.longest - len(each.prompt) for each in some)
        row_bytes = bytes_per_row(self.model) * (1 + choice) + bytes_per_token(self.model) * length
        return max(1, min(most, int(budget(self.model.device) / row_bytes)))
