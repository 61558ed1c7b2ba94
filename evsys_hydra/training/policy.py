"""What a model says of given answers: its logits, and the log-probabilities of their tokens.

As in loss.py, sequences are padded on the right, where a causal model cannot see it, and the output head is computed
for the positions that are asked about only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .chat import Tokens
from .loss import head_takes_positions
from .stepping import Stepper, is_out_of_memory

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel


class Answers(NamedTuple):
    """The trained tokens of a few sequences, sequence by sequence, in their order.

    Args:
        logits: (n_tokens, vocabulary), float32.
        labels: (n_tokens,), the tokens themselves.
        rows: (n_tokens,), which sequence each belongs to.
    """

    logits: Tensor
    labels: Tensor
    rows: Tensor


class Policy:
    """A causal language model, or one with adapters, as a distribution over answers.

    Args:
        pad_id: any token; it is never seen nor predicted.
    """

    def __init__(self, model: PreTrainedModel, pad_id: int) -> None:
        self.model = model
        self._pad_id = pad_id
        self._device = next(model.parameters()).device
        self._head_on_labels = head_takes_positions(model)

    def answers(self, sequences: Sequence[Tokens]) -> Answers:
        """Logits of the trained tokens of some sequences."""
        import torch

        shape = (len(sequences), max(len(tokens.ids) for tokens in sequences))
        ids = np.full(shape, self._pad_id, np.int64)
        mask = np.zeros(shape, np.bool_)
        for row, tokens in enumerate(sequences):
            ids[row, : len(tokens.ids)] = tokens.ids
            mask[row, : len(tokens.ids) - 1] = tokens.trained[1:]
        labels = np.roll(ids, -1, axis=1)[mask]
        rows = np.nonzero(mask)[0]
        given, positions = torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device)
        if self._head_on_labels:
            logits = self.model(input_ids=given, use_cache=False, logits_to_keep=positions).logits
        else:
            logits = self.model(input_ids=given, use_cache=False).logits[positions]
        return Answers(
            logits.float(), torch.from_numpy(labels).to(self._device), torch.from_numpy(rows).to(self._device)
        )

    def logps(self, sequences: Sequence[Tokens], temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Log-probability of each trained token (n_tokens,), and the sequence it belongs to (n_tokens,)."""
        import torch.nn.functional as F

        logits, labels, rows = self.answers(sequences)
        return -F.cross_entropy(logits / temperature, labels, reduction="none"), rows

    def sequence_logps(self, sequences: Sequence[Tokens]) -> Tensor:
        """Log-probability of each sequence's trained tokens together: (n_sequences,)."""
        logps, rows = self.logps(sequences)
        return logps.new_zeros(len(sequences)).index_add(0, rows, logps)


def n_trained(tokens: Tokens) -> int:
    """How many tokens of a sequence are predicted and trained on."""
    return int(tokens.trained[1:].sum())


@contextmanager
def frozen(model: torch.nn.Module, autocast: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
    """What happens inside sees the model without dropout and leaves no gradients."""
    import torch

    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad(), autocast():
            yield
    finally:
        model.train(was_training)


def in_passes(
    places: Sequence[int], lengths: Sequence[int], most: int, stepper: Stepper, act: Callable[[list[int]], object]
) -> None:
    """Act on all places in passes of similar length, of at most so many places and of no more than a step's passes.

    Out of memory: again in smaller passes, which are then those of the steps too.

    Args:
        lengths: tokens of everything that a place may be.

    Raises:
        TrainingOutOfMemory: not even one place fits.
    """
    import torch

    left = sorted(places, key=lengths.__getitem__)
    while left:
        part = left[: min(most, stepper.micro_batch_size)]
        try:
            act(part)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(part) == 1 or stepper.ranks.sharded:  # a pass of all ranks cannot be tried again by one
                raise stepper.too_large(part, error) from error
        else:
            left = left[len(part) :]
            continue
        stepper.smaller(len(part))  # outside the except block, which holds on to the failed pass's tensors
