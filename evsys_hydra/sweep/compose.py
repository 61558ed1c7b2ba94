"""Composing many arms fast, with the same result as Hydra's own composition.

Hydra composes once for each distinct set of group choices; plain value overrides (`lr=1e-5`) are then applied to a
copy. Composing costs about 100 ms, a copy about 2 ms.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from ..errors import ConfigError


@dataclass
class Composed:
    """One arm's composed config.

    Args:
        task: the config that the arm's code sees, interpolations unresolved.
        hydra: the `hydra` node, unresolved, as a plain dict.
        overrides: the overrides it was composed with.
    """

    task: DictConfig
    hydra: dict[str, Any]
    overrides: list[str]


class Composer:
    """Composes arms on top of a sweep's master config.

    Args:
        loader: Hydra's config loader.
        master: the config that Hydra composed for the whole sweep.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader = loader
        self._master = master
        self._parser = OverridesParser.create(config_loader=loader)
        self._bases: dict[tuple[str, ...], tuple[DictConfig, dict[str, Any]]] = {}
        self._is_group: dict[str, bool] = {}
        self._options: dict[tuple[str, str], DictConfig | None] = {}

    @classmethod
    def of(cls, loader: ConfigLoader, master: DictConfig, task: DictConfig) -> Composer:
        """A composer whose arms start from a finished config instead of from conf/."""
        composer = cls(loader, master)
        _, hydra = cls._split(copy.deepcopy(master))
        composer._bases[()] = (task, hydra)
        return composer

    def compose(self, overrides: Sequence[str]) -> Composed:
        """The config of the arm with these overrides.

        Raises:
            ConfigError: Hydra's own words, for an override that does not fit the config.
        """
        try:
            parsed = self._parser.parse_overrides(list(overrides))
            if any(override.is_hydra_override() for override in parsed):
                task, hydra = self._split(self._loader.load_sweep_config(self._master, list(overrides)))
                return Composed(task, hydra, list(overrides))
            groups = [override for override in parsed if self._chooses_group(override)]
            values = [override for override in parsed if not self._chooses_group(override)]
            base_task, base_hydra = self._base(tuple(str(override.input_line) for override in groups))
            task = copy.deepcopy(base_task)
            ConfigLoaderImpl._apply_overrides_to_config(values, task)
        except ConfigError:
            raise
        except Exception as error:
            causes = [str(part) for part in (error, error.__cause__) if part is not None and str(part)]
            raise ConfigError("\n".join(dict.fromkeys(causes))) from error
        return Composed(task, self._hydra_of(base_hydra, overrides, parsed), list(overrides))

    def option(self, group: str, name: str) -> DictConfig | None:
        """What an option of a group holds by itself; None: there is no such option."""
        if (group, name) not in self._options:
            overrides = [str(word) for word in self._master.hydra.overrides.hydra]
            config_name = self._master.hydra.job.config_name
            found = None
            if name in self._loader.get_group_options(group, config_name=config_name, overrides=overrides):
                words = [*overrides, f"{group}={name}"]
                found = self._loader.load_configuration(config_name, words, RunMode.MULTIRUN)[group]
                found._set_parent(None)
            self._options[group, name] = found
        return copy.deepcopy(self._options[group, name])

    def _base(self, groups: tuple[str, ...]) -> tuple[DictConfig, dict[str, Any]]:
        if groups not in self._bases:
            self._bases[groups] = self._split(self._loader.load_sweep_config(self._master, list(groups)))
        return self._bases[groups]

    def _chooses_group(self, override: Override) -> bool:
        key = override.key_or_group
        if override.package is not None:
            return True
        if key not in self._is_group:
            overrides = [str(word) for word in self._master.hydra.overrides.hydra]
            options = self._loader.get_group_options(
                key, config_name=self._master.hydra.job.config_name, overrides=overrides
            )
            self._is_group[key] = bool(options)
        return self._is_group[key]

    @staticmethod
    def _split(config: DictConfig) -> tuple[DictConfig, dict[str, Any]]:
        hydra = OmegaConf.to_container(config.hydra, resolve=False, enum_to_str=True)
        assert isinstance(hydra, dict)
        with open_dict(config):
            del config["hydra"]
        return config, {str(key): value for key, value in hydra.items()}

    @staticmethod
    def _hydra_of(base: dict[str, Any], overrides: Sequence[str], parsed: Sequence[Override]) -> dict[str, Any]:
        settings = base["job"]["config"]["override_dirname"]
        dirname = get_overrides_dirname(
            list(parsed),
            kv_sep=settings["kv_sep"],
            item_sep=settings["item_sep"],
            exclude_keys=settings["exclude_keys"],
        )
        return {
            **base,
            "overrides": {**base["overrides"], "task": list(overrides)},
            "job": {**base["job"], "override_dirname": dirname},
        }
