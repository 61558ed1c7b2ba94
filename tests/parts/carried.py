"""An algorithm whose checkpoint says what it was trained on, stage after stage."""

from __future__ import annotations

from pydantic import Field

from evsys_hydra import KindConfig, RunResult, TrainContext, register_algorithm


class CarriedConfig(KindConfig):
    """Settings of an algorithm that adds to what the stage before knew."""

    lr: float
    gain: float = Field(0.3, ge=0, le=1)
    """Added to the share of tasks that are answered well."""
    keeps: bool = True
    """Whether it leaves a checkpoint."""


@register_algorithm("carried", config=CarriedConfig)
def train(config: CarriedConfig, context: TrainContext) -> RunResult:
    """Skill is that of `start_from` plus `gain`; a row whose prompt is "raise" is an error."""
    if context.rows[0]["prompt"] == "raise":
        raise ValueError("this data does not work")
    before = float(context.start_from.read_text()) if context.start_from is not None else 0.1
    checkpoint = context.directory / "checkpoints" / "skill.txt"
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.write_text(str(before + config.gain))
    artifacts = {"checkpoint": str(checkpoint)} if config.keeps else {}
    return RunResult(context.run.name, metrics={"started_at": before, "lr": config.lr}, artifacts=artifacts)
