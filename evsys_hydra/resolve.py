"""Resolving a composed config fast: the same as OmegaConf does it, without its parser where interpolations are plain.

OmegaConf parses every interpolation anew, about a millisecond each. Plain ones (`${lr}`, `${oc.select:a.b,null}`) are
looked up here; whatever else stands in a config sends the whole config to OmegaConf.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

PLAIN = re.compile(r"\$\{(\w+(?:\.\w+)*)\}")
SELECT = re.compile(r"\$\{oc\.select:(\w+(?:\.\w+)*),(null|true|false|\[\]|\d+(?:\.\d+)?)\}")
CONSTANTS: dict[str, Any] = {"null": None, "true": True, "false": False}
DEEPEST = 50


class NotPlain(Exception):
    """Something that only OmegaConf can resolve."""


def resolved(task: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """The config as a plain dict with every interpolation resolved.

    Args:
        task: a config, or what its YAML file holds.

    Raises:
        OmegaConfBaseException: as OmegaConf does, for a missing value or an interpolation that leads nowhere.
    """
    try:
        container = task if isinstance(task, dict) else _unresolved(task)
        plain = _value(container, container, 0)
    except NotPlain:
        from omegaconf import OmegaConf

        plain = OmegaConf.to_container(OmegaConf.create(task), resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return plain


def followed(config: dict[str, Any]) -> dict[str, Any]:
    """A config to be looked at: plain references are replaced by what they lead to, all others stay as they are.

    What leads to the environment stays a reference, so no secret comes in.
    """

    def follow(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: follow(part) for key, part in value.items()}
        if isinstance(value, list):
            return [follow(part) for part in value]
        try:
            return _value(value, config, 0)
        except NotPlain:
            return value

    found: dict[str, Any] = follow(config)
    return found


def _unresolved(task: DictConfig) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(task, resolve=False)


def _value(value: Any, root: Any, depth: int) -> Any:
    if depth > DEEPEST:
        raise NotPlain
    if isinstance(value, dict):
        return {key: _value(part, root, depth + 1) for key, part in value.items()}
    if isinstance(value, list):
        return [_value(part, root, depth + 1) for part in value]
    if not isinstance(value, str):
        return value
    if value == "???":
        raise NotPlain
    if "$" not in value:
        return value
    if found := PLAIN.fullmatch(value):
        try:
            return _value(_at(root, found[1]), root, depth + 1)
        except KeyError as error:
            raise NotPlain from error
    if found := SELECT.fullmatch(value):
        try:
            target = _at(root, found[1])
        except KeyError:
            return _constant(found[2])
        return _constant(found[2]) if target == "???" else _value(target, root, depth + 1)
    raise NotPlain


def _at(root: Any, path: str) -> Any:
    """The value at a dotted path. Raises KeyError if there is none, NotPlain if the way leads elsewhere."""
    node = root
    for step in path.split("."):
        if not isinstance(node, dict):
            raise NotPlain
        node = node[step]
    return node


def _constant(text: str) -> Any:
    if text == "[]":
        return []
    if text in CONSTANTS:
        return CONSTANTS[text]
    return float(text) if "." in text else int(text)
