"""The processes of an arm that trains in several: started, watched, ended.

The arm's own process forks a process for each rank and waits. Rank 0 writes into the arm's record, the others are
silent. The first rank that fails ends the others, and the arm with its cause; none outlives the arm.

Forks come from a thread of their own: the pool of threads that OpenMP computes with belongs to the thread that has
computed, and in a fork of that thread it is dead, so that the first computation waits for ever.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ..causes import cause_of, cause_of_exit, describe, kernel_oom_kills
from ..config import ModelConfig
from ..errors import ConfigError
from ..record.arm import Cause
from ..results import RunResult
from .context import Silent, TrainContext
from .distributed import joined, launched_ranks
from .errors import RankFailed

Config = TypeVar("Config")
T = TypeVar("T")
Train = Callable[[Config, TrainContext], RunResult]

ROOT_CAUSE_S = 1.0
"""So long after the first rank ended badly the others may still report what they died of."""
PR_SET_PDEATHSIG = 1


def in_processes(train: Train[Config], config: Config, context: TrainContext) -> RunResult:
    """Train in as many processes as the config or the launcher says; `context.ranks` tells each which one it is.

    Raises:
        RankFailed: a rank failed, with its cause and traceback. ConfigError: too few GPUs.
    """
    model = context.run.model
    sharded = model.parallel == "fsdp"
    launched = launched_ranks(model.processes)
    if launched > 1:
        with joined(int(os.environ["RANK"]), launched, sharded=sharded) as ranks:
            return train(config, replace(context, ranks=ranks))
    if model.processes == 1:
        return train(config, context)
    return _Processes(train, config, context).run()


def apart(act: Callable[..., T], *arguments: Any) -> T:
    """What a function gives in a process of its own, which leaves no GPU in use here and ends with it.

    Raises:
        RankFailed: the process was killed. Whatever the function raises.
    """
    fork, oom_kills = get_context("fork"), kernel_oom_kills()
    with (
        ThreadPoolExecutor(1) as thread,
        ProcessPoolExecutor(1, fork, initializer=_die_with, initargs=(os.getpid(),)) as process,
    ):
        try:
            return thread.submit(lambda: process.submit(act, *arguments).result()).result()
        except BrokenProcessPool as error:
            text = f"the process of {getattr(act, '__name__', act)} ended before it was done"
            if kernel_oom_kills() > oom_kills:
                raise RankFailed(f"{text}: the kernel killed it for its memory", "out_of_memory") from error
            raise RankFailed(text, "killed") from error


@dataclass(frozen=True)
class _Report:
    """How a rank ended, in its own words."""

    at: float
    result: RunResult | None = None
    cause: Cause = "user_error"
    error: str = ""
    traceback: str = ""


class _Processes:
    """The ranks of one training as the arm's process sees them."""

    def __init__(self, train: Train[Any], config: Any, context: TrainContext) -> None:
        self._train, self._config, self._context = train, config, context
        self._size = context.run.model.processes
        self._gpus = _gpus(context.run.model)
        self._pids: dict[int, int] = {}
        self._codes: dict[int, int] = {}

    def run(self) -> RunResult:
        """Start the ranks and wait for them; rank 0's result."""
        oom_kills = kernel_oom_kills()
        with tempfile.TemporaryDirectory(prefix="evsys-ranks-") as folder:
            sys.stdout.flush()
            sys.stderr.flush()
            with ThreadPoolExecutor(1) as thread:  # stays until the ranks have ended, as they end with it
                try:
                    thread.submit(self._fork_all, Path(folder)).result()
                    self._wait(Path(folder))
                finally:
                    self._kill()
                    self._context.record.catch_up()
            reports = {rank: _read(Path(folder) / str(rank)) for rank in range(self._size)}
        first = reports[0]
        if any(self._codes.values()) or first is None or first.result is None:
            raise self._failure(reports, kernel_oom_kills() - oom_kills)
        return first.result

    def _fork_all(self, folder: Path) -> None:
        for rank in range(self._size):
            self._fork(rank, folder)

    def _fork(self, rank: int, folder: Path) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _die_with(parent)
            self._be(rank, folder)
        self._pids[rank] = pid

    def _be(self, rank: int, folder: Path) -> NoReturn:
        """In the fork: train, report, end."""
        code = 1
        try:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            if self._gpus:
                os.environ["CUDA_VISIBLE_DEVICES"] = self._gpus[rank]
            import torch

            torch.set_num_threads(max(1, torch.get_num_threads() // self._size))
            model, record = self._context.run.model, self._context.record
            meeting = f"file://{folder / 'meeting'}"
            with joined(rank, self._size, sharded=model.parallel == "fsdp", rendezvous=meeting) as ranks:
                context = replace(self._context, ranks=ranks, record=record if rank == 0 else Silent())
                result = self._train(self._config, context)
            _write(folder / str(rank), _Report(time.time(), result))
            code = 0
        except BaseException as error:
            lines = "".join(traceback.format_exception(error))
            _write(folder / str(rank), _Report(time.time(), None, cause_of(error), describe(error), lines))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _wait(self, folder: Path) -> None:
        """Until all ranks have ended, or a moment after one has ended badly."""
        handles = {os.pidfd_open(pid): rank for rank, pid in self._pids.items()}
        deadline: float | None = None
        try:
            while handles:
                patience = None if deadline is None else deadline - time.monotonic()
                if patience is not None and patience <= 0:
                    return
                for handle in select.select(list(handles), [], [], patience)[0]:
                    rank = handles.pop(handle)
                    os.close(handle)
                    self._reap(rank)
                    if self._codes[rank] and deadline is None:
                        deadline = time.monotonic() + ROOT_CAUSE_S
        finally:
            for handle in handles:
                os.close(handle)

    def _reap(self, rank: int) -> None:
        _, status = os.waitpid(self._pids.pop(rank), 0)
        self._codes[rank] = os.waitstatus_to_exitcode(status)

    def _kill(self) -> None:
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
        for rank in list(self._pids):
            os.waitpid(self._pids.pop(rank), 0)

    def _failure(self, reports: dict[int, _Report | None], oom_kills: int) -> RankFailed:
        """A rank that died without a word is the cause (the others lose their connection to it), else who was first."""
        silent = [rank for rank in self._codes if self._codes[rank] and reports[rank] is None]
        told = sorted((report.at, rank) for rank, report in reports.items() if report and report.result is None)
        if silent:
            cause, text = cause_of_exit(self._codes[silent[0]], oom_kills=oom_kills)
            return RankFailed(f"rank {silent[0]} of {self._size}: {text}", cause)
        rank = told[0][1]
        report = reports[rank]
        assert report is not None
        failure = RankFailed(f"rank {rank} of {self._size}: {report.error}", report.cause)
        failure.__cause__ = RemoteTraceback(report.traceback)
        return failure


class RemoteTraceback(Exception):
    """The traceback of a rank's exception, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _gpus(model: ModelConfig) -> list[str]:
    """A GPU for each rank; none where there are none.

    Raises:
        ConfigError: there are fewer GPUs than processes, or this process uses one already, which none of its forks can.
    """
    from ..sweep.launch import visible_gpus

    gpus = visible_gpus()
    if gpus and "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        raise ConfigError(
            f"model.processes={model.processes}: this process has used a GPU already (an arm before this one did, in "
            "the same process), and no process that it starts could. Run each arm in a process of its own: "
            "hydra/launcher=isolated"
        )
    if gpus and len(gpus) < model.processes:
        raise ConfigError(
            f"model.processes={model.processes} needs as many GPUs; this arm has {len(gpus)} ({', '.join(gpus)})"
        )
    return gpus


def _die_with(parent: int) -> None:
    """End this process when its parent ends, however that happens."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _write(path: Path, report: _Report) -> None:
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(pickle.dumps(report))
    os.replace(unfinished, path)


def _read(path: Path) -> _Report | None:
    try:
        report: _Report = pickle.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return report
