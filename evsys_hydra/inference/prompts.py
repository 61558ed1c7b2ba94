"""Requests to token ids, as the model's chat template has them, and token ids back to text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from ..causes import describe
from .client import Request

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PromptStyle = Literal["auto", "chat", "plain"]


def tokenize(
    requests: Sequence[Request], tokenizer: PreTrainedTokenizerBase, style: PromptStyle = "auto"
) -> list[list[int] | str]:
    """Each request's prompt as token ids, or why it has none.

    Args:
        style: chat: through the chat template, the assistant's turn opened; plain: the messages' texts, a blank line
            between them; auto: chat if the tokenizer has a template.
    """
    chat = uses_chat(tokenizer, style)
    texts: dict[int, str] = {}
    prompts: list[list[int] | str] = [""] * len(requests)
    rendered: dict[tuple[tuple[tuple[str, str], ...], bool | None], str] = {}  # samples of a task share their prompt
    for index, request in enumerate(requests):
        key = tuple((message["role"], message["content"]) for message in request.messages), request.enable_thinking
        try:
            if key not in rendered:
                rendered[key] = render(request, tokenizer, chat)
            texts[index] = rendered[key]
        except Exception as error:  # a template may refuse a chat, for example one with a system message
            prompts[index] = f"the chat template failed: {describe(error)}"
    if texts:
        # A chat template writes the special tokens itself.
        ids = tokenizer(list(texts.values()), add_special_tokens=not chat)["input_ids"]
        for index, tokens in zip(texts, ids, strict=True):
            prompts[index] = list(tokens) or "the prompt is empty"
    return prompts


def uses_chat(tokenizer: PreTrainedTokenizerBase, style: PromptStyle) -> bool:
    """Whether prompts go through the chat template."""
    return style == "chat" or (style == "auto" and bool(tokenizer.chat_template))


def render(request: Request, tokenizer: PreTrainedTokenizerBase, chat: bool) -> str:
    """The prompt's text: through the chat template, or the messages' texts joined.

    Raises:
        Exception: whatever the template raises.
    """
    if not chat:
        return "\n\n".join(message["content"] for message in request.messages)
    thinking: dict[str, Any] = {} if request.enable_thinking is None else {"enable_thinking": request.enable_thinking}
    text = tokenizer.apply_chat_template(
        [dict(message) for message in request.messages], add_generation_prompt=True, tokenize=False, **thinking
    )
    return str(text)


def stop_tokens(model_ids: int | Sequence[int] | None, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Tokens that end an answer: the generation config's and the tokenizer's."""
    ids = [model_ids] if isinstance(model_ids, int) else list(model_ids or [])
    return frozenset([*ids, *([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])])


def common_prefix(prompts: Sequence[list[int]]) -> int:
    """How many tokens all prompts begin with; at least one token of each prompt is left out of it."""
    if len(prompts) < 2:
        return 0
    low, high = min(prompts), max(prompts)  # all others lie between these two, so they share their prefix
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return min(shared, min(map(len, prompts)) - 1)
