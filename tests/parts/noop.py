"""Parts for tests of everything but training: an algorithm that behaves as told, and a client that answers at once."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field

from evsys_hydra import (
    KindConfig,
    Request,
    Result,
    RunConfig,
    RunResult,
    TrainContext,
    register_algorithm,
    register_inference,
)


class NoopConfig(KindConfig):
    """An algorithm that trains nothing."""

    lr: float = 1.0
    do: str = "complete"
    """complete, raise, custom, exit, os_exit, busy_exit, kill, memory, fill or loop."""
    seconds: float = 0.0
    skill: float = Field(0.5, ge=0, le=1)
    """Share of the tasks that the trained model will answer well."""


class CustomError(Exception):
    """An exception that cannot be unpickled: its __init__ wants more than its args."""

    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(f"code {code}: {why}")


@register_algorithm("noop", config=NoopConfig)
def train(config: NoopConfig, context: TrainContext) -> RunResult:
    """Behave as `do` says; an arm that completes leaves its skill in a file as its checkpoint."""
    context.record.metrics(1, {"loss": config.lr})
    time.sleep(config.seconds)
    _behave(config.do)
    checkpoint = context.directory / "checkpoints" / "skill.txt"
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.write_text(str(config.skill))
    return RunResult(context.run.name, metrics={"loss": config.lr}, artifacts={"checkpoint": str(checkpoint)})


def _behave(do: str) -> None:
    if do == "raise":
        raise ValueError("this recipe does not work")
    if do == "custom":
        raise CustomError(7, why="on purpose")
    if do == "exit":
        sys.exit(3)
    if do == "os_exit":
        os._exit(9)
    if do == "busy_exit":
        os._exit(75)  # what an arm's process says when another one runs the arm
    if do == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "memory":
        limit = 400 * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        held = []
        while True:
            held.append(bytearray(50 * 1024 * 1024))
    if do == "fill":
        _fill_the_disk(Path(os.environ["FILL"]) / "filler")
    while do == "loop":
        time.sleep(0.1)


def _fill_the_disk(path: Path) -> None:
    """Take every byte the file system has left, then one more."""
    with path.open("wb", buffering=0) as file:
        for size in (1_000_000, 1_000, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
        file.write(b"x")


class SkilledConfig(KindConfig):
    """A client whose answers are right for a share of the tasks."""


class Skilled:
    """Answers a task with its last word if hash(task, seed) falls below the skill."""

    def __init__(self, skill: float, seed: int) -> None:
        self.skill, self.seed = skill, seed

    def generate(
        self, requests: Sequence[Request], on_result: Callable[[int, Result], None] | None = None
    ) -> list[Result]:
        results = []
        for index, request in enumerate(requests):
            words = request.messages[-1]["content"].split()
            digest = hashlib.sha256(f"{request.messages[-1]['content']}".encode()).digest()
            text = words[-1] if digest[0] / 256 < self.skill else "?"
            results.append(Result(text=text, completion_tokens=1))
            if on_result is not None:
                on_result(index, results[-1])
        return results


@register_inference("skilled", config=SkilledConfig)
def open_skilled(config: SkilledConfig, checkpoint: str | None, run: RunConfig) -> Skilled:
    """The client of a noop checkpoint; 0.1 for the untrained model."""
    path = Path(checkpoint or "")
    return Skilled(float(path.read_text()) if path.suffix == ".txt" else 0.1, run.seed)
