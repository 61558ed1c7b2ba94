"""The `arithmetic` benchmark: additions, subtractions and multiplications of three difficulties, made by code.

For real models: the demo model was never shown numbers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import Literal, get_args

from pydantic import Field

from ..config import KindConfig
from ..registry import register_benchmark
from .tasks import Draft, Task, number

Difficulty = Literal["easy", "medium", "hard"]
Operation = Literal["addition", "subtraction", "multiplication"]

OPERATIONS: tuple[Operation, ...] = get_args(Operation)
DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)

_DIGITS: dict[tuple[Operation, Difficulty], tuple[int, int]] = {
    ("addition", "easy"): (2, 2),
    ("addition", "medium"): (3, 3),
    ("addition", "hard"): (5, 5),
    ("subtraction", "easy"): (2, 2),
    ("subtraction", "medium"): (3, 3),
    ("subtraction", "hard"): (5, 5),
    ("multiplication", "easy"): (2, 1),
    ("multiplication", "medium"): (2, 2),
    ("multiplication", "hard"): (3, 3),
}
"""Digits of the two operands. The smallest cell, two digits by one, has 720 distinct tasks."""


class Arithmetic(KindConfig):
    """Settings of the arithmetic benchmark."""

    kind: Literal["arithmetic"] = "arithmetic"
    n: int = Field(default=180, ge=1, le=500)
    """Tasks; a smaller benchmark is the beginning of a larger one."""
    seed: int = 0
    """Which tasks."""
    operations: list[Operation] | None = Field(default=None, min_length=1)
    """Only these operations; None: all three."""
    difficulties: list[Difficulty] | None = Field(default=None, min_length=1)
    """Only these difficulties; None: all three."""


@register_benchmark("arithmetic", config=Arithmetic)
def arithmetic_tasks(config: Arithmetic) -> list[Task]:
    """The tasks, each question once; metadata: `operation` and `difficulty`."""
    cells = list(product(config.difficulties or DIFFICULTIES, config.operations or OPERATIONS))
    return number("arithmetic", "numeric", _drafts(random.Random(f"arithmetic {config.seed}"), cells), config.n)


def _drafts(rng: random.Random, cells: list[tuple[Difficulty, Operation]]) -> Iterator[Draft]:
    while True:
        for difficulty, operation in cells:
            first, second = (rng.randrange(10 ** (digits - 1), 10**digits) for digits in _DIGITS[operation, difficulty])
            sign, result = {
                "addition": ("+", first + second),
                "subtraction": ("-", first - second),
                "multiplication": ("*", first * second),
            }[operation]
            yield {
                "instruction": f"What is {first} {sign} {second}? Answer with the number only.",
                "expected": str(result),
                "metadata": {"operation": operation, "difficulty": difficulty},
            }
