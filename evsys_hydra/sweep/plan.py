"""From lists of overrides to arms that can run: composed, named, checked, each in its own directory.

Everything that can be wrong is found here, for every arm, before the first one starts: one ConfigError lists it all.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml
from omegaconf import DictConfig, OmegaConf, open_dict

from ..config import ExperimentConfig
from ..errors import ConfigError
from ..record import ExperimentRecord
from ..record.arm import Role
from ..record.files import read_json, write_atomic, write_json
from ..record.names import safe_name
from .check import Checker
from .collect import clusters_path
from .compose import Composed, Composer
from .identity import config_hash
from .naming import arm_and_group, from_template
from .stages import Stage, expand

BASELINE = "base"
API_URL = "${oc.env:OPENAI_BASE_URL,https://api.openai.com/v1}"


@dataclass
class Arm:
    """One planned arm.

    Args:
        name: unique in the experiment; the name of its directory.
        group: shared by the arms that differ only in seed.
        role: "arm", "stage" for all but the last of a chain, or "baseline" for the untrained base model.
        swept: key -> value of what the sweep varies.
        composed: its config.
        config: the same, checked and typed.
        index: its place in the sweep (hydra.job.num).
        stage: its place in its chain; None where there is none.
    """

    name: str
    group: str
    role: Role
    swept: dict[str, Any]
    composed: Composed
    config: ExperimentConfig
    index: int = 0
    stage: dict[str, Any] | None = None

    @property
    def hash(self) -> str:
        """What makes two arms the same: the composed config without names and labels."""
        return config_hash(self.composed.task)


def plan(
    composer: Composer,
    overrides: Sequence[Sequence[str]],
    *,
    swept_keys: Sequence[str],
    known: Container[str],
    checker: Checker,
    baselines: bool,
) -> list[Arm]:
    """Compose, name and check the arms, and add the untrained base model of each distinct model as a baseline.

    Args:
        overrides: one list for each arm.
        swept_keys: the keys that this sweep varies.
        known: config hashes of the arms that the experiment has already.
        checker: looks at what the configs name.
        baselines: whether untrained models are added where metadata.baseline asks for them.

    Raises:
        ConfigError: every problem of every arm, in one message.
    """
    arms = [arm for words in overrides for arm in _arms(composer, list(words), swept_keys, checker)]
    if not arms and not checker.problems:
        checker.add("the sweep", "has no arms: an axis is empty")
    _reject_duplicates(arms, checker)
    untrained = _baselines(arms, checker) if baselines and not checker.problems else []
    untrained += _api_models(arms, checker) if not checker.problems else []
    if not checker.problems:
        _check_groups([*arms, *untrained], checker)
    checker.raise_if_any(len(overrides))
    arms += [arm for arm in untrained if arm.hash not in known]
    for index, arm in enumerate(arms):
        arm.index = index
    return arms


def write(record: ExperimentRecord, arms: Sequence[Arm]) -> list[Path]:
    """Make the arms' directories: config.yaml, hydra.yaml and arm.json, all that an arm needs to run.

    Returns:
        The directories, in the arms' order.
    """
    directories = []
    for arm in arms:
        directory = record.arm_directory(arm.name)
        directory.mkdir(parents=True, exist_ok=True)
        task = OmegaConf.to_container(arm.composed.task, resolve=False)
        hydra = {**arm.composed.hydra, "job": {**arm.composed.hydra["job"], "num": arm.index, "id": str(arm.index)}}
        hydra["sweep"] = {"dir": str(record.directory), "subdir": f"arms/{arm.name}"}
        write_atomic(directory / "config.yaml", _yaml(task), durable=False)
        write_atomic(directory / "hydra.yaml", _yaml(hydra), durable=False)
        facts = {
            "name": arm.name,
            "group": arm.group,
            "seed": arm.config.seed,
            "role": arm.role,
            "swept": arm.swept,
            "overrides": arm.composed.overrides,
            "config_hash": arm.hash,
            "planned": time.time(),
            **({"stage": arm.stage} if arm.stage else {}),
        }
        write_json(directory / "arm.json", facts, durable=False)
        directories.append(directory)
    record.add_arms([arm.name for arm in arms])
    return directories


def write_clusters(record: ExperimentRecord, arms: Sequence[Arm]) -> None:
    """benchmarks/<name>.clusters.json: task -> cluster, for each benchmark with a cluster_key."""
    from ..benchmark import Benchmark
    from ..benchmark.task import at_path

    for entry in {entry.model_dump_json(): entry for arm in arms for entry in arm.config.metadata.benchmark}.values():
        if entry.cluster_key is None:
            continue
        benchmark = Benchmark.load(entry)
        found = {task.task_id: at_path(task.metadata, entry.cluster_key) for task in benchmark.tasks}
        clusters = {task: str(cluster) for task, cluster in found.items() if cluster is not None}
        path = clusters_path(record, entry.name or benchmark.name)
        path.parent.mkdir(exist_ok=True)
        write_json(path, clusters)


def known_arms(record: ExperimentRecord) -> dict[str, list[str]]:
    """Config hash -> names of the arms that an experiment has; several are stages of chains that begin alike."""
    known: dict[str, list[str]] = {}
    for name in record.arm_names:
        facts = read_json(record.arm_directory(name) / "arm.json") or {}
        if "config_hash" in facts:
            known.setdefault(facts["config_hash"], []).append(name)
    return known


def _arms(composer: Composer, overrides: list[str], swept_keys: Sequence[str], checker: Checker) -> list[Arm]:
    """The arm that these overrides make, or the stages of its chain."""
    label = " ".join(overrides) or "(no overrides)"
    try:
        composed = composer.compose(overrides)
        swept = {key: _swept_value(key, composed, overrides) for key in swept_keys}
        default = str(OmegaConf.select(composed.task, "name") or "arm")
        name, group = arm_and_group(swept, default=default)
        template = OmegaConf.select(composed.task, "name_template")
        if template:
            name = from_template(template, composed.task)
        given = composed.task.get("arm"), composed.task.get("group")
        stages = expand(composer, composed, given[0] or name, given[1] or group)
    except ConfigError as error:
        checker.add(label, str(error))
        return []
    return [arm for stage in stages if (arm := _checked(stage, swept, checker)) is not None]


def _checked(stage: Stage, swept: dict[str, Any], checker: Checker) -> Arm | None:
    task = stage.composed.task
    with open_dict(task):
        task.arm, task.group = stage.name, stage.group
    config = checker.check(stage.name, task, ranked=stage.role == "arm")
    if config is None:
        return None
    return Arm(stage.name, stage.group, stage.role, swept, stage.composed, config, stage=stage.facts)


def _swept_value(key: str, composed: Composed, overrides: Sequence[str]) -> Any:
    node = OmegaConf.select(composed.task, key)
    if isinstance(node, DictConfig) or node is None:  # an option is called by its name
        text = next((word.split("=", 1)[1] for word in overrides if word.lstrip("+~").startswith(f"{key}=")), None)
        if node is None:
            return None if text == "null" else text
        return text if text is not None else OmegaConf.to_container(node, resolve=True)
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _reject_duplicates(arms: Sequence[Arm], checker: Checker) -> None:
    by_name: dict[str, Arm] = {}
    by_hash: dict[str, Arm] = {}
    for arm in arms:
        same_name = by_name.get(arm.name)
        same_config = by_hash.get(arm.hash) if arm.role == "arm" else None  # chains may begin alike
        mine = " ".join(arm.composed.overrides)
        if same_config is not None:
            checker.add(arm.name, f"is twice in the sweep: `{mine}` and `{' '.join(same_config.composed.overrides)}`")
        elif same_name is not None:
            checker.add(
                arm.name,
                f"two arms have this name: `{mine}` and `{' '.join(same_name.composed.overrides)}`. "
                "Put every swept field into name_template, or leave it null.",
            )
        by_name.setdefault(arm.name, arm)
        if arm.role == "arm":
            by_hash.setdefault(arm.hash, arm)


def _check_groups(arms: Sequence[Arm], checker: Checker) -> None:
    """The groups that the metadata names must be groups of this experiment."""
    groups = sorted({arm.group for arm in arms})
    for arm in arms:
        metadata = arm.config.metadata
        named = {"metadata.baseline": metadata.baseline} if metadata.baseline != BASELINE else {}
        if metadata.compare is not None:
            named |= {f"metadata.compare.{key}": group for key, group in metadata.compare.model_dump().items()}
        for field, group in named.items():
            if group is not None and group not in groups:
                checker.add(arm.name, f"{field} = {group!r}: no group of this experiment. Groups: {', '.join(groups)}")


def _baselines(arms: Sequence[Arm], checker: Checker) -> list[Arm]:
    """One untrained arm (algorithm none) for each distinct model that somebody should be compared with."""
    baselines: dict[str, Arm] = {}
    for arm in arms:
        wanted = arm.config.metadata.baseline == BASELINE and arm.config.metadata.benchmark
        if not wanted or arm.config.algorithm.kind == "none":
            continue
        model = orjson.dumps(OmegaConf.to_container(arm.composed.task.model, resolve=True)).decode()
        if model in baselines:
            continue
        name = BASELINE if not baselines else f"{BASELINE}-{len(baselines) + 1}"
        composed = _untrained(arm.composed, seed=min(other.config.seed for other in arms))
        checked = _checked(Stage(name, name, "baseline", composed), {}, checker)
        if checked is not None:
            baselines[model] = checked
    return list(baselines.values())


def _api_models(arms: Sequence[Arm], checker: Checker) -> list[Arm]:
    """One arm for each API model that a benchmark names: scored once, whatever the number of arms."""
    found: dict[str, Arm] = {}
    for arm in arms:
        entries = arm.config.metadata.benchmark
        for model in dict.fromkeys(name for entry in entries for name in [entry.model, *entry.models] if name):
            if model in found:
                continue
            composed = _untrained(arm.composed, seed=min(other.config.seed for other in arms))
            with open_dict(composed.task):
                composed.task.inference = {"kind": "api", "model": model, "base_url": API_URL}
                composed.task.benchmarks = [
                    {**entry.model_dump(mode="json"), "model": None, "models": []}
                    for entry in entries
                    if model in (entry.model, *entry.models)
                ]
            name = safe_name(model)
            checked = _checked(Stage(name, name, "baseline", composed), {}, checker)
            if checked is not None:
                found[model] = checked
    return list(found.values())


def _untrained(composed: Composed, seed: int) -> Composed:
    task = copy.deepcopy(composed.task)
    with open_dict(task):
        task.algorithm = {"kind": "none"}
        task.seed, task.start_from = seed, None
    trained_by = ("algorithm", "lr=", "data", "seed=")
    kept = [word for word in composed.overrides if not word.lstrip("+~").startswith(trained_by)]
    overrides = [*kept, f"seed={seed}", "algorithm=none"]
    hydra = {**composed.hydra, "overrides": {**composed.hydra["overrides"], "task": overrides}}
    return Composed(task, hydra, overrides)


def _yaml(container: Any) -> str:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(container, Dumper=dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)
