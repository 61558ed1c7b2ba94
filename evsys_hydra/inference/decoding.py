"""Decoding one batch: choosing tokens until each answer has ended, by its end token, a stop string or its length.

Sampling draws from each row's own random numbers: neither the batch nor the order of requests matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .batch import Batch
from .cache import cache_of
from .rows import Prefix, Row

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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
        self._special = {str(token): id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special.update(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
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
            cache = cache_of(self._model(input_ids=ids, use_cache=True, logits_to_keep=1), self._model)
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
            batch = Batch(self._model, rows, prefix, self._pad, self._device)
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
        if token in self._ends or (row.stop and self._stopped(row, token)):
            row.finish = "stop"
        elif len(row.generated) >= row.max_tokens:
            row.finish = "length"

    def _stopped(self, row: Row, token: int) -> bool:
        """Whether a stop string has appeared; looks at the last tokens only, each of which is at least a byte."""
        if any(self._special.get(stop) == token for stop in row.stop):  # it is not in the text
            return True
        window = max(len(stop.encode()) for stop in row.stop) + 8
        tail = str(self._tokenizer.decode(row.generated[-window:], skip_special_tokens=True))
        return any(stop in tail for stop in row.stop)


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
