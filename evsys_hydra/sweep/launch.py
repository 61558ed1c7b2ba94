"""Running arms on this machine: some at a time, each in its own process, each GPU given to one arm at a time.

The driver keeps the queue and watches; a fork server (`forkserver`) that has the heavy libraries imported starts the
arms. If the driver dies, the server lets the running arms finish, starts no more, and concludes the experiment.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import yaml

from ..causes import kernel_oom_kills
from ..errors import ConfigError
from ..registry import algorithms, inference
from .chain import chains, start_next
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
        needs = what_they_need(directories)
        places = Places(visible_gpus(), self.n_jobs)
        places.check(needs.gpus)
        queue = deque(chains(directories))
        after: dict[Path, list[Path]] = {}
        running: dict[int, Launched] = {}
        with Interrupts() as interrupts, ForkServer(self.experiment, needs.preload, places.slots) as server:
            while queue or running:
                if interrupts.caught:
                    self._cancel(queue)
                while queue and server.alive:
                    if not start_next(queue[0]):
                        queue.popleft()
                        continue
                    gpus = places.take(needs.gpus.get(queue[0][0], 1))
                    if gpus is None:
                        break
                    directory, *after[directory] = queue.popleft()
                    self._start(server, directory, gpus, running)
                if not server.alive:
                    self._server_died([*queue, *after.values()], running)
                    return
                self._end_overdue(running, cancel=interrupts.caught > 0, now=interrupts.caught > 1)
                for message in server.receive(timeout=self._patience(running)):
                    ended = running.pop(message["pid"], None)
                    if ended is not None:
                        places.give_back(ended.gpus)
                        finish(ended.directory, message["code"], ended)
                        if rest := after.pop(ended.directory):
                            queue.appendleft(rest)

    def _start(self, server: ForkServer, directory: Path, gpus: list[str], running: dict[int, Launched]) -> None:
        rotate_log(directory)
        pid = server.start(directory, ",".join(gpus) or None)
        running[pid] = Launched(directory, pid, time.monotonic(), gpus, kernel_oom_kills())

    def _cancel(self, queue: deque[list[Path]]) -> None:
        for directory in itertools.chain(*queue):
            write_exit(directory, "cancelled", "Cancelled: the sweep was interrupted before this arm ran")
        queue.clear()

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

    def _server_died(self, waiting: Sequence[Sequence[Path]], running: dict[int, Launched]) -> None:
        for arm in running.values():
            write_exit(arm.directory, "killed", "Killed: the arm's fork server died and took the arm with it")
        for directory in itertools.chain(*waiting):
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


@dataclass
class Needs:
    """What arms need.

    Args:
        preload: what the fork server imports once: "torch" where our parts train or generate, "peft" for adapters.
        gpus: GPUs of each arm that needs more than one.
    """

    preload: str
    gpus: dict[Path, int]


def what_they_need(directories: Sequence[Path]) -> Needs:
    """Read from the arms' configs; one that cannot be read needs nothing here and fails in its own process."""
    preload: set[str] = set()
    gpus: dict[Path, int] = {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for directory in directories:
        try:
            config = yaml.load((directory / "config.yaml").read_bytes(), Loader=loader)
            parts = (config["algorithm"]["kind"], algorithms), (config["inference"]["kind"], inference)
            model = config["model"]
        except (OSError, KeyError, TypeError, yaml.YAMLError):
            continue
        if (model.get("processes") or 1) > 1 and config["algorithm"]["kind"] != "none":
            gpus[directory] = model["processes"]
        if any(kind in registry.builtin and kind not in ("none", "api") for kind, registry in parts):
            preload.add("torch")
            if model.get("lora"):
                preload.add("peft")
    return Needs(",".join(sorted(preload)), gpus)


class Places:
    """What arms run on: each GPU is given to one arm at a time; without GPUs, so many arms at a time.

    Args:
        n_jobs: arms at a time, but never more than GPUs where there are some; None: one for each GPU, else one.
    """

    def __init__(self, gpus: Sequence[str], n_jobs: int | None) -> None:
        self._gpus = list(gpus)
        self._has_gpus = bool(gpus)
        self.slots = min(n_jobs or len(gpus), len(gpus)) if gpus else n_jobs or 1
        self._free = self.slots

    def check(self, needed: Mapping[Path, int]) -> None:
        """Raises: ConfigError, naming arms that need more GPUs than there are."""
        many = {path.name: count for path, count in needed.items() if self._has_gpus and count > len(self._gpus)}
        if many:
            name, count = next(iter(many.items()))
            more = f" and {len(many) - 1} more" if len(many) > 1 else ""
            raise ConfigError(
                f"model.processes={count} of {name}{more}: an arm needs a GPU for each process, and {len(self._gpus)} "
                f"are visible here ({', '.join(self._gpus)}). Nothing was launched. Lower model.processes, or send the "
                "arms to a cluster: hydra/launcher=submitit_slurm"
            )

    def take(self, count: int) -> list[str] | None:
        """A place, with so many GPUs if there are any; None while it is not free."""
        if not self._free or (self._has_gpus and count > len(self._gpus)):
            return None
        self._free -= 1
        taken, self._gpus = (self._gpus[:count], self._gpus[count:]) if self._has_gpus else ([], [])
        return taken

    def give_back(self, gpus: Sequence[str]) -> None:
        """A place is free again."""
        self._free += 1
        self._gpus += gpus


def visible_gpus() -> list[str]:
    """Ids of the GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; asks no driver library."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [part for part in given.split(",") if part.strip() and part.strip() != "-1"]
    return [str(number) for number in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
