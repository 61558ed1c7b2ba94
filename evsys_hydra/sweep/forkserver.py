"""The process that forks arms: `python -m evsys_hydra.sweep.forkserver EXPERIMENT [torch,peft]`.

It imports the heavy libraries once, then reads {"arm": directory, "gpu": id} lines from stdin and answers on stdout
{"started", "pid"} and, later, {"pid", "code"}. It must stay single-threaded: a fork copies only the calling thread.
When the driver is gone (end of stdin without a stop), the running arms finish, and the experiment is concluded.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import orjson

from ..causes import kernel_oom_kills
from ..config import ExperimentConfig, RunConfig
from ..hydra_job import hydra_schema
from ..record import provenance
from ..registry import load_plugins
from .process import Launched, become_arm, finish

LIGHT = (
    "evsys_hydra.arm",
    "evsys_hydra.benchmark.scoring",
    "evsys_hydra.inference.plain",
    "evsys_hydra.store.auto",
    "evsys_hydra.store.local",
    "evsys_hydra.store.none",
    "evsys_hydra.sweep.callback",
    "evsys_hydra.training.context",
    "evsys_hydra.training.rows",
    "hydra.core.utils",
    "hydra._internal.callbacks",
    "hydra._internal.logging_config",
)
HEAVY = {
    "torch": (
        "torch",
        "transformers.models.auto.modeling_auto",
        "transformers.models.auto.tokenization_auto",
        "transformers.models.llama.modeling_llama",
        "evsys_hydra.training.dpo",
        "evsys_hydra.training.grpo",
        "evsys_hydra.training.loop",
        "evsys_hydra.training.loss",
        "evsys_hydra.training.optimizer",
        "evsys_hydra.training.sdft",
        "evsys_hydra.training.sft",
        "evsys_hydra.inference.decoding",
        "evsys_hydra.inference.local",
    ),
    "peft": ("peft",),
}


def main(experiment: Path, preload: Sequence[str]) -> int:
    """Serve until the driver says stop or is gone; returns the exit code."""
    _Server(experiment).serve(preload)
    return 0


class _Server:
    def __init__(self, experiment: Path) -> None:
        self.experiment = experiment
        self.children: dict[int, tuple[Path, int]] = {}
        self.driver = True
        # the pipe to the driver moves away from fd 1, so that an arm's or a library's print cannot corrupt it
        self.out = os.dup(1)
        os.set_inheritable(self.out, False)
        os.dup2(2, 1)
        self.woken, self.wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM tells every process of a job; the driver says what to do
        signal.set_wakeup_fd(self.wake, warn_on_full_buffer=False)

    def serve(self, preload: Sequence[str]) -> None:
        _import(LIGHT)
        _warm_up()
        for part in preload:
            _import(HEAVY[part])
        gc.freeze()  # a collection in an arm must not copy the pages of what was imported here
        buffer, stopped = b"", False
        while True:
            watched = [self.woken] if not self.driver or stopped else [self.woken, 0]
            ready, _, _ = select.select(watched, [], [], 5.0)
            if self.woken in ready:
                os.read(self.woken, 4096)
            if 0 in ready:
                data = os.read(0, 65536)
                self.driver = bool(data)
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    message = orjson.loads(line)
                    if message.get("stop"):
                        stopped = True
                    else:
                        self._fork(Path(message["arm"]), message.get("gpu"))
            self._reap()
            if (stopped or not self.driver) and not self.children:
                break
        if not stopped:
            self._conclude()

    def _fork(self, directory: Path, gpu: str | None) -> None:
        before = kernel_oom_kills()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for handle in (self.out, self.woken, self.wake):
                os.close(handle)
            become_arm(directory, gpu)
        self.children[pid] = (directory, before)
        self._tell({"started": str(directory), "pid": pid})

    def _reap(self) -> None:
        while self.children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            directory, oom_kills = self.children.pop(pid, (None, 0))
            code = os.waitstatus_to_exitcode(status)
            if directory is not None and not self._tell({"pid": pid, "code": code}):
                finish(directory, code, Launched(directory, pid, time.monotonic(), [], oom_kills))

    def _tell(self, message: dict[str, object]) -> bool:
        if not self.driver:
            return False
        try:
            os.write(self.out, orjson.dumps(message) + b"\n")
        except OSError:
            self.driver = False
        return self.driver

    def _conclude(self) -> None:
        from .conclude import conclude

        conclude(self.experiment)


def _warm_up() -> None:
    """Do once what every arm would do again and then inherits."""
    provenance.versions(), provenance.hardware(), load_plugins([]), hydra_schema()
    for model in (ExperimentConfig, RunConfig):
        model.model_rebuild()
    inspect.getmodule(compile("", "nowhere", "exec"))  # fills the table by which pydantic finds a class's docstrings


def _import(names: Sequence[str]) -> None:
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [part for part in sys.argv[2].split(",") if part]))
