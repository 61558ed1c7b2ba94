"""Chats to token ids, with the tokens that the assistant says marked as the ones trained on.

Where the chat template marks the assistant's words (`{% generation %}`), its marks are used. Where it does not, each
assistant turn is found by rendering: what the template adds to the prompt of that turn is what the model has to say.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .context import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

LossOn = Literal["all", "last"]
GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
CHUNK = 256
"""Chats tokenized in one call: twice as fast as one by one, and the memory stays small."""


class Tokens(NamedTuple):
    """One sequence: `ids` and, of the same length, whether each token is trained on."""

    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]


def tokens_of(ids: Sequence[int], trained: Sequence[bool] | Sequence[int]) -> Tokens:
    """Tokens from plain lists."""
    return Tokens(np.asarray(ids, np.int32), np.asarray(trained, np.bool_))


def encode_chats(rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase, loss_on: LossOn = "all") -> Iterator[Tokens]:
    """Token sequences of chat rows (`messages`, and `tools` if a row has them), in order.

    A row gives one sequence; only where the template renders a turn differently once it is in the past (some drop its
    reasoning) does each assistant turn become a sequence of its own, so that every turn is trained on as it was said.

    Raises:
        DataError: the tokenizer has no chat template, or the template fails on a row.
    """
    if not tokenizer.chat_template:
        raise DataError(
            "rows are chats, but the tokenizer has no chat template: set model.chat_template to a Jinja file, or give "
            "rows of prompt and completion or text"
        )
    encode = _encode_marked if is_marked(tokenizer) else _encode_by_rendering
    for tools, group in groupby(rows, key=lambda row: row.get("tools")):
        yield from encode([row["messages"] for row in group], tools, tokenizer, loss_on)


def is_marked(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template marks the assistant's words."""
    return GENERATION_MARK.search(str(tokenizer.get_chat_template())) is not None


def _encode_marked(
    chats: list[Any], tools: Any, tokenizer: PreTrainedTokenizerBase, loss_on: LossOn
) -> Iterator[Tokens]:
    pieces = [piece for messages in chats for piece in _pieces(messages, tools, tokenizer, loss_on)]
    for start in range(0, len(pieces), CHUNK):
        chunk = pieces[start : start + CHUNK]
        encoded = _apply(
            tokenizer,
            [messages for messages, _ in chunk],
            tools=tools,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        for (_, last), ids, mask in zip(chunk, encoded["input_ids"], encoded["assistant_masks"], strict=True):
            tokens = tokens_of(ids, mask)
            yield Tokens(tokens.ids, _last_run(tokens.trained)) if last else tokens


def _pieces(
    messages: list[Any], tools: Any, tokenizer: PreTrainedTokenizerBase, loss_on: LossOn
) -> list[tuple[list[Any], bool]]:
    """The chat, or each turn with what was before it where a turn in the past is rendered differently.

    Each with whether only its last turn is trained on.
    """
    turns = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    turns = turns if loss_on == "all" else turns[-1:]
    past = [messages[: place + 1] for place in turns if place + 1 < len(messages)]
    if past:
        whole: str = _apply(tokenizer, messages, tools=tools, tokenize=False)
        if not all(whole.startswith(_apply(tokenizer, before, tools=tools, tokenize=False)) for before in past):
            return [(messages[: place + 1], True) for place in turns]
    return [(messages, loss_on == "last")]


def _last_run(trained: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Only the last unbroken run of true values."""
    places = np.flatnonzero(trained)
    kept = np.zeros_like(trained)
    if places.size:
        before = np.flatnonzero(~trained[: places[-1]])
        kept[before[-1] + 1 if before.size else 0 : places[-1] + 1] = True
    return kept


def _encode_by_rendering(
    chats: list[Any], tools: Any, tokenizer: PreTrainedTokenizerBase, loss_on: LossOn
) -> Iterator[Tokens]:
    for messages in chats:
        turns = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
        if loss_on == "last":
            turns = turns[-1:]
        rendered = [_Turn(tokenizer, messages, place, tools) for place in turns]
        whole = rendered[-1]
        if all(whole.text.startswith(turn.text) for turn in rendered):
            yield _tokenize(tokenizer, whole.text, [turn.span for turn in rendered])
        else:
            for turn in rendered:
                yield _tokenize(tokenizer, turn.text, [turn.span])


class _Turn:
    """One assistant turn rendered with everything before it.

    `text` ends with the turn; `span` is the part of it, in characters, that the model has to say: what follows the
    prompt as it is given in generation, up to the end-of-turn token (white space after that token is the template's).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, messages: list[Any], place: int, tools: Any) -> None:
        self.text: str = _apply(tokenizer, messages[: place + 1], tools=tools, tokenize=False)
        stripped = self.text.rstrip()
        ends_with_token = any(stripped.endswith(token) for token in tokenizer.all_special_tokens)
        start = self._start(tokenizer, messages[:place], tools)
        self.span = (start, len(stripped) if ends_with_token else len(self.text))

    def _start(self, tokenizer: PreTrainedTokenizerBase, before: list[Any], tools: Any) -> int:
        """Where the generation prompt ends, or else (it is none of the turn, or nothing was asked) the turn's header:
        what the template writes before any content."""
        if before:
            prompt: str = _apply(tokenizer, before, tools=tools, tokenize=False, add_generation_prompt=True)
            if self.text.startswith(prompt):
                return len(prompt)
            closed: str = _apply(tokenizer, before, tools=tools, tokenize=False)
            _warn_once(prompt[_common_prefix(prompt, closed) :])
        first, second = (
            _apply(tokenizer, [*before, {"role": "assistant", "content": content}], tools=tools, tokenize=False)
            for content in ("A", "B")
        )
        return _common_prefix(first[: _common_prefix(first, second)], self.text)


@cache
def _warn_once(prompt: str) -> None:
    log.warning(
        "The chat template ends a generation prompt with %r, but does not write that into the assistant's turns: they "
        "are trained on as they are rendered, from their header on.",
        prompt,
    )


def _common_prefix(a: str, b: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _tokenize(tokenizer: PreTrainedTokenizerBase, text: str, spans: list[tuple[int, int]]) -> Tokens:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    trained = [any(start <= begin < end for start, end in spans) for begin, _ in offsets]
    return tokens_of(encoded["input_ids"], trained)


def _apply(tokenizer: PreTrainedTokenizerBase, chats: list[Any], **arguments: Any) -> Any:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(chats, **arguments)
    except (TemplateError, TypeError) as error:
        chat = chats[0] if chats and isinstance(chats[0], list) else chats
        raise DataError(f"the chat template fails ({error}) on the chat {str(chat)[:300]}") from error
