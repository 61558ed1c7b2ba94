"""The demo's training data, made by code: requests of the five families, every answer in the tagged style `<a>X</a>`.

Its words are disjoint from the demo benchmark's for every seed (see `families.is_held_out`).
"""

from __future__ import annotations

from itertools import islice
from typing import Literal, TypedDict

from pydantic import Field

from ..config import KindConfig
from ..registry import register_dataset
from .families import FAMILIES, FamilyName, draw_problems


class Message(TypedDict):
    """One turn of a chat."""

    role: str
    content: str


class ChatRow(TypedDict):
    """One training example."""

    messages: list[Message]


class DemoData(KindConfig):
    """Settings of the demo's training data."""

    kind: Literal["demo"] = "demo"
    n: int = Field(default=4000, ge=1)
    """Examples."""
    seed: int = 0
    """Which examples; independent of the arm's seed, so that replicates share their data."""
    families: list[FamilyName] | None = Field(default=None, min_length=1)
    """Only these families, in turns; None: all five."""


@register_dataset("demo", config=DemoData)
def demo_rows(config: DemoData) -> list[ChatRow]:
    """The chat rows: `{"messages": [user, assistant]}`, the assistant's in the tagged style."""
    problems = draw_problems(f"demo data {config.seed}", config.families or FAMILIES, held_out=False)
    return [
        {
            "messages": [
                {"role": "user", "content": problem.prompt},
                {"role": "assistant", "content": problem.answer_in("tag")},
            ]
        }
        for problem in islice(problems, config.n)
    ]
