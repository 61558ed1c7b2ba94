"""The `wandb` tracker: Weights & Biases, online or in its offline files (WANDB_MODE=offline, then `wandb sync`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..config import KindConfig
from ..registry import register_tracker
from .protocol import ArmFacts, Point, Tracker, Value

if TYPE_CHECKING:
    from wandb import Run


class WandbConfig(KindConfig):
    """Weights & Biases. The key is read from WANDB_API_KEY."""

    kind: Literal["wandb"] = "wandb"
    project: str | None = None
    """W&B project; null: WANDB_PROJECT, else the experiment's name."""
    entity: str | None = None
    """Team or user; null: WANDB_ENTITY, else your default one."""
    mode: Literal["online", "offline"] | None = None
    """offline: files in WANDB_DIR (default ./wandb), sent later by `wandb sync`; null: WANDB_MODE, else online."""


class WandbRun:
    """One arm as a W&B run; it stays open until the arm ends."""

    def __init__(self, run: Run, id: str) -> None:
        self.id = id
        self._run = run

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self._run.log(dict(point.values), step=point.step)

    def end(self, state: Literal["completed", "failed"], facts: Mapping[str, Value]) -> None:
        self._run.summary.update(dict(facts))
        self._run.finish(exit_code=0 if state == "completed" else 1)


class WandbTracker:
    """Opens runs of one project; nothing but what the record holds is sent."""

    def __init__(self, config: WandbConfig) -> None:
        import wandb

        self._wandb, self._config = wandb, config

    def open(self, arm: ArmFacts, known: str | None) -> WandbRun:
        quiet = self._wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            save_code=False,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
        run = self._wandb.init(
            entity=self._config.entity,
            project=self._config.project or self._wandb.Settings().project or arm.experiment,
            id=arm.id,
            name=arm.name,
            group=arm.group,
            notes=arm.hypothesis,
            tags=list(dict.fromkeys(tag[:64] for tag in arm.tags)),
            config={**arm.config, "evsys_experiment": arm.experiment_id},
            mode=self._config.mode,
            resume="allow",
            reinit="create_new",
            settings=quiet,
        )
        return WandbRun(run, arm.id)


@register_tracker("wandb", config=WandbConfig)
def open_wandb(config: WandbConfig, experiment: Path) -> Tracker:
    """The tracker that the settings name."""
    return WandbTracker(config)
