"""Learning rate over the steps: constant, linear or cosine, each after a linear warmup.

The values are those of transformers.get_scheduler, of which a test makes sure.
"""

from __future__ import annotations

import math
from typing import Literal

ScheduleName = Literal["constant", "linear", "cosine"]


def steps_of(share: float, steps: int) -> int:
    """So many of these steps, rounded up: 55 for .55 of 100, whose product is a little more than 55 in floats."""
    return math.ceil(share * steps - 1e-9)


def warmup_steps(warmup: float, total: int) -> int:
    """Steps of warmup: below 1 a share of all steps (rounded up, but not all of them), else a number of steps."""
    return min(steps_of(warmup, total), total - 1) if warmup < 1 else int(warmup)


def multiplier(schedule: ScheduleName, step: int, *, warmup: int, total: int) -> float:
    """What the learning rate is multiplied by.

    Args:
        step: steps done before this one, from 0.
        warmup: steps of warmup.
        total: all steps.
    """
    if step < warmup:
        return step / max(1, warmup)
    if schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, total - warmup)
    if schedule == "linear":
        return max(0.0, 1.0 - done)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))
