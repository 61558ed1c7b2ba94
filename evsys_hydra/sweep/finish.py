"""The end of a driver: conclude what it began, show it, tell the store, and know the exit status."""

from __future__ import annotations

import sys

from ..errors import EvsysError
from ..record import ArmView
from ..results import ExperimentResult
from .conclude import conclude, note_waiting
from .session import Session, begun
from .show import show_result


def finish_all() -> int:
    """Conclude every experiment that this process began and did not conclude yet.

    Returns:
        The exit status: 0 if every experiment completed, 1 if one failed or no conclusion could be written.
    """
    return max((_status(session) for session in begun()), default=0)


def finish(session: Session) -> ExperimentResult:
    """Conclude a session once, show the result, and bring the store up to date.

    Raises:
        RecordError: the conclusion could not be written.
    """
    if session.result is None:
        _mark_unheard(session)
        session.result = conclude(session.directory)
        show_result(session.result, session.directory)
        session.concluded()
        report = session.close()
        if report is not None:
            note_waiting(session.directory, report.waiting)
        if report is not None and (report.waiting or report.error):
            print(
                f"Records wait for the store: {report}\nSend them later: evsys-hydra sync {session.directory}",
                file=sys.stderr,
            )
    return session.result


def _status(session: Session) -> int:
    if session.record is None or not session.names:
        return 1
    if session.left is not None:
        return session.left
    try:
        return 0 if finish(session).status == "completed" else 1
    except EvsysError as error:
        print(error, file=sys.stderr)
        return 1


def _mark_unheard(session: Session) -> None:
    """An arm whose launcher never started it says so, instead of looking as if it were still to come."""
    from .process import write_exit

    assert session.record is not None
    for name in session.names:
        arm = ArmView(session.record.arm_directory(name))
        if arm.state == "pending":
            write_exit(arm.directory, "never_started", "NeverStarted: the sweep ended before this arm ran")
