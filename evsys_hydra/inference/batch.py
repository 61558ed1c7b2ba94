"""One batch on its way through the model: left-padded, with exact attention; rows that are done leave it.

Padding is masked, and positions are counted from each prompt's own beginning, so a row's logits are those it would
have alone (up to the rounding of sums of another shape).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .cache import cache_of, can_join, joined, keep_rows, with_prefix
from .rows import Prefix, Row

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

KEEP_SHARE = 0.9
"""Rows that are done leave the cache when less than this share of its rows is still going on: leaving copies it."""
CPU_PROMPT_TOKENS = 2048
"""Prompt tokens read at a time: more fall out of a core's cache."""
GPU_PROMPT_TOKENS = 16384


class Batch:
    """The tensors of one batch: what to feed next, which positions are padding, the cache.

    Args:
        rows: longest prompt first.
        prefix: what all prompts begin with; None: computed with each.
        pad: any token id.

    Prompts are read in chunks of about equal length, because reading is where padding costs; their caches are then
    joined, and the answers are decoded together.
    """

    def __init__(
        self, model: PreTrainedModel, rows: Sequence[Row], prefix: Prefix | None, pad: int, device: torch.device
    ) -> None:
        self._model = model
        self._pad = pad
        self._device = device
        self.rows = list(rows)
        self._joins = can_join(model)
        self._chunks = chunks([len(row.tokens) for row in rows], tokens_at_a_time(device) if self._joins else None)
        self._prefix = prefix
        self._cache: Any = None
        self._ids: torch.Tensor
        self._mask: torch.Tensor
        self._positions: torch.Tensor
        self._filled = 0
        self._padded = False

    def forward(self) -> torch.Tensor:
        """Logits of each row's next token: [rows, vocabulary], float32."""
        if self._cache is None:
            return self._read()
        out = self._model(
            input_ids=self._ids,
            attention_mask=self._mask[:, : self._filled] if self._padded else None,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    def advance(self, tokens: Sequence[int]) -> None:
        """Take the chosen tokens as the next input; rows that are done leave."""
        import torch

        going_on = [place for place, row in enumerate(self.rows) if row.finish is None]
        self._ids = torch.tensor(tokens, device=self._device).unsqueeze(1)
        self._positions = self._positions + 1
        self._filled += 1
        if not going_on:
            self.rows = []
        elif len(going_on) < KEEP_SHARE * len(self.rows):
            kept = torch.tensor(going_on, device=self._device)
            self._ids, self._positions, self._mask = self._ids[kept], self._positions[kept], self._mask[kept]
            keep_rows(self._cache, kept)
            self.rows = [self.rows[place] for place in going_on]

    def _read(self) -> torch.Tensor:
        """Read all prompts; logits of the first tokens."""
        import torch

        read = [
            read_prompts(self._model, [row.tokens for row in self.rows[a:b]], self._prefix, self._pad, self._device)
            for a, b in self._chunks
        ]
        self._filled = max(part.mask.shape[1] for part in read)
        left = max(row.max_tokens - len(row.generated) for row in self.rows)
        pads = [(self._filled - part.mask.shape[1], left) for part in read]
        masks = [torch.nn.functional.pad(part.mask, pad, value=0) for part, pad in zip(read, pads, strict=True)]
        self._mask = torch.cat(masks)
        self._mask[:, self._filled :] = 1
        self._padded = not bool(self._mask.all())
        self._positions = torch.cat([part.last for part in read])
        caches = [part.cache for part in read]
        self._cache = joined(caches, self._filled) if self._joins else caches[0]
        return torch.cat([part.logits[:, -1] for part in read])


@dataclass(frozen=True)
class ReadPrompts:
    """What reading some prompts gives."""

    logits: torch.Tensor
    """Of each prompt's last positions: [rows, positions, vocabulary], float32."""
    cache: Any
    mask: torch.Tensor
    """1 where the cache holds a token, 0 where it holds padding: [rows, positions]."""
    last: torch.Tensor
    """Each prompt's last position, counted from its own beginning: [rows, 1]."""


def read_prompts(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    prefix: Prefix | None,
    pad: int,
    device: torch.device,
    *,
    keep: int = 1,
) -> ReadPrompts:
    """Read prompts together, left-padded; what they begin with in common is taken from the prefix.

    Args:
        keep: last positions whose logits are kept.
    """
    import torch

    skip = prefix.length if prefix is not None else 0
    suffixes = [prompt[skip:] for prompt in prompts]
    longest = max(map(len, suffixes))
    ids = np.full((len(prompts), longest), pad, np.int64)
    mask = np.ones((len(prompts), skip + longest), np.int64)
    for place, suffix in enumerate(suffixes):
        ids[place, longest - len(suffix) :] = suffix
        mask[place, skip : skip + longest - len(suffix)] = 0
    positions = (mask.cumsum(1)[:, skip:] - 1).clip(min=0)
    mask_tensor = torch.from_numpy(mask).to(device)
    out = model(
        input_ids=torch.from_numpy(ids).to(device),
        attention_mask=None if mask.all() else mask_tensor,
        position_ids=torch.from_numpy(positions).to(device),
        past_key_values=with_prefix(prefix, len(prompts), model),
        use_cache=True,
        logits_to_keep=keep,
    )
    last = torch.from_numpy(positions[:, -1:].copy()).to(device)
    return ReadPrompts(out.logits.float(), cache_of(out, model), mask_tensor, last)


def tokens_at_a_time(device: torch.device) -> int:
    """Prompt tokens that are read together."""
    return GPU_PROMPT_TOKENS if device.type == "cuda" else CPU_PROMPT_TOKENS


def chunks(lengths: Sequence[int], budget: int | None) -> list[tuple[int, int]]:
    """Consecutive (start, end): each at most `budget` tokens with its padding, none padded by more than a quarter."""
    if budget is None:
        return [(0, len(lengths))]
    found, start, longest, shortest = [], 0, lengths[0], lengths[0]
    for place, length in enumerate(lengths):
        longest, shortest = max(longest, length), min(shortest, length)
        if place > start and (longest * (place - start + 1) > budget or longest > 1.25 * shortest + 8):
            found.append((start, place))
            start, longest, shortest = place, length, length
    return [*found, (start, len(lengths))]
