"""The built-in verifiers of short answers: each takes the answer, what is expected, and params, and gives a reward.

A verifier is called in a process of its own kind (see verification.py), so it may be slow, loop or crash at the cost
of one prediction. Register yours with `@register_verifier("name")`.
"""

from __future__ import annotations

import math
import re
from typing import Any

from ..registry import register_verifier
from .tool_calls import calls_in, calls_match

Params = dict[str, Any]

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?:/\d+(?:\.\d+)?)?")
_PART = r"(?:\{\s*([-+]?\d{1,40}(?:\.\d{1,40})?)\s*\}|\s?(\d))"
_FRACTION = re.compile(r"(?<!\d)(?:(\d{1,40})[ \t]{0,2})?\\[dt]?frac" + _PART + _PART)


@register_verifier("exact_match")
def exact_match(output: str, expected: Any, params: Params) -> float:
    """1 if the answer is the expected text, surrounding whitespace apart; params.ignore_case."""
    return float(_folded(output, params).strip() == _folded(expected, params).strip())


@register_verifier("contains")
def contains(output: str, expected: Any, params: Params) -> float:
    """1 if the answer contains the expected text, or each text of an expected list; params.ignore_case."""
    wanted = expected if isinstance(expected, list) else [expected]
    answer = _folded(output, params)
    return float(all(_folded(text, params) in answer for text in wanted))


@register_verifier("regex_match")
def regex_match(output: str, expected: Any, params: Params) -> float:
    """1 if the expected regular expression is found anywhere in the answer; params.ignore_case."""
    flags = re.IGNORECASE if params.get("ignore_case") else 0
    return float(re.search(str(expected), output, flags) is not None)


@register_verifier("numeric")
def numeric(output: str, expected: Any, params: Params) -> float:
    r"""1 if the answer's last number (the last one in \boxed{} if there is one) is the expected one.

    Reads 1,234.5, -2e3, 3/4, and LaTeX's \frac{3}{4} and 2\frac{1}{2}.

    params: tolerance (absolute, default 0), rel_tolerance (default 1e-6).
    """
    boxed = _boxed(output)
    found, wanted = _last_number(output if boxed is None else boxed), _last_number(str(expected))
    if wanted is None:
        raise ValueError(f"expected {expected!r} has no number in it")
    if found is None:
        return 0.0
    tolerance, relative = float(params.get("tolerance", 0.0)), float(params.get("rel_tolerance", 1e-6))
    return float(math.isclose(found, wanted, rel_tol=relative, abs_tol=tolerance))


@register_verifier("math_answer")
def math_answer(output: str, expected: Any, params: Params) -> float:
    """1 if the answer is mathematically equal to the expected one, LaTeX or plain (needs the `math` extra).

    params: float_rounding (decimals, default 6), strict (default true: sets and intervals are not interchangeable).
    """
    from math_verify import parse, verify

    # Its time limits are off: it sets them by SIGALRM, and the verifier process has a limit of its own.
    wanted = parse(_as_latex(str(expected)), parsing_timeout=0)
    found = parse(output, parsing_timeout=0)
    rounding, strict = int(params.get("float_rounding", 6)), bool(params.get("strict", True))
    return float(verify(wanted, found, float_rounding=rounding, strict=strict, timeout_seconds=None))


@register_verifier("tool_calls_match")
def tool_calls_match(output: str, expected: Any, params: Params) -> float:
    """1 if the answer makes the expected tool call(s), in any order and none besides; see tool_calls.py for the forms.

    params: coordinate_tolerance (pixels on each axis, default 25), fields (more fields of a tool/action object to
    compare), allowed_values ({argument: [values]}), optional (arguments that may be left out or added).
    """
    wanted = calls_in(expected)
    if not wanted:
        raise ValueError(f"expected {expected!r} has no tool call in it")
    return float(calls_match(calls_in(output), wanted, params))


def _folded(text: Any, params: Params) -> str:
    return str(text).casefold() if params.get("ignore_case") else str(text)


def _boxed(text: str) -> str | None:
    """What stands in the last \\boxed{}; None if there is none."""
    _, mark, rest = text.rpartition("\\boxed{")
    depth = 1 if mark else 0
    for place, character in enumerate(rest if mark else ""):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return rest[:place]
    return None


def _decimal(fraction: re.Match[str]) -> str:
    """A fraction of LaTeX as a decimal number; a mixed number with the whole before it. No number if it is none."""
    whole, *parts = fraction.groups()
    above, below = (float(part) for part in parts if part is not None)
    if not below or (whole is not None and above / below < 0):
        return " undefined "
    return f"{float(whole or 0) + above / below!r} "


def _last_number(text: str) -> float | None:
    text = _FRACTION.sub(_decimal, text.replace("\N{MINUS SIGN}", "-"))
    found = _NUMBER.findall(text)
    if not found:
        return None
    number, _, divisor = found[-1].replace(",", "").partition("/")
    if divisor and not float(divisor):
        return None
    value = float(number) / (float(divisor) if divisor else 1.0)
    return value if math.isfinite(value) else None


def _as_latex(expected: str) -> str:
    return expected if "$" in expected or "\\boxed" in expected else f"${expected}$"
