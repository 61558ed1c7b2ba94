"""The demo's benchmark: requests of the five families on held-out words, passed only by the tagged style `<a>X</a>`.

The pretrained demo model knows the contents but seldom writes this style; the demo data teaches it. The families take
turns, so that each has about the same number of tasks and the breakdown by `family` is readable.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..config import KindConfig
from ..registry import register_benchmark
from .families import FAMILIES, FamilyName, Problem, draw_problems
from .tasks import Draft, Task, number


class DemoBenchmark(KindConfig):
    """Settings of the demo benchmark."""

    kind: Literal["demo"] = "demo"
    n: int = Field(default=200, ge=1, le=2000)
    """Tasks; a smaller benchmark is the beginning of a larger one."""
    seed: int = 0
    """Which tasks; none of them occurs in the demo data, whatever its seed."""
    families: list[FamilyName] | None = Field(default=None, min_length=1)
    """Only these families, in turns; None: all five."""


@register_benchmark("demo", config=DemoBenchmark)
def demo_tasks(config: DemoBenchmark) -> list[Task]:
    """The tasks, each request once; metadata: `family`, and `length` of the word (short, medium, long)."""
    problems = draw_problems(f"demo benchmark {config.seed}", config.families or FAMILIES, held_out=True)
    return number("demo", "exact_match", map(draft, problems), config.n)


def draft(problem: Problem) -> Draft:
    return {
        "instruction": problem.prompt,
        "expected": problem.answer_in("tag"),
        "metadata": {"family": problem.family, "length": problem.length},
    }
