"""What Hydra says of overrides that do not fit, with the words that were given and the fields that there are.

Hydra says "Key 'bathc_size' is not in struct" of the first one only, and of `lr=1e-5,` not even which word it was.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from ..hints import did_you_mean


def set_up_messages() -> None:
    """Put the messages in place; a second call changes nothing."""
    if ConfigLoaderImpl._apply_overrides_to_config is not _apply:
        ConfigLoaderImpl._apply_overrides_to_config = staticmethod(_apply)  # type: ignore[method-assign]
        OverridesParser.parse_overrides = _parse  # type: ignore[method-assign]


_hydra_apply = ConfigLoaderImpl._apply_overrides_to_config
_hydra_parse = OverridesParser.parse_overrides


def _apply(overrides: list[Override], cfg: DictConfig) -> None:
    try:
        _hydra_apply(overrides, cfg)
    except ConfigCompositionException:
        if unknown := unknown_fields(overrides, cfg):
            raise ConfigCompositionException("\n".join(unknown)) from None
        raise


def _parse(self: OverridesParser, overrides: list[str]) -> list[Override]:
    try:
        return _hydra_parse(self, overrides)
    except OverrideParseException as error:
        text = f"{error.override}: cannot be read as an override. {error.message}"
        if error.override.endswith((",", "=")):
            text = f"{error.override}: a value is missing after the last {error.override[-1]!r}."
        raise OverrideParseException(error.override, text) from None


def unknown_fields(overrides: Sequence[Override], config: DictConfig) -> list[str]:
    """Each override of a field that the config does not have, with the nearest field and the valid ones."""
    added = {override.key_or_group for override in overrides if override.is_add() or override.is_force_add()}
    plain = [override.key_or_group for override in overrides if override.key_or_group not in added]
    return [said for key in plain if (said := _unknown(key, config, added)) is not None]


def _unknown(key: str, config: DictConfig, added: set[str]) -> str | None:
    steps = key.split(".")
    for place, step in enumerate(steps):
        where = ".".join(steps[:place])
        node = OmegaConf.select(config, where, throw_on_missing=False) if where else config
        if where in added or not isinstance(node, DictConfig):
            return None
        fields = sorted(str(name) for name in node if str(name) != "hydra")
        if step not in node:
            hint = did_you_mean(step, fields) or f" (add one that a plugin knows with +{key}=...)"
            return f"{key}: unknown field{hint}. Fields{f' of {where}' if where else ''}: {', '.join(fields) or 'none'}"
    return None
