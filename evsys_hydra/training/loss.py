"""Cross-entropy on the tokens that are trained on, the output head computed for those positions only.

The vocabulary is the cost of a small model's step: most positions of a chat are prompt and need no logits. Sequences
are padded on the right, where a causal model's earlier positions cannot see it, so no attention mask is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConfigError
from .chat import Tokens

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel


class LabelLoss:
    """Loss of a few sequences, padded to the longest, summed over their trained tokens.

    Args:
        model: a causal language model, or one with adapters.
        examples: all training sequences.
        pad_id: any token; it is never seen nor predicted.
    """

    def __init__(self, model: PreTrainedModel, examples: Sequence[Tokens], pad_id: int) -> None:
        self._model = model
        self._examples = examples
        self._pad_id = pad_id
        self._device = next(model.parameters()).device
        self._head_on_labels = head_takes_positions(model)

    def sizes(self, members: Sequence[int]) -> tuple[int, int]:
        """Tokens, and tokens trained on, of some examples."""
        chosen = [self._examples[member] for member in members]
        return sum(len(tokens.ids) for tokens in chosen), sum(int(tokens.trained[1:].sum()) for tokens in chosen)

    def __call__(self, members: Sequence[int]) -> Tensor:
        """The summed loss of some examples: a scalar in float32."""
        import torch.nn.functional as F

        inputs, positions, labels = self._batch([self._examples[member] for member in members])
        if self._head_on_labels:
            logits = self._model(**inputs, use_cache=False, logits_to_keep=positions).logits
        else:
            logits = self._model(**inputs, use_cache=False).logits[positions]
        return F.cross_entropy(logits.float(), labels, reduction="sum")

    def figures(self, members: Sequence[int]) -> dict[str, float]:
        """Nothing beside the loss."""
        return {}

    def _batch(self, chosen: Sequence[Tokens]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """input_ids (n, longest), positions whose next token is trained on (n, longest), those tokens (n_labels,)."""
        shape = (len(chosen), max(len(tokens.ids) for tokens in chosen))
        ids = np.full(shape, self._pad_id, np.int64)
        positions = np.zeros(shape, np.bool_)
        for row, tokens in enumerate(chosen):
            ids[row, : len(tokens.ids)] = tokens.ids
            positions[row, : len(tokens.ids) - 1] = tokens.trained[1:]
        labels = np.roll(ids, -1, axis=1)[positions]
        return {"input_ids": self._moved(ids)}, self._moved(positions), self._moved(labels)

    def _moved(self, array: np.ndarray) -> Tensor:
        import torch

        return torch.from_numpy(array).to(self._device, non_blocking=True)


class PackedLoss(LabelLoss):
    """The same loss of sequences that lie behind each other in one row.

    Position ids that start again make transformers' attention masks block-diagonal, as long as no cache is used: a
    sequence sees itself only. `sees_only_itself` makes sure of it for a model.

    Raises:
        ConfigError: the model lets sequences of a row see each other.
    """

    def __init__(self, model: PreTrainedModel, examples: Sequence[Tokens], pad_id: int) -> None:
        super().__init__(model, examples, pad_id)
        if not sees_only_itself(model):
            raise ConfigError(
                f"algorithm.packing=true: {type(model).__name__} lets the sequences of a row see each other; "
                "set it to false"
            )

    def _batch(self, chosen: Sequence[Tokens]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """input_ids and position_ids (1, tokens), positions whose next token is trained on, those tokens."""
        ids = np.concatenate([tokens.ids for tokens in chosen]).astype(np.int64)
        places = np.concatenate([np.arange(len(tokens.ids)) for tokens in chosen])
        positions = np.concatenate([np.append(tokens.trained[1:], False) for tokens in chosen])
        labels = np.roll(ids, -1)[positions]
        inputs = {"input_ids": self._moved(ids[None]), "position_ids": self._moved(places[None])}
        return inputs, self._moved(positions[None]), self._moved(labels)


def sees_only_itself(model: PreTrainedModel) -> bool:
    """Whether a sequence's logits are the same behind another one in its row as alone; tried out, models differ."""
    import torch

    where = next(model.parameters()).device
    row = torch.tensor([[3, 4, 5, 0, 1, 2, 1]], device=where)
    places = torch.tensor([[0, 1, 2, 0, 1, 2, 3]], device=where)
    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            packed = model(input_ids=row, position_ids=places, use_cache=False).logits[:, 3:]
            alone = model(input_ids=row[:, 3:], use_cache=False).logits
    finally:
        model.train(was_training)
    return torch.allclose(packed.float(), alone.float(), rtol=1e-2, atol=1e-3)


def head_takes_positions(model: PreTrainedModel) -> bool:
    """Whether the model computes logits for a mask of positions, exactly; tried out, because models differ."""
    import torch

    where = next(model.parameters()).device
    ids = torch.tensor([[0, 1, 2], [2, 1, 0]], device=where)
    mask = torch.tensor([[True, False, True], [False, True, False]], device=where)
    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            some: torch.Tensor = model(input_ids=ids, use_cache=False, logits_to_keep=mask).logits
            every: torch.Tensor = model(input_ids=ids, use_cache=False).logits[mask]
    except (TypeError, IndexError, ValueError, RuntimeError):
        return False
    finally:
        model.train(was_training)
    return some.shape == every.shape and torch.allclose(some.float(), every.float(), rtol=1e-2, atol=1e-3)
