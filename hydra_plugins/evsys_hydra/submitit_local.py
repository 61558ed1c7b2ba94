"""hydra/launcher=submitit_local in our application: submitit's local jobs, isolated."""

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf

from hydra_plugins.evsys_hydra._lazy import LazyLauncher


@dataclass
class SubmititLocalConf(LocalQueueConf):
    """The plugin's settings; only the class behind them is another."""

    _target_: str = "hydra_plugins.evsys_hydra.submitit_local.SubmititLocalLauncher"


class SubmititLocalLauncher(LazyLauncher):
    """See evsys_hydra.sweep.submitit_local."""

    real = "evsys_hydra.sweep.submitit_local:SubmititLocalLauncher"


# under a name of its own: other Hydra applications of the environment keep the plugin's launcher
ConfigStore.instance().store(
    group="hydra/launcher", name="evsys_submitit_local", node=SubmititLocalConf, provider="evsys_hydra"
)
