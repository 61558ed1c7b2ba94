"""Log-likelihoods of choices: each prompt is read once, and its choices are read against its cache.

Models whose cache cannot be handed on (sliding windows, recurrent states) read the prompt again with each choice.
Logits are computed where a choice's tokens are predicted and nowhere else; log-probabilities are float32 whatever the
model's precision, and added up in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .batch import chunks, read_prompts, tokens_at_a_time
from .cache import repeat_rows
from .choices import Encoded
from .prompts import common_prefix
from .rows import Prefix

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def read_against_cache(
    model: PreTrainedModel, batch: Sequence[Encoded], prefix: Prefix | None, pad: int, most: int
) -> tuple[list[list[float]], int]:
    """The log-likelihood of each choice of each prompt, and how many rows were in the model at a time.

    Args:
        prefix: what all prompts begin with; None: computed with each.
        pad: any token id.
        most: rows at a time.

    What a prompt's choices begin with in common (a delimiter, often) is read with the prompt.
    """
    import torch

    device = model.device
    with torch.no_grad():  # not inference_mode: a live model must still be trainable afterwards
        alike = [common_prefix(each.choices) for each in batch]
        prompts = [each.prompt + each.choices[0][:count] for each, count in zip(batch, alike, strict=True)]
        read = read_prompts(model, prompts, prefix, pad, device, keep=1 + max(alike))
        # The last position predicts the first token in which the choices differ, those before it what they share.
        common = _padded([each.choices[0][:count] for each, count in zip(batch, alike, strict=True)], pad, left=True)
        start = _summed(read.logits[:, :-1], common, device) if max(alike) else torch.zeros(len(batch)).double()
        choices = [choice[count:] for each, count in zip(batch, alike, strict=True) for choice in each.choices]
        owners = torch.tensor([row for row, each in enumerate(batch) for _ in each.choices], device=device)
        firsts = torch.tensor([choice[0] for choice in choices], device=device)
        last = read.logits[:, -1]
        sums = start.to(device)[owners] + (last[owners, firsts] - last.logsumexp(-1)[owners]).double()
        # All but the last token of each choice is still to be read.
        longer = [place for place, choice in enumerate(choices) if len(choice) > 1]
        longer.sort(key=lambda place: -len(choices[place]))
        used = len(batch)
        while longer:
            lengths = [len(choices[place]) - 1 for place in longer[:most]]
            part = longer[: chunks(lengths, tokens_at_a_time(device))[0][1]]
            used = max(used, len(part))
            ids, _ = _padded([choices[place][:-1] for place in part], pad)
            rows = owners[part]
            mask = torch.cat([read.mask[rows], read.mask.new_ones(ids.shape)], 1)
            logits = model(
                input_ids=torch.from_numpy(ids).to(device),
                attention_mask=None if mask.all() else mask,  # padding on the right comes too late to be seen
                position_ids=read.last[rows] + torch.arange(1, ids.shape[1] + 1, device=device),
                past_key_values=repeat_rows(read.cache, rows, model),
                use_cache=True,
            ).logits
            sums[part] += _summed(logits, _padded([choices[place][1:] for place in part], pad), device)
            longer = longer[len(part) :]
    values = iter(sums.tolist())
    return [[next(values) for _ in each.choices] for each in batch], used


def read_whole(model: PreTrainedModel, batch: Sequence[Encoded], pad: int, most: int) -> tuple[list[list[float]], int]:
    """As `read_against_cache`, the prompt read again for each choice: padded on the right, which no token sees."""
    import torch

    device, used = model.device, 0
    found = [dict[int, float]() for _ in batch]
    # Choices of one token need no reading but the prompt's, which the first of them stands for.
    single = [[place for place, choice in enumerate(each.choices) if len(choice) == 1] for each in batch]
    to_read = [
        (row, place)
        for row, each in enumerate(batch)
        for place in range(len(each.choices))
        if place not in single[row][1:]
    ]
    texts = {(row, place): batch[row].prompt + batch[row].choices[place][:-1] for row, place in to_read}
    to_read.sort(key=lambda which: -len(texts[which]))
    with torch.no_grad():
        while to_read:
            lengths = [len(texts[which]) for which in to_read[:most]]
            part = to_read[: chunks(lengths, tokens_at_a_time(device))[0][1]]
            used = max(used, len(part))
            ids, _ = _padded([texts[which] for which in part], pad)
            keep = ids.shape[1] + 1 - min(len(batch[row].prompt) for row, _ in part)
            logits = model(input_ids=torch.from_numpy(ids).to(device), use_cache=False, logits_to_keep=keep).logits
            for line, (row, place) in enumerate(part):
                start = len(batch[row].prompt) - 1 - (ids.shape[1] - keep)
                for same in single[row] if place in single[row] else [place]:
                    choice = batch[row].choices[same]
                    own = logits[line : line + 1, start : start + len(choice)]
                    found[row][same] = float(_summed(own, _padded([choice], pad), device))
            to_read = to_read[len(part) :]
    return [[values[place] for place in range(len(values))] for values in found], used


def _padded(
    rows: Sequence[Sequence[int]], pad: int, left: bool = False
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.int64]], np.ndarray[tuple[int, int], np.dtype[np.bool_]]]:
    """Token ids [rows, tokens], and where they are no padding."""
    shape = len(rows), max(map(len, rows))
    ids, real = np.full(shape, pad, np.int64), np.zeros(shape, np.bool_)
    for line, tokens in enumerate(rows):
        span = slice(shape[1] - len(tokens), None) if left else slice(len(tokens))
        ids[line, span], real[line, span] = tokens, True
    return ids, real


def _summed(
    logits: torch.Tensor,
    targets: tuple[np.ndarray[tuple[int, int], np.dtype[np.int64]], np.ndarray[tuple[int, int], np.dtype[np.bool_]]],
    device: torch.device,
) -> torch.Tensor:
    """Each row's sum of the log-probabilities [rows] that logits [rows, tokens, vocabulary] give these tokens."""
    import torch

    ids, real = (torch.from_numpy(each).to(device) for each in targets)
    logits = logits.float()
    values = logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
    return values.masked_fill(~real, 0.0).sum(-1, dtype=torch.float64)
