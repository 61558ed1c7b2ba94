"""A user's plugin with a verifier of their own: the share of the wanted number of letters, at most 1."""

from __future__ import annotations

from typing import Any

from evsys_hydra import register_verifier


@register_verifier("letters")
def letters(output: str, expected: Any, params: dict[str, Any]) -> float:
    if params.get("broken"):
        raise ValueError("no reward today")
    return min(1.0, sum(map(str.isalpha, output)) / float(expected))
