"""Rows with fields of their own become prompt and completion: `{field}` is replaced by the row's field.

Only `{name}` of a field is replaced, so JSON braces in a template stay as they are; a dotted name reaches into objects.
"""

from __future__ import annotations

import re

import orjson

from ..config import DataTemplate
from .context import Row

FIELD = re.compile(r"\{([A-Za-z_][\w .-]*)\}")


class MissingField(Exception):
    """A template names a field that a row does not have."""


def apply_template(template: DataTemplate, row: Row) -> Row:
    """The row with prompt and completion made from its fields; with a system message it becomes a chat.

    Raises:
        MissingField: naming the field of the template and the row's fields.
    """
    prompt = fill(template.prompt, row, "prompt")
    completion = fill(template.completion, row, "completion")
    others = {key: value for key, value in row.items() if key not in ("messages", "prompt", "completion", "text")}
    if template.system is None:
        return {**others, "prompt": prompt, "completion": completion}
    messages = [
        {"role": "system", "content": fill(template.system, row, "system")},
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": completion},
    ]
    return {**others, "messages": messages}


def fill(text: str, row: Row, part: str) -> str:
    """A template's text with the row's fields put in.

    Raises:
        MissingField
    """

    def value_of(match: re.Match[str]) -> str:
        name = match[1]
        value: object = row.get(name)
        if name not in row and "." in name:
            value = row
            for step in name.split("."):
                value = value.get(step) if isinstance(value, dict) else None
        if value is None:
            raise MissingField(
                f"data.template.{part} names the field {{{name}}}, which this row lacks; its fields: {', '.join(row)}"
            )
        return as_text(value)

    return FIELD.sub(value_of, text)


def as_text(value: object) -> str:
    """A field's value as it stands in a prompt: strings as they are, lists and objects as JSON."""
    if isinstance(value, str):
        return value
    return orjson.dumps(value, default=str).decode() if isinstance(value, dict | list) else str(value)
