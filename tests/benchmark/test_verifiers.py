"""The built-in verifiers, each through its registered name."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from evsys_hydra import registry


def reward(fn_name: str, output: str, expected: Any, **params: Any) -> float:
    value = registry.verifiers.get(fn_name).target(output, expected, params)
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize(
    ("fn_name", "output", "expected", "params", "wanted"),
    [
        ("exact_match", " Paris\n", "Paris", {}, 1),
        ("exact_match", "paris", "Paris", {}, 0),
        ("exact_match", "paris", "Paris", {"ignore_case": True}, 1),
        ("exact_match", "42", 42, {}, 1),
        ("contains", "It is Paris.", "Paris", {}, 1),
        ("contains", "It is paris.", "Paris", {}, 0),
        ("contains", "It is paris.", "Paris", {"ignore_case": True}, 1),
        ("contains", "a and b", ["a", "b"], {}, 1),
        ("contains", "a", ["a", "b"], {}, 0),
        ("regex_match", "call 555-1234", r"\d{3}-\d{4}", {}, 1),
        ("regex_match", "HELLO", "hello", {}, 0),
        ("regex_match", "HELLO", "hello", {"ignore_case": True}, 1),
        ("numeric", "So 3 + 4 = 7.", 7, {}, 1),
        ("numeric", "about $1,234.50", "1234.5", {}, 1),
        ("numeric", r"\boxed{3/4} of 10", 0.75, {}, 1),
        ("numeric", "-2e3", -2000, {}, 1),
        ("numeric", "7.2", 7, {"tolerance": 0.25}, 1),
        ("numeric", "7.3", 7, {"tolerance": 0.25}, 0),
        ("numeric", "none", 7, {}, 0),
        ("numeric", r"\boxed{\frac{1}{2}}", 2, {}, 0),
        ("numeric", r"so $\boxed{-\dfrac{1}{2}}$, with 3 steps", "-1/2", {}, 1),
        ("numeric", r"2\frac{1}{2}", 2.5, {}, 1),
        ("numeric", r"\frac34", 0.75, {}, 1),
        ("numeric", r"\frac{3}{0}", 3, {}, 0),
        ("numeric", r"\frac{3}{0}", 0, {}, 0),
        ("numeric", r"\boxed{\frac{-1}{2}}", -0.5, {}, 1),
        ("numeric", r"\boxed{\frac{-1}{2}}", 2, {}, 0),
        ("numeric", "Step 3\n\\frac{1}{2}", 0.5, {}, 1),
        ("numeric", "Step 3\n\\frac{1}{2}", 3.5, {}, 0),
        ("numeric", r"\frac 12", 0.5, {}, 1),
        ("numeric", r"-2 \frac{1}{2}", -2.5, {}, 1),
        ("numeric", f"{'9' * 400}", 7, {}, 0),
        ("numeric", "1/2.5", 0.4, {}, 1),
        ("numeric", "1/0", 7, {}, 0),
    ],
)
def test_short_answers(fn_name: str, output: str, expected: Any, params: dict[str, Any], wanted: float) -> None:
    assert reward(fn_name, output, expected, **params) == wanted


def test_an_expected_value_that_cannot_be_compared_is_an_error() -> None:
    with pytest.raises(ValueError, match="no number"):
        reward("numeric", "7", "seven")
    with pytest.raises(ValueError, match="no tool call"):
        reward("tool_calls_match", "{}", "none")


CLICK = {"tool": "browser", "action": "click", "ref": "e12", "coordinate": [100, 200]}


@pytest.mark.parametrize(
    ("changes", "params", "wanted"),
    [
        ({}, {}, 1),
        ({"thought": "because"}, {}, 1),
        ({"coordinate": [125, 175]}, {}, 1),
        ({"coordinate": [126, 200]}, {}, 0),
        ({"coordinate": [126, 200]}, {"coordinate_tolerance": 30}, 1),
        ({"coordinate": None}, {}, 0),
        ({"coordinate": [100]}, {}, 0),
        ({"ref": "e13"}, {}, 0),
        ({"action": "type"}, {}, 0),
        ({"tool": "shell"}, {}, 0),
        ({"name": "Submit"}, {}, 1),
    ],
)
def test_actions(changes: dict[str, Any], params: dict[str, Any], wanted: float) -> None:
    assert reward("tool_calls_match", json.dumps({**CLICK, **changes}), CLICK, **params) == wanted


def test_text_counts_only_if_expected_and_other_fields_if_named() -> None:
    expected = {"tool": "browser", "action": "goto", "url": "a.org"}
    other = json.dumps({"tool": "browser", "action": "goto", "url": "b.org", "text": "x"})
    assert reward("tool_calls_match", other, expected) == 1
    assert reward("tool_calls_match", other, {**expected, "text": "y"}) == 0
    assert reward("tool_calls_match", other, expected, fields=["url"]) == 0


F = {"name": "f", "arguments": {"x": 1}}
G = {"name": "g", "arguments": {"city": "Paris", "unit": "C"}}
SMALL_G = {"name": "g", "arguments": {"city": "paris", "unit": "C"}}
ANY = {"name": "f", "arguments": {"x": 2}}
OPENAI_F = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}


@pytest.mark.parametrize(
    ("output", "expected", "params", "wanted"),
    [
        (json.dumps(F), F, {}, 1),
        (json.dumps(F), json.dumps(F), {}, 1),
        (f"Let me see.\n<tool_call>\n{json.dumps(F)}\n</tool_call>", F, {}, 1),
        (f"<tool_call>{json.dumps(F)}", F, {}, 1),
        (f"```json\n{json.dumps(F)}\n```", F, {}, 1),
        (f"I [think] {{so}}: {json.dumps(F)}", F, {}, 1),
        (json.dumps({"tool_calls": [OPENAI_F]}), F, {}, 1),
        (json.dumps({"name": "f", "arguments": {"x": True}}), F, {}, 0),
        (json.dumps({"name": "f", "arguments": {"x": 1, "y": 2}}), F, {}, 0),
        (json.dumps({"name": "f", "arguments": {"x": 1, "y": 2}}), F, {"optional": ["y"]}, 1),
        (json.dumps({"name": "g", "arguments": {"city": "Paris"}}), G, {}, 0),
        (json.dumps({"name": "g", "arguments": {"city": "Paris"}}), G, {"optional": ["unit"]}, 1),
        (json.dumps(SMALL_G), G, {}, 0),
        (json.dumps(SMALL_G), G, {"allowed_values": {"city": ["paris"]}}, 1),
        (f"<tool_call>{json.dumps(G)}</tool_call><tool_call>{json.dumps(F)}</tool_call>", [F, G], {}, 1),
        (json.dumps([G, F]), [F, G], {}, 1),
        (json.dumps([F, F]), [F, G], {}, 0),
        (json.dumps({"name": "f", "arguments": {"x": [True]}}), {"name": "f", "arguments": {"x": [1]}}, {}, 0),
        (json.dumps({"name": "f", "arguments": {"x": {"y": 1.0}}}), {"name": "f", "arguments": {"x": {"y": 1}}}, {}, 1),
        (json.dumps({"name": "f", "arguments": {"x": "auto"}}), F, {"allowed_values": {"x": ["auto", True]}}, 1),
        (json.dumps({"name": "f", "arguments": {"x": True}}), F, {"allowed_values": {"x": ["auto", True]}}, 1),
        (json.dumps({"name": "f", "arguments": {"x": 1000}}), F, {"allowed_values": {"x": [True, 1000]}}, 1),
        (json.dumps({"name": "f", "arguments": {"x": None}}), F, {"allowed_values": {"x": [None]}}, 1),
        (json.dumps({"name": "f", "arguments": {"x": 0}}), F, {"allowed_values": {"x": [False]}}, 0),
        (json.dumps([ANY, F]), [F, ANY], {"allowed_values": {"x": [1, 2]}}, 1),
        ("x[i], " * 300 + json.dumps(F), F, {}, 1),
        (json.dumps([F, G]), [F], {}, 0),
        (json.dumps(F), [F, G], {}, 0),
        ("no call", F, {}, 0),
        ('{"name": "f", "arguments": "not json"}', F, {}, 0),
    ],
)  # fmt: skip
def test_function_calls(output: str, expected: Any, params: dict[str, Any], wanted: float) -> None:
    assert reward("tool_calls_match", output, expected, **params) == wanted


@pytest.mark.parametrize("given", [[1, 2], "[1]", 7, "x"])
def test_arguments_that_cannot_be_read_are_not_none(given: Any) -> None:
    nothing = {"name": "f", "arguments": {}}
    assert reward("tool_calls_match", json.dumps({"name": "f", "arguments": given}), nothing) == 0
    assert reward("tool_calls_match", json.dumps({"name": "f"}), nothing) == 1
    assert reward("tool_calls_match", json.dumps({"name": "f", "input": {"x": 1}}), nothing) == 0
    assert reward("tool_calls_match", json.dumps({"name": "f", "input": {"x": 1}}), F) == 1


@pytest.mark.parametrize("given", ["12", [True, 2], {"0": 1, "1": 2}, ["1", "2"]])
def test_a_coordinate_is_a_list_of_numbers(given: Any) -> None:
    wanted = {"tool": "browser", "action": "click", "coordinate": [1, 2]}
    assert reward("tool_calls_match", json.dumps({**wanted, "coordinate": given}), wanted) == 0


def test_tasks_made_by_code_may_have_tuples() -> None:
    wanted = {"tool": "browser", "action": "click", "coordinate": (1, 2), "keys": ("a", "b")}
    assert reward("tool_calls_match", json.dumps(wanted), wanted, fields=["keys"]) == 1
    assert reward("tool_calls_match", json.dumps({**wanted, "keys": ["b"]}), wanted, fields=["keys"]) == 0


def test_an_argument_named_coordinate_may_be_no_point() -> None:
    call = {"name": "move", "arguments": {"coordinate": "north"}}
    assert reward("tool_calls_match", json.dumps(call), call) == 1
    assert reward("tool_calls_match", json.dumps({**call, "arguments": {"coordinate": "south"}}), call) == 0


def test_hostile_answers_are_read_in_bounded_time() -> None:
    for endless in ("0." + "3" * 50_000, "\n" * 50_000, "1,234," * 10_000, "\\frac{" * 10_000, "\\boxed{" * 10_000):
        started = time.monotonic()
        assert reward("numeric", endless, 7) == 0
        assert time.monotonic() - started < 2
    assert reward("tool_calls_match", "[" * 900 + "]" * 900, F) == 0
    assert reward("tool_calls_match", '{"name": "f", "arguments": {"x": ' + "1" * 5000 + "}}", F) == 0
    assert reward("tool_calls_match", '{"name": "f", "arguments": "' + "1" * 5000 + '"}', F) == 0
    assert reward("tool_calls_match", "{" * 200_000, F) == 0
    assert reward("tool_calls_match", "[" * 200_000, F) == 0
    assert reward("tool_calls_match", '[{"x": 1}, ' * 20_000, F) == 0
    assert reward("tool_calls_match", json.dumps([F] * 40), [*[F] * 39, G]) == 0


def test_math_answers() -> None:
    pytest.importorskip("math_verify")
    assert reward("math_answer", r"The answer is $\frac{1}{2}$.", "0.5") == 1
    assert reward("math_answer", r"\boxed{x^2 + 2x + 1}", "$(x+1)^2$") == 1
    assert reward("math_answer", r"$\frac{1}{3}$", "0.5") == 0
