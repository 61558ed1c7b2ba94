"""Names of arms and groups, made from what was swept.

The same arm gets the same name whatever the order of the command line: keys are sorted, the seed comes last, values
are those of the composed config (`1e-5` and `0.00001` are one name).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..errors import ConfigError
from ..record.names import safe_name


def show(value: Any) -> str:
    """A config value as it stands in a name: 1e-05 becomes 1e-5, a mapping its own short form."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return re.sub(r"e([+-])0*(\d)", lambda found: f"e{found[1].replace('+', '')}{found[2]}", f"{value!r}")
    if isinstance(value, Mapping):
        return "+".join(f"{key}={show(part)}" for key, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "+".join(show(part) for part in value)
    return str(value)


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Each dotted key by its last part, or by as many parts as tell it from the others."""
    names: dict[str, str] = {}
    for key in keys:
        parts = key.replace("/", ".").split(".")
        for taken in range(1, len(parts) + 1):
            name = ".".join(parts[-taken:])
            if all(other == key or not f".{other.replace('/', '.')}".endswith(f".{name}") for other in keys):
                break
        names[key] = name
    return names


def arm_and_group(swept: Mapping[str, Any], *, default: str) -> tuple[str, str]:
    """Name of an arm and of its group.

    Args:
        swept: key -> value of what this sweep varies, seed included.
        default: the group's name if nothing but the seed is swept.
    """
    short = short_keys(sorted(swept))
    parts = [f"{short[key]}={show(swept[key])}" for key in sorted(swept) if key != "seed"]
    group = safe_name(",".join(parts)) if parts else safe_name(default)
    if "seed" not in swept:
        return group, group
    return safe_name(",".join([*(parts or [default]), f"seed={show(swept['seed'])}"])), group


def from_template(template: str, config: DictConfig) -> str:
    """`name_template` filled from the arm's config: {lr}, {algorithm.batch_size}, {model} (a group: its name or kind).

    Raises:
        ConfigError: naming a placeholder that is not a field of the config.
    """

    def fill(found: re.Match[str]) -> str:
        key = found[1]
        value = OmegaConf.select(config, key)
        if value is None and key not in config:
            raise ConfigError(
                f"name_template: {{{key}}} is not a field of the config. Fields: {', '.join(map(str, config))}, "
                "and what is below them with dots."
            )
        if isinstance(value, DictConfig):
            value = value.get("name") or value.get("kind") or OmegaConf.to_container(value, resolve=True)
        return show(value)

    return safe_name(re.sub(r"\{([\w.]+)\}", fill, template))
