"""Rows to token sequences: what the model sees, and which of it is trained on.

Chats train on what the assistant says, prompt/completion on the completion, text on everything. A sequence that is
too long is treated by a stated policy and counted. `marked_examples` shows the result to a person.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import DataError
from .chat import CHUNK, LossOn, Tokens, encode_chats, tokens_of
from .context import Row
from .shapes import shape_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TooLong = Literal["drop", "cut_end", "cut_start", "error"]
Render = Literal["auto", "chat", "text"]
OPEN, CLOSE = "⟦", "⟧"


@dataclass(frozen=True)
class EncodingOptions:
    """How rows are encoded; the fields are SFTConfig's."""

    loss_on: LossOn = "all"
    render: Render = "auto"
    max_length: int | None = None
    too_long: TooLong = "drop"


@dataclass
class Encoded:
    """The training sequences, and what happened to those that were too long."""

    examples: list[Tokens] = field(default_factory=list)
    n_rows: int = 0
    n_truncated: int = 0
    """Cut to max_length."""
    n_dropped: int = 0
    """Left out: too long, or with nothing to train on."""

    @property
    def n_tokens(self) -> int:
        """All tokens of the examples, prompts included."""
        return sum(len(example.ids) for example in self.examples)

    @property
    def n_trained_tokens(self) -> int:
        """Tokens that the loss is taken on; a sequence's first token cannot be predicted."""
        return sum(int(example.trained[1:].sum()) for example in self.examples)


def encode_rows(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, options: EncodingOptions) -> Encoded:
    """Encode all rows.

    Raises:
        DataError: rows that the tokenizer cannot encode, one that is too long under `too_long: error`, or none left.
    """
    encoded = Encoded(n_rows=len(rows))
    for tokens in _sequences(rows, tokenizer, options):
        kept = _fit(tokens, options, encoded)
        if kept is None or not kept.trained[1:].any():
            encoded.n_dropped += 1
        else:
            encoded.examples.append(kept)
    if not encoded.examples:
        raise DataError(
            f"none of the {len(rows)} rows can be trained on: {encoded.n_dropped} sequences were too long "
            f"(max_length {options.max_length}, too_long {options.too_long!r}) or had no token to train on"
        )
    return encoded


def marked_examples(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    n: int,
    options: EncodingOptions | None = None,
) -> list[str]:
    """The first n sequences as text, special tokens included, with what is trained on between ⟦ and ⟧."""
    options = options or EncodingOptions()
    shown = []
    for tokens in _sequences(rows[:n], tokenizer, options):
        kept = _fit(tokens, options, Encoded())
        if kept is None:
            shown.append(f"(dropped: {len(tokens.ids)} tokens are more than max_length {options.max_length})")
        else:
            shown.append(mark(kept, tokenizer))
    return shown[:n]


def mark(tokens: Tokens, tokenizer: PreTrainedTokenizerBase) -> str:
    """One sequence as text, with what is trained on between ⟦ and ⟧."""
    edges = np.flatnonzero(np.diff(tokens.trained.astype(np.int8), prepend=0, append=0))
    bounds = [0, *edges.tolist(), len(tokens.ids)]
    parts = [str(tokenizer.decode(tokens.ids[a:b].tolist())) for a, b in pairwise(bounds)]
    return "".join(f"{OPEN}{part}{CLOSE}" if place % 2 else part for place, part in enumerate(parts))


def _sequences(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, options: EncodingOptions) -> Iterator[Tokens]:
    """Token sequences in the rows' order; neighbours of one shape are tokenized together."""
    as_chat = options.render == "chat" or (options.render == "auto" and bool(tokenizer.chat_template))
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        shapes = {shape_of(row) for row in chunk}
        if shapes == {"prompt"} and as_chat:
            chunk = [_as_chat(row) for row in chunk]
            shapes = {"messages"}
        if shapes == {"messages"}:
            yield from encode_chats(chunk, tokenizer, options.loss_on)
        elif len(shapes) == 1:
            yield from (_encode_text(row, tokenizer) for row in chunk)
        else:
            for row in chunk:
                yield from _sequences([row], tokenizer, options)


def _as_chat(row: Row) -> Row:
    return {
        "messages": [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["completion"]},
        ]
    }


def _encode_text(row: Row, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """Text trains on everything; a completion is tokenized apart from its prompt, as it is in generation.

    The end-of-text token is added and trained on, so that the model learns to stop.
    """
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    if shape_of(row) == "text":
        ids = tokenizer(row["text"])["input_ids"]
        ids = ids if ids[-1:] == end else ids + end
        return tokens_of(ids, [True] * len(ids))
    prompt = tokenizer(row["prompt"])["input_ids"]
    if prompt and prompt[-1:] == end and not row["prompt"].endswith(tokenizer.eos_token):
        prompt = prompt[:-1]  # some tokenizers end every text with it
    completion = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
    completion = completion if completion[-1:] == end else completion + end
    return tokens_of(prompt + completion, [False] * len(prompt) + [True] * len(completion))


def _fit(tokens: Tokens, options: EncodingOptions, encoded: Encoded) -> Tokens | None:
    longest = options.max_length
    if longest is None or len(tokens.ids) <= longest:
        return tokens
    if options.too_long == "error":
        raise DataError(
            f"a sequence has {len(tokens.ids)} tokens, more than algorithm.max_length={longest}; it starts with "
            "the tokens " + str(tokens.ids[:20].tolist()) + ". Raise max_length, or choose too_long: drop, cut_end or "
            "cut_start"
        )
    if options.too_long == "drop":
        return None
    encoded.n_truncated += 1
    part = slice(None, longest) if options.too_long == "cut_end" else slice(-longest, None)
    return Tokens(tokens.ids[part], tokens.trained[part])
