"""hydra/launcher=isolated: arms on this machine, a process each."""

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore

from hydra_plugins.evsys_hydra._lazy import LazyLauncher


@dataclass
class IsolatedConf:
    """Settings of the launcher."""

    _target_: str = "hydra_plugins.evsys_hydra.isolated.IsolatedLauncher"
    n_jobs: int | None = None
    timeout_min: float | None = None


class IsolatedLauncher(LazyLauncher):
    """See evsys_hydra.sweep.isolated."""

    real = "evsys_hydra.sweep.isolated:IsolatedLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="isolated", node=IsolatedConf, provider="evsys_hydra")
