"""hydra/launcher=submitit_slurm, or slurm for short: arms as isolated jobs of a SLURM array."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
from omegaconf import DictConfig


@dataclass
class SubmititSlurmConf(SlurmQueueConf):
    """The plugin's settings and three of ours."""

    _target_: str = "hydra_plugins.evsys_hydra.submitit_slurm.SubmititSlurmLauncher"
    name: str = "${name}"
    # return when everything is queued
    detach: bool = False
    # arms in one allocation, one after another, or side by side with a GPU each
    arms_per_job: int = 1
    # sbatch parameters of the job that concludes, where it must differ from the arms: {partition: cpu}
    finalizer: dict[str, Any] = field(default_factory=dict)


class SubmititSlurmLauncher(Launcher):
    """Loads the real launcher when a sweep starts, so that Hydra's plugin scan stays fast."""

    def __init__(self, **params: Any) -> None:
        from evsys_hydra.slurm import launcher

        self._launcher = launcher.SubmititSlurmLauncher(**params)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        return self._launcher.launch(job_overrides, initial_job_idx)

    def run_arms(self, session: Any, directories: Sequence[Path]) -> None:
        self._launcher.run_arms(session, directories)


# under a name of its own: other Hydra applications of the environment keep the plugin's launcher
ConfigStore.instance().store(
    group="hydra/launcher", name="evsys_submitit_slurm", node=SubmititSlurmConf, provider="evsys_hydra"
)
