"""The trackers' process: `python -m evsys_hydra.trackers EXPERIMENT [--follow]`, a thread for each tracker.

With --follow it goes on until stdin ends. Warnings go to stderr, one for each tracker, and the report as JSON to
stdout; what the libraries print goes to sync/trackers.log.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from .. import registry
from ..config import KindConfig
from ..errors import StoreError
from .mirror import Mirror
from .process import settings_of

POLL_S = 2.0
LONGEST_PAUSE_S = 60.0
LAST_S = 60
"""So long after the end of stdin the process ends, whatever the libraries are waiting for."""
SILENT = {
    "DO_NOT_TRACK": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
}
"""The libraries' own reports of usage and errors."""


class Sending(threading.Thread):
    """Keeps one tracker up to date.

    Args:
        directory: the experiment's.
        name: the tracker's in the config.
        settings: its settings.
        over: set when the sweep is over: one pass more, and end.
        warn: tells the user.
    """

    def __init__(
        self, directory: Path, name: str, settings: KindConfig, over: threading.Event, warn: Callable[[str], None]
    ) -> None:
        super().__init__(name=f"tracker-{name}", daemon=True)
        self.sent = 0
        self.error: str | None = None
        self._directory, self._name, self._settings = directory, name, settings
        self._over, self._warn = over, warn
        self._mirror: Mirror | None = None
        self._warned = False

    def run(self) -> None:
        pause = POLL_S
        while not self._over.is_set():
            self._pass(live=True)
            pause = POLL_S if self.error is None else min(2 * pause, LONGEST_PAUSE_S)
            self._over.wait(pause)
        self._pass(live=False)

    def _pass(self, *, live: bool) -> None:
        try:
            if self._mirror is None:
                open_tracker = registry.trackers.get(self._settings.kind).target
                self._mirror = Mirror(self._directory, self._name, open_tracker(self._settings, self._directory))
            self._mirror.send(live=live)
            self.error = None
        except ImportError as error:
            self._failed(f"needs the package {error.name}: pip install 'evsys_hydra[trackers]'")
        except Exception as error:  # whatever a tracker raises: the records are on disk
            logging.exception("tracker %s", self._name)
            self._failed(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}")
        self.sent = self._mirror.sent if self._mirror is not None else 0

    def _failed(self, error: str) -> None:
        self.error = error
        if not self._warned:
            self._warn(f"tracker {self._name}: {error}\nThe records wait on disk: evsys-hydra sync {self._directory}")
        self._warned = True


def main(directory: Path, follow: bool) -> int:
    """Run until all is sent, or until stdin ends and what came last is sent."""
    os.environ.update({name: value for name, value in SILENT.items() if name not in os.environ})
    warnings, report = _own_streams(directory)

    def warn(text: str) -> None:
        os.write(warnings, f"{text}\n".encode())

    try:
        settings = settings_of(directory)
    except Exception as error:
        warn(f"The trackers of {directory} cannot be used: {error}")
        return 1
    over = threading.Event()
    threads = [Sending(directory, name, part, over, warn) for name, part in settings.items()]
    if not follow:
        over.set()
    for thread in threads:
        thread.start()
    if follow:
        while sys.stdin.buffer.read(65536):
            pass
        over.set()
        signal.alarm(LAST_S)
    for thread in threads:
        thread.join()
    found: dict[str, Any] = {
        name: {"sent": thread.sent, "error": thread.error} for name, thread in zip(settings, threads, strict=True)
    }
    os.write(report, orjson.dumps(found) + b"\n")
    return 1 if any(thread.error for thread in threads) else 0


def _own_streams(directory: Path) -> tuple[int, int]:
    """stderr and stdout for us alone: what libraries print goes to a file."""
    warnings, report = os.dup(2), os.dup(1)
    path = directory / "sync" / "trackers.log"
    try:
        path.parent.mkdir(exist_ok=True)
        log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    return warnings, report


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), "--follow" in sys.argv[2:]))
