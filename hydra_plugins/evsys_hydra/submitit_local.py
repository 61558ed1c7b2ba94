"""The launcher behind conf/hydra/launcher/submitit_local.yaml: submitit's local jobs, isolated."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf
from omegaconf import DictConfig


@dataclass
class SubmititLocalConf(LocalQueueConf):
    """The plugin's settings; only the class behind them is another."""

    _target_: str = "hydra_plugins.evsys_hydra.submitit_local.SubmititLocalLauncher"


class SubmititLocalLauncher(Launcher):
    """Loads the real launcher when a sweep starts, so that Hydra's plugin scan stays fast."""

    def __init__(self, **params: Any) -> None:
        from evsys_hydra.sweep import submitit_local

        self._launcher = submitit_local.SubmititLocalLauncher(**params)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        return self._launcher.launch(job_overrides, initial_job_idx)

    def run_arms(self, session: Any, directories: Sequence[Path]) -> None:
        self._launcher.run_arms(session, directories)


# under a name of its own: other Hydra applications of the environment keep the plugin's launcher
ConfigStore.instance().store(
    group="hydra/launcher", name="evsys_submitit_local", node=SubmititLocalConf, provider="evsys_hydra"
)
