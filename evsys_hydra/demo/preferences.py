"""The demo's preferences, made by code: the tagged style `<a>X</a>` is chosen, another style of the same X rejected.

The rejected styles are drawn; contents are right on both sides, so what a model can learn from them is the style.
"""

from __future__ import annotations

import random
from itertools import islice
from typing import Literal, TypedDict

from pydantic import Field

from ..config import KindConfig
from ..registry import register_dataset
from .families import FAMILIES, STYLES, FamilyName, StyleName, draw_problems


class PreferenceRow(TypedDict):
    """One preference."""

    prompt: str
    chosen: str
    rejected: str


class DemoPreferences(KindConfig):
    """Settings of the demo's preferences."""

    kind: Literal["demo_preferences"] = "demo_preferences"
    n: int = Field(default=4000, ge=1)
    """Preferences."""
    seed: int = 0
    """Which ones; independent of the arm's seed, so that replicates share their data."""
    families: list[FamilyName] | None = Field(default=None, min_length=1)
    """Only these families, in turns; None: all five."""


@register_dataset("demo_preferences", config=DemoPreferences)
def demo_preferences(config: DemoPreferences) -> list[PreferenceRow]:
    """The rows; their words are disjoint from the demo benchmark's for every seed."""
    problems = draw_problems(f"demo data {config.seed}", config.families or FAMILIES, held_out=False)
    rng = random.Random(f"demo preferences {config.seed}")
    others: list[StyleName] = [style for style in STYLES if style != "tag"]
    return [
        {
            "prompt": problem.prompt,
            "chosen": problem.answer_in("tag"),
            "rejected": problem.answer_in(rng.choice(others)),
        }
        for problem in islice(problems, config.n)
    ]
