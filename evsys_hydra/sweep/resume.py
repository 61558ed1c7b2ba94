"""Finishing an experiment: by its directory alone (`evsys-hydra resume DIR`), or by a command (`resume=DIR`).

The first runs what has not completed as it was planned. The second plans anew: arms that the experiment has are the
same by their config's hash, others are added to it; what completed, or what somebody runs, is left alone.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ..errors import RecordError
from ..record import ArmView, ExperimentRecord
from ..record.queues import arm_views
from ..results import ExperimentResult
from .conclude import conclude
from .driver import drive
from .isolated import run_directories
from .session import QUEUE_PATIENCE_S, Session, is_queued
from .show import show_result

WAIT_S = 1.0
LAST = "last"


def resume(directory: Path, *, n_jobs: int | None = None, timeout_min: float | None = None) -> ExperimentResult:
    """Run every arm that is neither completed nor running, wait for the running ones, and conclude.

    Raises:
        RecordError: no experiment there, or one that another process drives now.
    """
    ExperimentRecord.load(directory).require_arms()
    driver = drive(directory)
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
            n_jobs=n_jobs or launcher.get("n_jobs"),
            timeout_min=timeout_min or launcher.get("timeout_min"),
        )
    _wait(view.directory for view in running)
    result = conclude(directory)
    driver.release()
    show_result(result, directory)
    return result


def resume_in(config: DictConfig) -> Path | None:
    """Make the sweep that is being set up go where `resume` says; returns that directory, None without `resume`.

    Raises:
        RecordError: there is no experiment.
    """
    given = OmegaConf.select(config, "resume")
    if not given:
        return None
    directory = _last(Path(str(config.hydra.sweep.dir)).parent) if str(given) == LAST else Path(str(given))
    directory = directory.resolve()
    ExperimentRecord.load(directory)
    with read_write(config), open_dict(config.hydra):
        config.hydra.sweep.dir = str(directory)
    return directory


def await_elsewhere(session: Session) -> None:
    """What a resumed experiment has running elsewhere ends on its own: here it is waited for, a cluster's is not."""
    if not session.elsewhere or session.left is not None or session.record is None:
        return
    names = {view.name for view in session.elsewhere}
    now = [view for view in arm_views(session.record, patience_s=QUEUE_PATIENCE_S) if view.name in names]
    if any(is_queued(view) for view in now):
        print("the job that waits for the queued arms concludes when the last one has ended", file=sys.stderr)
        session.left = os.EX_OK
    else:
        _wait(view.directory for view in now)


def _last(folder: Path) -> Path:
    known = [path.parent for path in folder.glob("*/experiment.json")]
    if not known:
        raise RecordError(f"resume={LAST}: there is no experiment in {folder}. Give the directory: resume=DIR")
    return max(known, key=lambda path: (path / "experiment.json").stat().st_mtime)


def _wait(running: Iterable[Path]) -> None:
    """Arms that another driver left running end on their own."""
    for directory in running:
        told = False
        while (view := ArmView(directory)).state == "running":
            if not told:
                print(f"waiting for {view.name}, which is running (pid {view.status.get('pid')})", file=sys.stderr)
                told = True
            time.sleep(WAIT_S)
