"""What a training row may look like, and what is wrong with one that does not.

Three shapes: a chat (`messages`), `prompt` with `completion`, or `text`. Other fields are kept and ignored.
"""

from __future__ import annotations

from typing import Literal

from .context import Row

Shape = Literal["messages", "prompt", "text"]

ACCEPTED = (
    "{messages: [{role, content}, ...]}, {prompt, completion} or {text}; other fields become prompt and completion "
    "through data.template, or are renamed by the transform `rename`"
)
ROLES = ("system", "developer", "user", "assistant", "tool")


def shape_of(row: Row) -> Shape | None:
    """Which shape a row has; None: none of them. `messages` goes before `prompt`, `prompt` before `text`."""
    if "messages" in row:
        return "messages"
    if "prompt" in row and "completion" in row:
        return "prompt"
    return "text" if "text" in row else None


def row_problem(row: object) -> str | None:
    """What keeps a row from being trained on, naming the field; None: nothing."""
    if not isinstance(row, dict):
        return f"a row must be an object with fields, not {type(row).__name__}"
    shape = shape_of(row)
    if shape == "messages":
        return _messages_problem(row["messages"])
    if shape == "prompt":
        return _text_problem(row, "prompt") or _text_problem(row, "completion", empty=False)
    if shape == "text":
        return _text_problem(row, "text", empty=False)
    return f"fields {', '.join(map(str, row)) or '(none)'} are no training row; accepted: {ACCEPTED}"


def _text_problem(row: Row, field: str, *, empty: bool = True) -> str | None:
    value = row[field]
    if not isinstance(value, str):
        return f"{field}: must be a string, not {shown(value)}"
    return None if value or empty else f"{field}: is empty, so there is nothing to learn"


def _messages_problem(messages: object) -> str | None:
    if problem := chat_problem(messages):
        return f"messages{problem}"
    assert isinstance(messages, list)
    if not any(message["role"] == "assistant" for message in messages):
        return "messages: has no assistant message, so there is nothing to learn"
    return None


def chat_problem(messages: object) -> str | None:
    """What keeps a value from being a chat, to be put after its field's name; None: nothing."""
    if not isinstance(messages, list) or not messages:
        return f": must be a list of {{role, content}}, not {shown(messages)}"
    for place, message in enumerate(messages):
        where = f"[{place}]"
        if not isinstance(message, dict):
            return f"{where}: must be an object {{role, content}}, not {shown(message)}"
        if message.get("role") not in ROLES:
            return f"{where}.role: must be one of {', '.join(ROLES)}, not {shown(message.get('role'))}"
        content = message.get("content")
        if not isinstance(content, str | list) and not (content is None and message.get("tool_calls")):
            return f"{where}.content: must be a string, not {shown(content)}"
    return None


def shown(value: object) -> str:
    """A value as messages show it: its type, and its beginning."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
