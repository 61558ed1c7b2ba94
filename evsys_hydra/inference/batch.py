"""One batch on its way through the model: left-padded, with exact attention; rows that are done leave it.

Padding is masked, and positions are counted from each prompt's own beginning, so a row's logits are those it would
have alone (up to the rounding of sums of another shape).
"""

from __future__ import annotations

from collections.abc import Sequence
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
        budget = GPU_PROMPT_TOKENS if device.type == "cuda" else CPU_PROMPT_TOKENS
        self._joins = can_join(model)
        self._chunks = _chunks([len(row.tokens) for row in rows], budget if self._joins else None)
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

        read = [self._read_chunk(self.rows[start:end]) for start, end in self._chunks]
        self._filled = max(mask.shape[1] for _, _, mask, _ in read)
        left = max(row.max_tokens - len(row.generated) for row in self.rows)
        masks = [torch.nn.functional.pad(mask, (self._filled - mask.shape[1], left), value=0) for _, _, mask, _ in read]
        self._mask = torch.cat(masks)
        self._mask[:, self._filled :] = 1
        self._padded = not bool(self._mask.all())
        self._positions = torch.cat([positions for _, _, _, positions in read])
        caches = [cache for _, cache, _, _ in read]
        self._cache = joined(caches, self._filled) if self._joins else caches[0]
        return torch.cat([logits for logits, _, _, _ in read])

    def _read_chunk(self, rows: Sequence[Row]) -> tuple[torch.Tensor, Any, torch.Tensor, torch.Tensor]:
        """Logits [rows, vocabulary], the cache, the mask of its positions, each row's last position [rows, 1]."""
        import torch

        skip = self._prefix.length if self._prefix is not None else 0
        suffixes = [row.tokens[skip:] for row in rows]
        longest = max(map(len, suffixes))
        ids = np.full((len(rows), longest), self._pad, np.int64)
        mask = np.ones((len(rows), skip + longest), np.int64)
        for place, suffix in enumerate(suffixes):
            ids[place, longest - len(suffix) :] = suffix
            mask[place, skip : skip + longest - len(suffix)] = 0
        positions = (mask.cumsum(1)[:, skip:] - 1).clip(min=0)
        mask_tensor = torch.from_numpy(mask).to(self._device)
        out = self._model(
            input_ids=torch.from_numpy(ids).to(self._device),
            attention_mask=None if mask.all() else mask_tensor,
            position_ids=torch.from_numpy(positions).to(self._device),
            past_key_values=with_prefix(self._prefix, len(rows), self._model),
            use_cache=True,
            logits_to_keep=1,
        )
        last = torch.from_numpy(positions[:, -1:].copy()).to(self._device)
        return out.logits[:, -1].float(), cache_of(out, self._model), mask_tensor, last


def _chunks(lengths: Sequence[int], budget: int | None) -> list[tuple[int, int]]:
    """Consecutive (start, end): each at most `budget` tokens with its padding, none padded by more than a quarter."""
    if budget is None:
        return [(0, len(lengths))]
    chunks, start, longest, shortest = [], 0, lengths[0], lengths[0]
    for place, length in enumerate(lengths):
        longest, shortest = max(longest, length), min(shortest, length)
        if place > start and (longest * (place - start + 1) > budget or longest > 1.25 * shortest + 8):
            chunks.append((start, place))
            start, longest, shortest = place, length, length
    return [*chunks, (start, len(lengths))]
