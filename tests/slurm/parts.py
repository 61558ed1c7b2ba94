"""Algorithms for tests on a cluster: one that goes on from its checkpoint, and one of several ranks."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from evsys_hydra import KindConfig, RunResult, TrainContext, register_algorithm


class StepsConfig(KindConfig):
    """Counts to `steps`, keeping the count in a checkpoint after each."""

    lr: float = 1.0
    steps: int = 5
    seconds: float = 0.2
    """How long a step takes."""
    deaf: bool = False
    """Ignore SIGTERM."""


@register_algorithm("steps", config=StepsConfig)
def train_steps(config: StepsConfig, context: TrainContext) -> RunResult:
    """Go on from the checkpoint of an earlier attempt, and say from where."""
    if config.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    path = context.directory / "checkpoints" / "count.txt"
    path.parent.mkdir(exist_ok=True)
    first = int(path.read_text()) if path.exists() else 0
    context.record.event("note", began_at=first)
    for step in range(first + 1, config.steps + 1):
        time.sleep(config.seconds)
        write(path, str(step))
        context.record.progress("train", step, config.steps)
    return RunResult(context.run.name, metrics={"loss": config.lr}, artifacts={"checkpoint": str(path)})


class RankedConfig(KindConfig):
    """Sums the ranks' numbers by torch.distributed."""

    lr: float = 1.0
    failing_rank: int = -1
    """Raises before it joins the others; -1: none."""
    late: bool = False
    """The failing rank raises after the sum instead, when rank 0 has nothing left to do."""


@register_algorithm("ranked", config=RankedConfig)
def train_ranked(config: RankedConfig, context: TrainContext) -> RunResult:
    """The sum of 1 + rank over all ranks is the metric."""
    import torch
    from torch import distributed

    rank = int(os.environ["RANK"])
    if rank == config.failing_rank and not config.late:
        raise ValueError(f"rank {rank} does not work")
    distributed.init_process_group("gloo")
    total = torch.tensor([1.0 + rank])
    distributed.all_reduce(total)
    distributed.destroy_process_group()
    if rank == config.failing_rank:
        time.sleep(1)
        raise ValueError(f"rank {rank} does not work")
    print(f"rank {rank} of {os.environ['WORLD_SIZE']}: {total.item()}")
    return RunResult(context.run.name, metrics={"loss": config.lr, "total": total.item()})


def write(path: Path, text: str) -> None:
    """Replace a file's content at once."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
