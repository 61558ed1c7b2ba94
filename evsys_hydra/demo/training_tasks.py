"""The demo's tasks to train on by trial and reward: those of the demo benchmark, on words that it does not use."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..config import KindConfig
from ..registry import register_dataset
from .benchmark import draft
from .families import FAMILIES, FamilyName, draw_problems
from .tasks import Task, number


class DemoTrainingTasks(KindConfig):
    """Settings of the demo's tasks to train on."""

    kind: Literal["demo_tasks"] = "demo_tasks"
    n: int = Field(default=2000, ge=1, le=4000)
    """Tasks."""
    seed: int = 0
    """Which ones; independent of the arm's seed, so that replicates share their data."""
    families: list[FamilyName] | None = Field(default=None, min_length=1)
    """Only these families, in turns; None: all five."""


@register_dataset("demo_tasks", config=DemoTrainingTasks)
def demo_training_tasks(config: DemoTrainingTasks) -> list[Task]:
    """Rows as they stand in a benchmark's tasks.jsonl: instruction, verifier, task_id, metadata."""
    problems = draw_problems(f"demo data {config.seed}", config.families or FAMILIES, held_out=False)
    return number("train", "exact_match", map(draft, problems), config.n)
