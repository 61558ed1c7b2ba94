"""Decoding one batch: left-padded prompts with exact attention, each answer ending on its own.

Rows that are done leave the batch and its key-value cache at once. A row keeps its tokens, so a batch that ran out of
memory goes on, in smaller batches, where it was. Sampling draws from each row's own random numbers: neither the batch
nor the order of requests matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .client import FinishReason

KEEP_SHARE = 0.9
"""Rows that are done leave the cache when less than this share of its rows is still going on: leaving copies it."""
DRAWN_AT_ONCE = 64


@dataclass
class Row:
    """One answer in the making."""

    index: int
    prompt: list[int]
    max_tokens: int
    temperature: float
    seed: int
    stop: tuple[str, ...]
    generated: list[int] = field(default_factory=list)
    finish: FinishReason | None = None
    _draws: np.ndarray[Any, np.dtype[np.float64]] = field(default_factory=lambda: np.empty(0))

    @property
    def tokens(self) -> list[int]:
        """What the model has to see before the next token."""
        return self.prompt + self.generated

    def draw(self) -> float:
        """The random number in [0, 1) of the next token: always the same one for this seed and place."""
        place = len(self.generated)
        if place >= len(self._draws):
            count = min(self.max_tokens, max(DRAWN_AT_ONCE, 2 * len(self._draws)))
            self._draws = np.random.Generator(np.random.PCG64(self.seed)).random(max(count, place + 1))
        return float(self._draws[place])


@dataclass(frozen=True)
class Prefix:
    """The cache of tokens that all prompts begin with: (keys, values) a layer, for a batch of one."""

    length: int
    layers: Sequence[tuple[torch.Tensor, torch.Tensor]]


class Decoder:
    """Decodes batches with one model.

    Args:
        model: on its device, in eval mode.
        ends: tokens that end an answer.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int]) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._ends = ends
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._device = model.device

    def text(self, row: Row) -> str:
        """A row's answer: without the token that ended it, cut before the first stop string."""
        tokens = row.generated[:-1] if row.generated and row.generated[-1] in self._ends else row.generated
        text = str(self._tokenizer.decode(tokens, skip_special_tokens=True))
        cuts = [place for stop in row.stop if (place := text.find(stop)) >= 0]
        return text[: min(cuts)] if cuts else text

    def prefix(self, tokens: Sequence[int]) -> Prefix | None:
        """The cache of a shared prefix; None if this model's cache is not one that can be shared."""
        import torch
        from transformers.cache_utils import DynamicLayer

        with torch.no_grad():
            ids = torch.tensor([list(tokens)], device=self._device)
            cache = self._model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
        layers = getattr(cache, "layers", [])
        if not layers or any(type(layer) is not DynamicLayer for layer in layers):
            return None
        return Prefix(len(tokens), [(layer.keys, layer.values) for layer in layers])

    def run(self, rows: Sequence[Row], prefix: Prefix | None, on_done: Callable[[Row], None]) -> None:
        """Finish every row; `on_done` is called for each as soon as it is.

        Raises:
            torch.OutOfMemoryError, MemoryError, RuntimeError: rows keep the tokens they have.
        """
        import torch

        with torch.no_grad():  # not inference_mode: a live model must still be trainable afterwards
            batch = _Batch(self._model, rows, prefix, self._pad, self._device)
            while batch.rows:
                tokens = _choose(batch.forward(), batch.rows)
                for row, token in zip(batch.rows, tokens, strict=True):
                    if row.finish is None:
                        self._append(row, token)
                        if row.finish is not None:
                            on_done(row)
                batch.advance(tokens)

    def _append(self, row: Row, token: int) -> None:
        row.generated.append(token)
        if token in self._ends or (row.stop and self._stopped(row)):
            row.finish = "stop"
        elif len(row.generated) >= row.max_tokens:
            row.finish = "length"

    def _stopped(self, row: Row) -> bool:
        """Whether a stop string has appeared; looks at the last tokens only, each of which is at least a byte."""
        window = max(len(stop.encode()) for stop in row.stop) + 8
        tail = str(self._tokenizer.decode(row.generated[-window:], skip_special_tokens=True))
        return any(stop in tail for stop in row.stop)


class _Batch:
    """The tensors of one batch: what to feed next, which positions are padding, the cache."""

    def __init__(
        self, model: PreTrainedModel, rows: Sequence[Row], prefix: Prefix | None, pad: int, device: torch.device
    ) -> None:
        import torch

        self._model = model
        self.rows = list(rows)
        skip = prefix.length if prefix is not None else 0
        suffixes = [row.tokens[skip:] for row in rows]
        longest = max(map(len, suffixes))
        self._padded = any(len(suffix) != longest for suffix in suffixes)
        left = max(row.max_tokens - len(row.generated) for row in rows)
        ids = np.full((len(rows), longest), pad, np.int64)
        mask = np.ones((len(rows), skip + longest + left), np.int64)
        for place, suffix in enumerate(suffixes):
            ids[place, longest - len(suffix) :] = suffix
            mask[place, skip : skip + longest - len(suffix)] = 0
        self._ids = torch.from_numpy(ids).to(device)
        self._mask = torch.from_numpy(mask).to(device)
        self._filled = skip + longest
        positions = self._mask[:, : self._filled].cumsum(-1)[:, skip:] - 1
        self._positions = positions.clamp_(min=0)
        self._cache = _cache_of(prefix, len(rows), model)

    def forward(self) -> torch.Tensor:
        """Logits of each row's next token: [rows, vocabulary], float32."""
        out = self._model(
            input_ids=self._ids,
            attention_mask=self._mask[:, : self._filled] if self._padded else None,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = out.past_key_values
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    def advance(self, tokens: Sequence[int]) -> None:
        """Take the chosen tokens as the next input; rows that are done leave."""
        import torch

        going_on = [place for place, row in enumerate(self.rows) if row.finish is None]
        self._ids = torch.tensor(tokens, device=self._ids.device).unsqueeze(1)
        self._positions = self._positions[:, -1:] + 1
        self._filled += 1
        if not going_on:
            self.rows = []
        elif len(going_on) < KEEP_SHARE * len(self.rows):
            kept = torch.tensor(going_on, device=self._ids.device)
            self._ids, self._positions, self._mask = self._ids[kept], self._positions[kept], self._mask[kept]
            self._cache.batch_select_indices(kept)
            self.rows = [self.rows[place] for place in going_on]


def _cache_of(prefix: Prefix | None, size: int, model: PreTrainedModel) -> Any:
    """A cache that begins with the prefix in each row; None if there is no prefix: the model makes its own."""
    from transformers import DynamicCache

    if prefix is None:
        return None
    cache = DynamicCache(config=model.config)
    for place, (keys, values) in enumerate(prefix.layers):
        cache.update(keys.expand(size, -1, -1, -1), values.expand(size, -1, -1, -1), place)
    return cache


def _choose(logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """Each row's next token: the likeliest at temperature 0, else drawn by inverting the distribution function."""
    import torch

    tokens: list[int] = logits.argmax(-1).tolist()
    drawn = [place for place, row in enumerate(rows) if row.temperature > 0 and row.finish is None]
    if drawn:
        scale = torch.tensor([[rows[place].temperature] for place in drawn], device=logits.device)
        cumulated = torch.softmax(logits[drawn].double() / scale, -1).cumsum(-1)
        draws = torch.tensor([[rows[place].draw()] for place in drawn], dtype=torch.float64, device=logits.device)
        found = torch.searchsorted(cumulated, draws * cumulated[:, -1:], right=True).squeeze(1)
        for place, token in zip(drawn, found.clamp_(max=logits.shape[1] - 1).tolist(), strict=True):
            tokens[place] = token
    return tokens
