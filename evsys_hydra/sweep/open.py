"""Opening an experiment from Python: composing it from a file or from a typed config, as the command line would."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ..arm import Parts
from ..config import ExperimentConfig
from ..errors import ConfigError
from .compose import Composer
from .hydra_setup import config_directory, set_up_hydra
from .session import Session
from .sweeper import expand

if TYPE_CHECKING:
    from ..store import EvsysStore


@dataclass
class Source:
    """A composed experiment that has not begun.

    Args:
        overrides: one list for each arm.
        swept: the keys that differ between arms.
    """

    composer: Composer
    master: DictConfig
    overrides: list[list[str]]
    swept: list[str]

    def session(self, directory: Path | None, parts: Parts, store: EvsysStore | None) -> Session:
        """Begin it in a directory; None: where hydra.sweep.dir says."""
        where = directory or Path(str(self.master.hydra.sweep.dir))
        return Session(self.composer, self.master, where.resolve(), parts=parts, store=store, uses_store=False)


def file_source(path: Path, overrides: Sequence[str]) -> Source:
    """Compose a file on top of conf/config.yaml; `hydra.sweeper.params` and sweeping overrides make the arms.

    Raises:
        ConfigError: no such file, or one that does not compose.
    """
    path = path.resolve()
    if not path.is_file():
        raise ConfigError(f"No such experiment config: {path}")
    words = [f"experiments='{path.parent.name}'", *overrides]
    loader, master = compose([f"hydra.searchpath=['experiments://{path}']", *words])
    arms, swept = expand_words(loader, master, words)
    return Source(Composer(loader, master), master, arms, swept)


def fixed_source(config: ExperimentConfig, sweep: Mapping[str, Sequence[Any]]) -> Source:
    """The arms of a typed config: all combinations of the swept values."""
    task = OmegaConf.create(config.model_dump(mode="json"))
    loader, master = compose([])
    for key in ("name", "n_repeats", "seed", "base_seed"):
        OmegaConf.update(master, key, getattr(config, key))
    OmegaConf.set_struct(task, True)
    arms = [
        [f"{key}={literal(value)}" for key, value in zip(sweep, values, strict=True)]
        for values in itertools.product(*sweep.values())
    ]
    return Source(Composer.of(loader, master, task), master, arms, list(sweep))


def expand_words(loader: ConfigLoader, master: DictConfig, words: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """The arms that the config's own `hydra.sweeper.params` and these words make, and the swept keys."""
    params = OmegaConf.to_container(OmegaConf.select(master, "hydra.sweeper.params") or OmegaConf.create({}))
    assert isinstance(params, dict)
    axes = [f"{key!s}={value!s}" for key, value in params.items()]
    return expand(OverridesParser.create(config_loader=loader).parse_overrides([*axes, *words]))


def literal(value: Any) -> str:
    """A Python value in the words of Hydra's command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{literal(part)}" for key, part in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(literal(part) for part in value) + "]"
    return repr(value)


def compose(overrides: list[str]) -> tuple[ConfigLoader, DictConfig]:
    """Compose conf/config.yaml with these overrides, as Hydra would for a sweep.

    Raises:
        ConfigError: Hydra's own words.
    """
    setup_globals()
    set_up_hydra()
    loader = ConfigLoaderImpl(create_config_search_path(config_directory()))
    try:
        master = loader.load_configuration(
            "config", overrides, RunMode.MULTIRUN, from_shell=False, validate_sweep_overrides=False
        )
    except HydraException as error:
        causes = [str(part) for part in (error, error.__cause__) if part is not None and str(part)]
        raise ConfigError("\n".join(dict.fromkeys(causes))) from error
    return loader, master
