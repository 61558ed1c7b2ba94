"""Finishing an experiment from its directory: run what has not completed, then conclude."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from ..record import ArmView, ExperimentRecord
from ..results import ExperimentResult
from .conclude import conclude
from .isolated import run_directories
from .show import show_result

WAIT_S = 1.0


def resume(directory: Path, *, n_jobs: int | None = None, timeout_min: float | None = None) -> ExperimentResult:
    """Run every arm that is neither completed nor running, wait for the running ones, and conclude.

    Raises:
        RecordError: no experiment there.
    """
    record = ExperimentRecord.load(directory)
    launcher = record.facts.get("launcher") or {}
    views = [ArmView(record.arm_directory(name)) for name in record.arm_names]
    missing = [view.directory for view in views if view.state in ("pending", "failed")]
    running = [view for view in views if view.state == "running"]
    completed = len(views) - len(missing) - len(running)
    print(f"{completed} completed, {len(running)} running, {len(missing)} to run", flush=True)
    record.begin_generation()
    if missing:
        run_directories(
            directory,
            missing,
            metric=(record.facts.get("metadata") or {}).get("success_metric"),
            n_jobs=n_jobs or launcher.get("n_jobs"),
            timeout_min=timeout_min or launcher.get("timeout_min"),
        )
    _wait(running)
    result = conclude(directory)
    show_result(result, directory)
    return result


def _wait(running: list[ArmView]) -> None:
    """Arms that another driver left running end on their own."""
    for view in running:
        told = False
        while ArmView(view.directory).state == "running":
            if not told:
                print(f"waiting for {view.name}, which is running (pid {view.status.get('pid')})", file=sys.stderr)
                told = True
            time.sleep(WAIT_S)
