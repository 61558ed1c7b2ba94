"""hydra/launcher=isolated: arms on this machine, a process each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class IsolatedConf:
    """Settings of the launcher."""

    _target_: str = "hydra_plugins.evsys_hydra.isolated.IsolatedLauncher"
    n_jobs: int | None = None
    timeout_min: float | None = None


class IsolatedLauncher(Launcher):
    """Loads the real launcher when a sweep starts, so that Hydra's plugin scan stays fast."""

    def __init__(self, n_jobs: int | None = None, timeout_min: float | None = None) -> None:
        from evsys_hydra.sweep import isolated

        self._launcher = isolated.IsolatedLauncher(n_jobs, timeout_min)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        return self._launcher.launch(job_overrides, initial_job_idx)

    def run_arms(self, session: Any, directories: Sequence[Path]) -> None:
        self._launcher.run_arms(session, directories)


ConfigStore.instance().store(group="hydra/launcher", name="isolated", node=IsolatedConf, provider="evsys_hydra")
