"""Cancelling what an experiment runs on this machine: its driver is told, which ends the arms and concludes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

from ..errors import RecordError
from ..record import ArmView, ExperimentRecord, is_running
from .driver import driving, process_start
from .process import write_exit

BY_VERB = "by evsys-hydra cancel"


def cancel(experiment: Path, arm: str | None = None) -> list[str]:
    """End the driver of an experiment, or one running arm; the arms that are left are concluded.

    Returns:
        The names of the arms that were running or waiting.

    Raises:
        RecordError: they run on another machine, or the arm is not running.
    """
    record = ExperimentRecord.load(experiment)
    views = [ArmView(record.arm_directory(name)) for name in record.arm_names]
    driver = driving(experiment)
    _require_here(experiment, driver, views)
    if arm is not None:
        return [_cancel_arm(experiment, arm, views)]
    alive = [view for view in views if is_running(view.directory)]
    if driver is not None:  # it cancels the waiting ones as well, and concludes
        if process_start(driver["pid"]) == driver["started"]:
            os.kill(driver["pid"], signal.SIGTERM)
        return [view.name for view in views if view in alive or view.state == "pending"]
    for view in alive:  # a dead driver's arms run on in their fork server, which concludes
        end_arm(view, BY_VERB)
    return [view.name for view in alive]


def _cancel_arm(experiment: Path, arm: str, views: list[ArmView]) -> str:
    view = next((view for view in views if view.name == arm), None)
    if view is None:
        raise RecordError(f"No arm {arm!r} in {experiment}. Arms: {', '.join(view.name for view in views)}")
    if not is_running(view.directory):
        raise RecordError(
            f"{arm} is {view.state}, not running. To end the whole experiment: evsys-hydra cancel {experiment}"
        )
    end_arm(view, BY_VERB)
    return arm


def end_arm(view: ArmView, why: str) -> None:
    """Have the process of a running arm end, and say that it was told to."""
    write_exit(view.directory, "cancelled", f"Cancelled: {why}")
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(view.status["pid"], signal.SIGTERM)


def _require_here(experiment: Path, driver: dict[str, object] | None, views: list[ArmView]) -> None:
    """Processes of another machine cannot be told from here, where their locks are not seen either."""
    here = socket.gethostname()
    said_running = {str(view.status.get("node")) for view in views if view.status.get("state") == "running"}
    away = {host for host in [*said_running, str((driver or {}).get("host", here))] if host != here}
    if away and not any(is_running(view.directory) for view in views if view.status.get("node") == here):
        where = ", ".join(sorted(away))
        raise RecordError(f"{experiment} runs on {where}; cancel it there: evsys-hydra cancel {experiment}")
