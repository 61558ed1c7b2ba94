"""Where trackers run: in a process of their own, because what such libraries do to a process is not the driver's.

They start threads and services, take signals, print, hook into the exit, and may hang. The driver starts the process,
closes its stdin at the end, and waits for a bounded time; if the driver dies, the process ends by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import orjson

from .. import registry
from ..composed import shared_part
from ..config import KindConfig, typed

PATIENCE_S = 20.0


@dataclass
class Following:
    """The process that keeps the trackers up to date while a sweep runs.

    Args:
        directory: the experiment's.
    """

    directory: Path
    _process: subprocess.Popen[bytes]

    def stop(self, patience_s: float = PATIENCE_S) -> None:
        """Have it send what came last, and end it; never raises. What is left waits for `evsys-hydra sync`."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            with contextlib.suppress(OSError):
                print(
                    f"The trackers did not take everything within {patience_s:g} s. "
                    f"Send the rest later: evsys-hydra sync {self.directory}",
                    file=sys.stderr,
                )


def follow(directory: Path) -> Following:
    """Start the process that mirrors an experiment to its trackers."""
    return Following(directory, _start(directory, "--follow", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL))


def send(directory: Path, *, budget_s: float | None = None) -> dict[str, dict[str, object]]:
    """Bring the trackers of an experiment up to date, once.

    Args:
        budget_s: give up after so many seconds; None: never.

    Returns:
        Tracker -> {sent, error}; {} for an experiment without trackers.
    """
    if not named_in(directory):
        return {}
    process = _start(directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        said, _ = process.communicate(timeout=budget_s)
        found: dict[str, dict[str, object]] = orjson.loads(said)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"trackers": {"sent": 0, "error": f"they did not take everything within {budget_s:g} s"}}
    except orjson.JSONDecodeError:
        return {"trackers": {"sent": 0, "error": f"the process ended with status {process.returncode}"}}
    return found


def named_in(directory: Path) -> dict[str, object]:
    """The `tracker` part of an experiment's config; {} without one."""
    return dict(shared_part(directory, "tracker") or {})


def settings_of(directory: Path) -> dict[str, KindConfig]:
    """Name -> typed settings of an experiment's trackers."""
    named = {
        name: {"kind": name, **part} if isinstance(part, dict) else part for name, part in named_in(directory).items()
    }
    return {name: typed(registry.trackers, part) for name, part in named.items()}


def _start(directory: Path, *words: str, stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        [sys.executable, "-m", "evsys_hydra.trackers", str(directory), *words],
        stdin=stdin,
        stdout=stdout,
        env=environment,
        start_new_session=True,  # Ctrl-C in the terminal is the driver's to handle
    )
