"""Finishing an experiment that was sent to SLURM: submit what has neither completed nor a job, and conclude."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ..errors import ConfigError
from ..record import ExperimentRecord
from ..record.queues import arm_views
from ..sweep.conclude import conclude
from ..sweep.driver import drive
from ..sweep.session import is_queued
from ..sweep.show import show_result
from .launcher import drop_finalizer, run
from .settle import settle
from .submit import say

PREFIX = "hydra.launcher."
PATIENCE_S = 60.0


def was_on_slurm(experiment: Path) -> bool:
    """Whether the experiment's launcher sends its arms to SLURM."""
    launcher = ExperimentRecord.load(experiment).facts.get("launcher") or {}
    return "submitit_slurm" in str(launcher.get("_target_"))


def resume_on_slurm(experiment: Path, overrides: Sequence[str] = ()) -> int:
    """Submit what is missing, wait, conclude.

    Args:
        overrides: `hydra.launcher.<key>=<value>`, where the jobs must differ from the first time.

    Returns:
        The exit status: 0 if the experiment completed (or everything is queued), 1 if it failed.

    Raises:
        RecordError, ConfigError, SlurmError: nothing was submitted.
    """
    ExperimentRecord.load(experiment).require_arms()
    driver = drive(experiment)
    record = ExperimentRecord.load(experiment)
    parameters = launcher_parameters(record, overrides)
    views = arm_views(record, patience_s=PATIENCE_S)
    alive = [view for view in views if is_queued(view)]
    done = [view for view in views if view.state == "completed"]
    missing = [view.directory for view in views if view not in alive and view not in done]
    say(f"{len(done)} completed, {len(alive)} queued or running, {len(missing)} to submit")
    left: int | None = None
    if missing:
        record.begin_generation()
        metric = (record.facts.get("metadata") or {}).get("success_metric")
        left = run(experiment, missing, parameters, metric, driver=driver)
    driver.release()
    if left is None and alive:
        say("the job that waits for the queued arms concludes when the last one has ended")
        left = os.EX_OK
    if left is not None:
        return left
    settle(experiment, set())
    result = conclude(experiment)
    show_result(result, experiment)
    if missing:
        drop_finalizer(experiment)
    return 0 if result.status == "completed" else 1


def launcher_parameters(record: ExperimentRecord, overrides: Sequence[str]) -> dict[str, Any]:
    """hydra.launcher as the sweep had it, resolved anew.

    Raises:
        ConfigError: overrides of something else.
    """
    wrong = [word for word in overrides if not word.lstrip("+").startswith(PREFIX) or "=" not in word]
    if wrong:
        raise ConfigError(
            f"{', '.join(wrong)}: a resumed experiment keeps its arms; only {PREFIX}<key>=<value> can change."
        )
    saved = record.directory / "multirun.yaml"
    if saved.is_file():
        config = OmegaConf.load(saved)
    else:  # the driver died before it wrote it
        launcher = record.facts["launcher"]
        config = OmegaConf.create({"name": record.name, "hydra": {"launcher": launcher, "job": {"name": record.name}}})
    OmegaConf.update(config, "hydra.sweep.dir", str(record.directory))
    given = OmegaConf.from_dotlist([word.lstrip("+") for word in overrides])
    merged = OmegaConf.merge(config, given)
    container = OmegaConf.to_container(merged.hydra.launcher, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
