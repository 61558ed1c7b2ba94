"""The arms of a sweep that an experiment has already: the same by their config's hash, whatever they are called now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf, open_dict

from ..composed import load_plain
from ..errors import ConfigError
from ..record import ArmView, ExperimentRecord
from .identity import NOT_IDENTITY
from .plan import known_arms

if TYPE_CHECKING:
    from .plan import Arm

SHOWN = 3


def adopt(record: ExperimentRecord, arms: Sequence[Arm]) -> list[Arm]:
    """Give planned arms that the experiment has their names and groups there; replicates of such a group join it.

    Returns:
        The arms that the experiment does not have.

    Raises:
        ConfigError: new arms that are called as others of the experiment are, with what differs.
    """
    known = known_arms(record)
    groups: dict[str, str] = {}
    called: dict[str, str] = {}
    new = []
    for arm in arms:
        names = known.get(arm.hash)
        if not names:
            new.append(arm)
            continue
        name = names.pop(names.index(arm.name) if arm.name in names else 0)
        there = ArmView(record.arm_directory(name))
        groups.setdefault(arm.group, there.group)
        called[arm.name] = name
        arm.name, arm.group = name, there.group
    _reject_taken(record, new)
    for arm in new:
        if arm.stage is not None and arm.stage["after"] in called:  # the stage before is there by another name
            arm.stage["after"] = before = called[arm.stage["after"]]
            arm.composed.task.start_from.arm = before
        group = groups.get(arm.group, arm.group)
        if group != arm.group:
            with open_dict(arm.composed.task):
                arm.composed.task.group = group
            arm.config = arm.config.model_copy(update={"group": group})
            arm.group = group
    return new


def _reject_taken(record: ExperimentRecord, arms: Sequence[Arm]) -> None:
    taken = set(record.arm_names)
    lines = [f"  - {arm.name}: {_difference(record, arm)}" for arm in arms if arm.name in taken]
    if lines:
        raise ConfigError(
            f"{record.directory} has other arms of the same name; nothing was launched.\n"
            + "\n".join(lines)
            + "\nName them apart (name_template, arm=...), undo the change, or begin a new experiment without `resume`."
        )


def _difference(record: ExperimentRecord, arm: Arm) -> str:
    before = dict(_leaves(load_plain(record.arm_directory(arm.name) / "config.yaml")))
    task = OmegaConf.to_container(arm.composed.task, resolve=False)
    assert isinstance(task, dict)
    now = dict(_leaves(task))
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    told = [f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in keys[:SHOWN]]
    return "; ".join(told) + (f"; and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")


def _leaves(config: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if not prefix and key in NOT_IDENTITY:
            continue
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
