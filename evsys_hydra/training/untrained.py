"""`none`: trains nothing. The checkpoint is the model itself, which is how the base model becomes an arm."""

from __future__ import annotations

from typing import ClassVar, Literal

from ..config import KindConfig
from ..models import model_source
from ..registry import register_algorithm
from ..results import RunResult
from .context import TrainContext


class UntrainedConfig(KindConfig):
    """Settings of `none`: there are none."""

    in_processes: ClassVar[bool] = True
    kind: Literal["none"] = "none"


@register_algorithm("none", config=UntrainedConfig)
def train(config: UntrainedConfig, context: TrainContext) -> RunResult:
    """Give back the model, or the checkpoint to start from, untouched."""
    start = context.start_from
    checkpoint = str(start.resolve()) if start is not None else model_source(context.run.model).name
    return RunResult(
        run_id=context.run.name,
        metrics={"steps": 0.0, "tokens": 0.0, "train_seconds": 0.0},
        artifacts={"checkpoint": checkpoint},
        extras={"steps": 0, "train_seconds": 0.0},
    )
