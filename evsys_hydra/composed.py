"""A composed config, read back from an arm's directory and typed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .config import ExperimentConfig
from .errors import RecordError
from .record import ExperimentRecord
from .registry import load_plugins
from .resolve import resolved

if TYPE_CHECKING:
    from omegaconf import DictConfig


def load_plain(path: Path) -> dict[str, Any]:
    """A YAML file as a plain dict, interpolations unresolved.

    Raises:
        RecordError: it is missing, or not a mapping.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_bytes(), Loader=loader)
    except OSError as error:
        raise RecordError(f"Cannot read {path}: {error.strerror}. The arm's directory is not complete.") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path} is not a config: it holds no mapping.")
    return content


def load_config(path: Path) -> DictConfig:
    """A YAML file as a config.

    Raises:
        RecordError: it is missing, or not a mapping.
    """
    from omegaconf import OmegaConf

    return OmegaConf.create(load_plain(path))


def typed_config(task: DictConfig | dict[str, Any]) -> ExperimentConfig:
    """The typed config of a composed one, with plugins loaded and secrets of the environment resolved."""
    container = resolved(task)
    load_plugins(container.get("plugins") or [])
    return ExperimentConfig.model_validate(container)


def shared_part(directory: Path, key: str) -> Any:
    """A part of the config that all arms of an experiment share, interpolations resolved; None if there is none."""
    from omegaconf import OmegaConf

    names = ExperimentRecord.load(directory).arm_names
    if not names:
        return None
    config = load_config(directory / "arms" / names[0] / "config.yaml")
    load_plugins(config.get("plugins") or [])
    part = config.get(key)
    return OmegaConf.to_container(part, resolve=True) if OmegaConf.is_config(part) else part
