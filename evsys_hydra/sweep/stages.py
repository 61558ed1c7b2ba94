"""Stages: an arm whose config has `continual` or `recipe` becomes a chain of arms, each from the weights of the one
before. The last one is the arm that is ranked; the ones before have the role "stage".
They are run by `chain`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from ..config import ContinualConfig, StageConfig, Strict
from ..errors import ConfigError
from ..problems import describe_validation
from ..record.arm import Role
from ..record.names import safe_name
from .compose import Composed, Composer
from .identity import config_hash

SOURCES = ("path", "rows", "hub", "generate")


@dataclass
class Stage:
    """One arm of a chain, or an arm that is none.

    Args:
        facts: for arm.json: {of, label, number, after}; None where there is no chain.
    """

    name: str
    group: str
    role: Role
    composed: Composed
    facts: dict[str, Any] | None = None


def expand(composer: Composer, composed: Composed, name: str, group: str) -> list[Stage]:
    """The stages of an arm, in order, named `<name>_<stage>`; without a chain the arm itself.

    The last stage's group is the arm's: it stands for the whole recipe. Earlier ones have groups `<group>_<stage>`.

    Raises:
        ConfigError: a chain that cannot be read, or a stage that does not fit.
    """
    kind, parts = _parts(composed.task)
    if not parts:
        return [Stage(name, group, "arm", composed)]
    stages: list[Stage] = []
    for number, (label, own) in enumerate(parts.items()):
        last = number == len(parts) - 1
        task = _task(composer, composed.task, own)
        before = stages[-1] if stages else None
        with open_dict(task):
            task.tags = [*(task.get("tags") or []), kind, f"stage:{label.removeprefix('stage')}"]
            task.start_from = {"arm": before.name, "hash": config_hash(before.composed.task)} if before else None
        stages.append(
            Stage(
                name=safe_name(f"{name}_{label}"),
                group=group if last else safe_name(f"{group}_{label}"),
                role="arm" if last else "stage",
                composed=Composed(task, composed.hydra, composed.overrides),
                facts={"of": name, "label": label, "number": number, "after": before.name if before else None},
            )
        )
    return stages


def _parts(task: DictConfig) -> tuple[str, dict[str, dict[str, Any]]]:
    """continual or recipe, and label -> what each stage has of its own, unresolved."""
    given = {key: task.get(key) for key in ("continual", "recipe") if task.get(key) is not None}
    try:
        values = {key: OmegaConf.to_container(value, resolve=True) for key, value in given.items()}
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"recipe or continual: {str(error).splitlines()[0]}") from error
    problems = _problems("continual", ContinualConfig, values.get("continual") or {})
    for label, own in dict(values.get("recipe") or {}).items():  # type: ignore[arg-type]
        problems += _problems(f"recipe.{label}", StageConfig, own or {})
    if problems:
        raise ConfigError("; ".join(problems))
    plain = {key: OmegaConf.to_container(value, resolve=False) for key, value in given.items()}
    datasets = (plain.get("continual") or {}).get("datasets")  # type: ignore[union-attr]
    recipe = plain.get("recipe")
    if datasets and recipe:
        raise ConfigError("continual.datasets and recipe both make stages: use one of them")
    if recipe == {}:
        raise ConfigError("recipe: has no stages. Give each a name: recipe: {sft: {algorithm: sft}, ...}, or null")
    if datasets:
        return "continual", {f"stage{number}": {"data": data} for number, data in enumerate(datasets)}
    return "recipe", {str(label): own or {} for label, own in recipe.items()} if recipe else {}  # type: ignore[union-attr]


def _problems(where: str, model: type[Strict], value: Any) -> list[str]:
    try:
        model.model_validate(value)
    except ValidationError as error:
        return [f"{where}.{problem}" for problem in describe_validation(error, model)]
    return []


def _task(composer: Composer, arm: DictConfig, own: Mapping[str, Any]) -> DictConfig:
    """The config of a stage: the arm's, with what the stage has of its own."""
    task = copy.deepcopy(arm)
    with open_dict(task):
        task.recipe, task.continual, task.start_from = None, {"datasets": None}, None
        if own.get("lr") is not None:
            task.lr = own["lr"]
        if own.get("algorithm") is not None:
            task.algorithm = _algorithm(composer, task.algorithm, own["algorithm"])
        if own.get("data") is not None:
            task.data = _data(composer, task.data, own["data"])
    return task


def _algorithm(composer: Composer, arm: DictConfig, given: str | Mapping[str, Any]) -> Any:
    """The arm's settings where the kind stays the same, else the option's; with the given fields over them."""
    if isinstance(given, str):
        option = arm if given == arm.kind else composer.option("algorithm", given)
        return {"kind": given} if option is None else option
    kind = given.get("kind", arm.kind)
    return _over(arm if kind == arm.kind else composer.option("algorithm", kind), given)


def _data(composer: Composer, arm: DictConfig, given: str | Mapping[str, Any]) -> Any:
    """An option of the group; else the arm's data from another source, template and transforms kept."""
    if isinstance(given, str):
        option = composer.option("data", given)
        if option is not None:
            return option
        given = {"path": given}
    elsewhere = dict.fromkeys(SOURCES) if any(given.get(source) is not None for source in SOURCES) else {}
    return _over(arm, {**elsewhere, **given})


def _over(base: DictConfig | None, own: Mapping[str, Any]) -> Any:
    merged = copy.deepcopy(base) if base is not None else OmegaConf.create({})
    with open_dict(merged):
        for key, value in own.items():
            merged[key] = value
    return merged
