"""A composed config, read back from an arm's directory and typed."""

from __future__ import annotations

from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from .config import ExperimentConfig
from .errors import RecordError
from .registry import load_plugins
from .resolve import resolved


def load_config(path: Path) -> DictConfig:
    """A YAML file as a config.

    Raises:
        RecordError: it is missing, or not a mapping.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        config = OmegaConf.create(yaml.load(path.read_bytes(), Loader=loader))
    except OSError as error:
        raise RecordError(f"Cannot read {path}: {error.strerror}. The arm's directory is not complete.") from error
    if not isinstance(config, DictConfig):
        raise RecordError(f"{path} is not a config: it holds a list.")
    return config


def typed_config(task: DictConfig) -> ExperimentConfig:
    """The typed config of a composed one, with plugins loaded and secrets of the environment resolved."""
    container = resolved(task)
    load_plugins(container.get("plugins") or [])
    return ExperimentConfig.model_validate(container)
