"""Tool calls in a model's answer, and whether they are the expected ones.

Two shapes. An action, `{"tool": "browser", "action": "click", "ref": "e1"}`: tool and action must be the same, ref,
text and coordinate if expected, other fields do not count. A function call, `{"name": "f", "arguments": {...}}` (also
OpenAI's form and `<tool_call>` blocks): name and every argument must be the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_BLOCK = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_ACTION_FIELDS = ("ref", "text", "coordinate")
_START = re.compile(r"[{[]")
_DECODER = json.JSONDecoder()
MOST_READ = 1_000_000
"""Characters read in vain: an answer full of brackets would otherwise cost quadratic time."""


@dataclass(frozen=True)
class Call:
    """One call: `action` marks the tool/action shape, where only some fields count."""

    name: Any
    arguments: Mapping[str, Any]
    action: bool


def calls_in(answer: Any) -> list[Call]:
    """The tool calls of an answer: text with `<tool_call>` blocks or JSON in it, or an object or list of objects."""
    if not isinstance(answer, str):
        return _calls(answer)
    blocks = _BLOCK.findall(answer)
    try:
        return [call for text in (blocks or [answer]) for value in json_values(text) for call in _calls(value)]
    except RecursionError:  # an answer of hundreds of nested lists is no call
        return []


def calls_match(made: Sequence[Call], wanted: Sequence[Call], params: Mapping[str, Any]) -> bool:
    """Whether the made calls are the wanted ones, one to one, in any order."""
    if len(made) != len(wanted):
        return False
    fitting = [[place for place, call in enumerate(made) if _same(call, each, params)] for each in wanted]
    owner: dict[int, int] = {}  # place of a made call -> the wanted one that has it

    def placed(index: int, tried: set[int]) -> bool:
        """Whether a wanted call gets a made one, if need be by moving others (augmenting paths)."""
        for place in fitting[index]:
            if place not in tried:
                tried.add(place)
                if place not in owner or placed(owner[place], tried):
                    owner[place] = index
                    return True
        return False

    return all(placed(index, set()) for index in range(len(wanted)))


def _same(made: Call, wanted: Call, params: Mapping[str, Any]) -> bool:
    if made.name != wanted.name or made.action != wanted.action:
        return False
    if wanted.action:
        if made.arguments.get("action") != wanted.arguments.get("action"):
            return False
        names = {*_ACTION_FIELDS, *params.get("fields", ())}
        given = {name for name in names if wanted.arguments.get(name) is not None}
        return all(_same_value(name, made, wanted, params) for name in given)
    optional = set(params.get("optional", ()))
    missing = wanted.arguments.keys() - made.arguments.keys() - optional
    added = made.arguments.keys() - wanted.arguments.keys() - optional
    both = wanted.arguments.keys() & made.arguments.keys()
    return not missing and not added and all(_same_value(name, made, wanted, params) for name in both)


def _same_value(name: str, made: Call, wanted: Call, params: Mapping[str, Any]) -> bool:
    value, expected = made.arguments.get(name), wanted.arguments[name]
    if name == "coordinate" and _are_numbers(expected):
        return _near(value, expected, float(params.get("coordinate_tolerance", 25)))
    options = [expected, *(params.get("allowed_values", {}).get(name) or ())]
    return any(_equal(value, option) for option in options)


def _equal(one: Any, other: Any) -> bool:
    """Equality as in JSON: true is not 1, as it is in Python."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):  # tasks made by code may have tuples
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return bool(one == other)


def _near(value: Any, expected: Any, tolerance: float) -> bool:
    if not _are_numbers(value) or len(value) != len(expected):
        return False
    return all(abs(a - b) <= tolerance for a, b in zip(value, expected, strict=True))


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(each, int | float) and not isinstance(each, bool) for each in value
    )


def _calls(value: Any) -> list[Call]:
    if isinstance(value, str):
        return calls_in(value)
    if isinstance(value, list):
        return [call for item in value for call in _calls(item)]
    if not isinstance(value, dict):
        return []
    if "tool_calls" in value:
        return _calls(value["tool_calls"])
    if isinstance(value.get("function"), dict):
        return _calls(value["function"])
    if "name" in value and not {"tool", "action"} <= value.keys():  # an action may have a field of this name
        given = next((value[key] for key in ("arguments", "parameters", "input") if key in value), None)
        return [Call(value["name"], _arguments(given), action=False)]
    if "tool" in value:
        inner = _arguments(value.get("arguments", value.get("args")))
        flat = {key: item for key, item in value.items() if key not in ("tool", "arguments", "args")}
        return [Call(value["tool"], {**inner, **flat}, action=True)]
    return []


def _arguments(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):  # not JSON, or a number of thousands of digits
            return {"": value}  # arguments that cannot be read equal no others
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"": value}


def json_values(text: str) -> list[Any]:
    """The outermost JSON objects and lists in a text, in order; what is between them is skipped."""
    values: list[Any] = []
    place, left = 0, MOST_READ
    while left > 0:
        start = _START.search(text, place)
        if start is None:
            break
        place = start.start()
        try:
            value, place = _DECODER.raw_decode(text, place)
            values.append(value)
        except json.JSONDecodeError as error:
            left -= error.pos - place + error.pos // 16 + 1  # making the error counts the lines before it
            place += 1
        except (ValueError, RecursionError):  # a number of thousands of digits, hundreds of nested lists
            left -= MOST_READ // 100
            place += 1
    return values
