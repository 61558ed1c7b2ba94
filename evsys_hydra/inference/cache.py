"""The keys and values of a batch: read in chunks, joined into one cache with room for the answers, cut as rows leave.

transformers' own cache copies all keys and values at each token; here a token is written into its place. Imported only
where a model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from ..errors import ConfigError
from .rows import Prefix

ROOM = 64
"""Tokens that are made room for at a time."""


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values, [rows, heads, tokens, dimension], as views of buffers with room for more tokens.

    Args:
        parts: the layer of each chunk, in order.
        length: of the joined rows; shorter ones are padded on the left with zeros.
    """

    def __init__(self, parts: Sequence[Any], length: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device, self.is_initialized = parts[0].keys.dtype, parts[0].keys.device, True
        self._keys = _joined([part.keys for part in parts], length)
        self._values = _joined([part.values for part in parts], length)
        self._show(length)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take the keys and values of more tokens; all of them, as the attention wants them."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if end > self._keys.shape[-2]:
            room = max(ROOM, end - start)
            self._keys, self._values = (
                _joined([each[:, :, :start]], start, room) for each in (self._keys, self._values)
            )
        self._keys[:, :, start:end] = key_states
        self._values[:, :, start:end] = value_states
        return self._show(end)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows only."""
        length = self.get_seq_length()
        self._keys, self._values = (each.index_select(0, indices) for each in (self._keys, self._values))
        self._show(length)

    def _show(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._keys[:, :, :length], self._values[:, :, :length]
        self.keys, self.values = keys, values
        return keys, values


def cache_of(out: Any, model: PreTrainedModel) -> Any:
    """The cache that a model's output brings.

    Raises:
        ConfigError: a model that keeps a state of its own kind instead.
    """
    cache = getattr(out, "past_key_values", None)
    if cache is None:
        raise ConfigError(
            f"inference.kind=local: models of type {model.config.model_type!r} keep a state of their own kind, which "
            "this engine cannot batch; use inference=vllm, or inference=api with a server that runs the model"
        )
    return cache


def can_join(model: PreTrainedModel) -> bool:
    """Whether the cache is keys and values of all positions in each layer (no sliding windows, no states)."""
    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def joined(caches: Sequence[Any], length: int) -> Any:
    """One cache of several, each padded on the left to `length` positions; they are emptied."""
    whole = caches[0]
    for place, layers in enumerate(zip(*(cache.layers for cache in caches), strict=True)):
        whole.layers[place] = RoomyLayer(layers, length)
        for layer in layers:
            layer.reset()  # the copy is made: the parts need not be kept beside it
    return whole


def keep_rows(cache: Any, kept: torch.Tensor) -> None:
    """Drop all rows of a cache but these; the recurrent layers of a hybrid model only know how to reorder theirs."""
    for layer in cache.layers:
        (layer.batch_select_indices if hasattr(layer, "batch_select_indices") else layer.reorder_cache)(kept)


def with_prefix(prefix: Prefix | None, size: int, model: PreTrainedModel) -> Any:
    """A cache that begins with the prefix in each row; None if there is no prefix: the model makes its own."""
    if prefix is None:
        return None
    cache = DynamicCache(config=model.config)
    for place, (keys, values) in enumerate(prefix.layers):
        cache.update(keys.expand(size, -1, -1, -1), values.expand(size, -1, -1, -1), place)
    return cache


def repeat_rows(cache: Any, rows: torch.Tensor, model: PreTrainedModel) -> Any:
    """A cache of its own that has these rows of another one, each as often as it is named."""
    repeated = DynamicCache(config=model.config)
    for place, layer in enumerate(cache.layers):
        repeated.update(layer.keys.index_select(0, rows), layer.values.index_select(0, rows), place)
    return repeated


def _joined(parts: Sequence[torch.Tensor], length: int, room: int = ROOM) -> torch.Tensor:
    """The parts' rows, with room after them: [rows, heads, length + room, dimension]; a part may be shorter."""
    _, heads, _, dimension = parts[0].shape
    buffer = parts[0].new_empty((sum(map(len, parts)), heads, length + room, dimension))
    start = 0
    for part in parts:
        rows = buffer[start : start + len(part)]
        rows[:, :, : length - part.shape[-2]] = 0  # padding is masked, but must be numbers
        rows[:, :, length - part.shape[-2] : length] = part
        start += len(part)
    return buffer
