"""Preference rows: a prompt with a chosen and a rejected answer, to two token sequences.

`prompt` is a string or a chat (`messages` is accepted too); the answers are strings or lists of messages. Without a
prompt both answers are whole chats that begin alike. Trained on is the last assistant turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import DataError
from .chat import Tokens
from .context import Row
from .encoding import EncodingOptions, Render, encode_rows
from .shapes import chat_problem, shown

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ACCEPTED = "{prompt, chosen, rejected}, {messages, chosen, rejected}, or {chosen, rejected} with whole chats"
SIDES = ("chosen", "rejected")


class Pair(NamedTuple):
    """The two sequences of one preference."""

    chosen: Tokens
    rejected: Tokens

    @property
    def n_tokens(self) -> int:
        """Tokens of both, prompts included."""
        return len(self.chosen.ids) + len(self.rejected.ids)


@dataclass
class Pairs:
    """The training pairs, and how many were left out."""

    pairs: list[Pair] = field(default_factory=list)
    n_rows: int = 0
    n_dropped: int = 0
    """Left out: one of the two is too long."""


def pair_problem(row: object) -> str | None:
    """What keeps a row from being a preference, naming the field; None: nothing."""
    if not isinstance(row, dict):
        return f"a row must be an object with fields, not {type(row).__name__}"
    for side in SIDES:
        if side not in row:
            return f"{side}: is missing (fields: {', '.join(map(str, row)) or 'none'}); dpo takes rows of {ACCEPTED}"
    prompt = _prompt_of(row)
    if prompt is not None and not isinstance(prompt, str) and (problem := chat_problem(prompt)):
        return f"{'messages' if 'messages' in row else 'prompt'}{problem}"
    return next((problem for side in SIDES if (problem := _answer_problem(row, side, prompt))), None) or _same(row)


def _answer_problem(row: Row, side: str, prompt: object) -> str | None:
    answer = row[side]
    if isinstance(answer, str):
        if prompt is None:
            return f"{side}: is a string, so the row needs a prompt (or messages) before it"
        return None if answer else f"{side}: is empty"
    if problem := chat_problem(answer):
        return f"{side}{problem}"
    return None if answer[-1]["role"] == "assistant" else f"{side}: must end with an assistant message"


def _same(row: Row) -> str | None:
    return f"chosen and rejected are the same: {shown(row['chosen'])}" if row["chosen"] == row["rejected"] else None


def _prompt_of(row: Row) -> Any:
    return row["messages"] if "messages" in row else row.get("prompt")


def encode_pairs(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, render: Render, max_length: int | None
) -> Pairs:
    """Encode all rows.

    Raises:
        DataError: rows that the tokenizer cannot encode, or none left.
    """
    options = EncodingOptions(loss_on="last", render=render)
    chosen, rejected = (encode_rows([_whole(row, side) for row in rows], tokenizer, options).examples for side in SIDES)
    if not len(chosen) == len(rejected) == len(rows):
        raise DataError(
            f"{len(rows)} preferences gave {len(chosen)} chosen and {len(rejected)} rejected sequences: some answers "
            "have no token to train on"
        )
    pairs = Pairs(n_rows=len(rows))
    for pair in map(Pair, chosen, rejected):
        if max_length is None or max(len(side.ids) for side in pair) <= max_length:
            pairs.pairs.append(pair)
        else:
            pairs.n_dropped += 1
    if not pairs.pairs:
        raise DataError(f"none of the {len(rows)} preferences fits into algorithm.max_length={max_length} tokens")
    return pairs


def _whole(row: Row, side: str) -> Row:
    """One side of a preference as a row of supervised fine-tuning."""
    prompt, answer = _prompt_of(row), row[side]
    if isinstance(prompt, str) and isinstance(answer, str):
        return {"prompt": prompt, "completion": answer}
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt or [])
    after = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else list(answer)
    return {"messages": before + after, **({"tools": row["tools"]} if "tools" in row else {})}
