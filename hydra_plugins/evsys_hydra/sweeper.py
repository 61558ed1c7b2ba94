"""hydra/sweeper=arms: a grid whose arms are all validated before the first one starts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class ArmsSweeperConf:
    """Settings of the sweeper."""

    _target_: str = "hydra_plugins.evsys_hydra.sweeper.ArmsSweeper"
    params: dict[str, str] | None = field(default_factory=dict)


class ArmsSweeper(Sweeper):
    """Loads the real sweeper when a sweep starts, so that Hydra's plugin scan stays fast."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        from evsys_hydra.sweep import sweeper

        self._sweeper = sweeper.ArmsSweeper(max_batch_size=None, params=params)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._sweeper.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        return self._sweeper.sweep(arguments)


ConfigStore.instance().store(group="hydra/sweeper", name="arms", node=ArmsSweeperConf, provider="evsys_hydra")
