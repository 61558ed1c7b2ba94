"""hydra/launcher=submitit_slurm, or slurm for short: arms as isolated jobs of a SLURM array."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf

from hydra_plugins.evsys_hydra._lazy import LazyLauncher


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


class SubmititSlurmLauncher(LazyLauncher):
    """See evsys_hydra.slurm.launcher."""

    real = "evsys_hydra.slurm.launcher:SubmititSlurmLauncher"


# under a name of its own: other Hydra applications of the environment keep the plugin's launcher
ConfigStore.instance().store(
    group="hydra/launcher", name="evsys_submitit_slurm", node=SubmititSlurmConf, provider="evsys_hydra"
)
