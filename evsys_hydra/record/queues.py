"""The arms of an experiment, with what a cluster's queue knows of them beside their files.

A cluster's part of the code is named here by the folder that it keeps in the experiment's directory, and imported only
where that folder is: nothing above it needs to know which clusters there are.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from .experiment import ExperimentRecord
from .view import ArmView

QUEUES = {"slurm": "evsys_hydra.slurm.view"}
"""Folder of an experiment's directory -> module whose `arm_views(record, patience_s=...)` knows the queue."""


def queue_of(experiment: Path) -> str | None:
    """The module that knows the queue an experiment was sent to; None for one that was sent to none."""
    return next((module for folder, module in QUEUES.items() if (experiment / folder).is_dir()), None)


def arm_views(record: ExperimentRecord, *, patience_s: float = 0) -> list[ArmView]:
    """The arms in the order they were planned.

    Args:
        patience_s: how long to wait for a queue that does not answer, and for jobs that are just ending; 0: not at all.
    """
    module = queue_of(record.directory)
    if module is not None:
        views: list[ArmView] = import_module(module).arm_views(record, patience_s=patience_s)
        return views
    return [ArmView(record.arm_directory(name)) for name in record.arm_names]
