"""Running arms on this machine: some at a time, each in its own process, each GPU given to one arm at a time.

The driver keeps the queue and watches; a fork server (`forkserver`) that has the heavy libraries imported starts the
arms. If the driver dies, the server lets the running arms finish, starts no more, and concludes the experiment.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import yaml

from ..causes import kernel_oom_kills
from ..registry import algorithms, inference
from .process import Launched, finish, rotate_log, write_exit

GRACE_S = 10.0


@dataclass
class LocalPool:
    """Runs arms' directories through a fork server.

    Args:
        experiment: the experiment's directory.
        n_jobs: arms at a time, but never more than GPUs where there are some; None: one for each GPU, else one.
        timeout_min: longest time for an arm, in minutes; None: no limit.
    """

    experiment: Path
    n_jobs: int | None = None
    timeout_min: float | None = None

    def run(self, directories: Sequence[Path]) -> None:
        """Run every arm to its end; Ctrl-C or SIGTERM ends the running ones and cancels the rest.

        Never raises for what an arm does.
        """
        gpus: list[str | None] = list(visible_gpus())
        slots = min(self.n_jobs or len(gpus), len(gpus)) if gpus else self.n_jobs or 1
        places: list[str | None] = gpus[:slots] if gpus else [None] * slots
        queue = list(directories)
        running: dict[int, Launched] = {}
        with Interrupts() as interrupts, ForkServer(self.experiment, to_preload(directories), slots) as server:
            while queue or running:
                if interrupts.caught and queue:
                    for directory in queue:
                        write_exit(directory, "cancelled", "Cancelled: the sweep was interrupted before this arm ran")
                    queue.clear()
                while queue and places and server.alive:
                    self._start(server, queue.pop(0), places.pop(0), running)
                if not server.alive:
                    self._server_died(queue, running)
                    return
                self._end_overdue(running, cancel=interrupts.caught > 0, now=interrupts.caught > 1)
                for message in server.receive(timeout=self._patience(running)):
                    ended = running.pop(message["pid"], None)
                    if ended is not None:
                        places.append(ended.gpu)
                        finish(ended.directory, message["code"], ended)

    def _start(self, server: ForkServer, directory: Path, gpu: str | None, running: dict[int, Launched]) -> None:
        rotate_log(directory)
        pid = server.start(directory, gpu)
        running[pid] = Launched(directory, pid, time.monotonic(), gpu, kernel_oom_kills())

    def _end_overdue(self, running: dict[int, Launched], *, cancel: bool, now: bool) -> None:
        limit = self.timeout_min * 60 if self.timeout_min is not None else float("inf")
        for arm in running.values():
            elapsed = time.monotonic() - arm.started
            if arm.ending is None and (cancel or elapsed > limit):
                arm.ending = "cancelled" if cancel else "timeout"
                arm.kill_at = time.monotonic() + GRACE_S
                _signal_group(arm.pid, signal.SIGTERM)
            if arm.kill_at is not None and (now or time.monotonic() > arm.kill_at):
                _signal_group(arm.pid, signal.SIGKILL)

    def _patience(self, running: dict[int, Launched]) -> float:
        return 0.2 if self.timeout_min is not None or any(arm.ending for arm in running.values()) else 1.0

    def _server_died(self, queue: Sequence[Path], running: dict[int, Launched]) -> None:
        for arm in running.values():
            write_exit(arm.directory, "killed", "Killed: the arm's fork server died and took the arm with it")
        for directory in queue:
            write_exit(directory, "never_started", "NeverStarted: the fork server died before this arm ran")


class ForkServer:
    """The driver's end of the fork server process."""

    def __init__(self, experiment: Path, preload: str, slots: int) -> None:
        self._experiment = experiment
        self._preload = preload
        self._slots = slots
        self._buffer = b""
        self._ended: list[dict[str, Any]] = []
        self.alive = True

    def __enter__(self) -> ForkServer:
        environment = dict(os.environ)
        cores = len(os.sched_getaffinity(0))
        # torch's OpenMP threads spin while they wait: arms side by side must share the cores
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // self._slots)))
        environment.setdefault("OMP_WAIT_POLICY", "passive")
        environment.setdefault("TOKENIZERS_PARALLELISM", "false")
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "evsys_hydra.sweep.forkserver", str(self._experiment), self._preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(b'{"stop": true}\n')
            self._process.stdin.flush()
            self._process.stdin.close()
        try:
            self._process.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def start(self, directory: Path, gpu: str | None) -> int:
        """Fork an arm; returns its pid."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(orjson.dumps({"arm": str(directory), "gpu": gpu}) + b"\n")
            self._process.stdin.flush()
        except OSError:
            self.alive = False
            return -1
        pid = -1
        while self.alive and pid < 0:
            for message in self._read(timeout=None):
                if message.get("started") == str(directory):
                    pid = int(message["pid"])
                else:
                    self._ended.append(message)
        return pid

    def receive(self, timeout: float) -> list[dict[str, Any]]:
        """Arms that ended: {"pid", "code"} each."""
        messages, self._ended = self._ended, []
        return messages or self._read(timeout)

    def _read(self, timeout: float | None) -> list[dict[str, Any]]:
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        ready, _, _ = select.select([handle], [], [], timeout)
        if not ready:
            return []
        data = os.read(handle, 65536)
        if not data:
            self.alive = False
            return []
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [orjson.loads(line) for line in lines if line]


class Interrupts:
    """Counts Ctrl-C and SIGTERM instead of raising, and lets the sweep outlive a dropped terminal (SIGHUP)."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.caught = 0

    def __enter__(self) -> Interrupts:
        self._old = {number: signal.signal(number, self._catch) for number in self.SIGNALS}
        self._old[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.caught += 1
        what = "ending the running arms" if self.caught == 1 else "killing the running arms"
        with contextlib.suppress(OSError):
            print(f"\n{signal.Signals(number).name}: {what}, then concluding", file=sys.stderr, flush=True)


def to_preload(directories: Sequence[Path]) -> str:
    """What the fork server imports once for these arms: "torch" where ours trains or generates, "peft" for adapters."""
    wanted: set[str] = set()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for directory in directories:
        try:
            config = yaml.load((directory / "config.yaml").read_bytes(), Loader=loader)
            parts = (config["algorithm"]["kind"], algorithms), (config["inference"]["kind"], inference)
        except (OSError, KeyError, TypeError, yaml.YAMLError):
            continue
        if any(kind in registry.builtin and kind not in ("none", "api") for kind, registry in parts):
            wanted.add("torch")
            if config["model"].get("lora"):
                wanted.add("peft")
    return ",".join(sorted(wanted))


def visible_gpus() -> list[str]:
    """Ids of the GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; asks no driver library."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [part for part in given.split(",") if part.strip() and part.strip() != "-1"]
    return [str(number) for number in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
