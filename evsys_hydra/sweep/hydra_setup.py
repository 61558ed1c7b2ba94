"""What conf/ relies on: where it is, the resolvers that its files use, and our launchers under the names users know."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from .override_messages import set_up_messages

LAUNCHERS = {"submitit_local": "evsys_submitit_local", "submitit_slurm": "evsys_submitit_slurm"}


def config_directory() -> str:
    """Where conf/ is: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    return str(next(path for path in (package / "conf", package.parent / "conf") if path.is_dir()))


def set_up_hydra() -> None:
    """Register conf/'s resolvers and put our launchers in place.

    `evsys.first` is its first argument that is not null, `evsys.suffix` its second argument if the first is true.

    The plugin's names `submitit_local` and `submitit_slurm` mean our launchers in this process only: other Hydra
    applications of the environment keep the plugin's.
    """
    OmegaConf.register_new_resolver(
        "evsys.first", lambda *values: next((value for value in values if value is not None), None), replace=True
    )
    OmegaConf.register_new_resolver("evsys.suffix", lambda given, text: text if given else "", replace=True)
    set_up_messages()
    Plugins.instance()  # scans hydra_plugins once; what is stored afterwards stays
    store = ConfigStore.instance()
    # Hydra copies the whole store, deeply, for each composition and for each group that --help lists; it only reads
    # the copies, and what it reads it copies again
    vars(store)["__deepcopy__"] = lambda memo: store
    for name, ours in LAUNCHERS.items():
        node = store.repo["hydra"]["launcher"].get(f"{ours}.yaml")
        if node is not None:
            store.store(group="hydra/launcher", name=name, node=node.node, provider="evsys_hydra")
