"""Distributed arms: a process for each rank, all of which must complete.

Rank 0 is the arm: it writes its record, evaluates, and says `completed` only when every other rank has ended well. The
others train and record beside it, in ranks/<r>/: status.json, arm.log, exit.json. A rank that fails ends the others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..arm import ArmFailed, run_arm
from ..errors import ConfigError
from ..record import ArmRecord, ArmView, Cause
from ..record.files import read_json, write_json
from ..sweep.launch import visible_gpus
from .states import Ending
from .supervisor import Supervisor, own_ending

POLL_S = 0.2
ROOT_CAUSE_S = 3.0


class RankFailed(ArmFailed):
    """Another rank failed; `arm_cause` is its cause."""

    arm_cause: Cause = "user_error"


def run_rank(directory: Path, ranks: int, *, max_num_timeout: int) -> int:
    """Supervise this task's rank of the arm; returns the exit code."""
    rank = int(os.environ["SLURM_PROCID"])
    own = rank_directory(directory, rank)
    own.mkdir(parents=True, exist_ok=True)
    here = directory if rank == 0 else own

    def body(_: Path) -> int:
        return run_arm(directory, FirstRank(directory, ranks) if rank == 0 else OtherRank(own, rank))

    code = Supervisor(
        here,
        max_num_timeout=max_num_timeout if rank == 0 else 0,
        prepare=set_up_distributed,
        body=body,
        peer_failed=lambda: failed_peer(directory, ranks, rank),
        requeues=rank == 0,
    ).run()
    arm = ArmView(here)
    ended = {
        "state": "completed" if code == 0 else "failed",
        "cause": arm.cause,
        "error": arm.error,
        "again": bool(arm.exit.get("again")),
        "ended": time.time(),
    }
    write_json(own / "ended.json", {**run_of_job(), **ended})
    return code


class FirstRank(ArmRecord):
    """The arm's record, which completes when every rank has."""

    def __init__(self, directory: Path, ranks: int) -> None:
        super().__init__(directory)
        self._ranks = ranks

    def complete(self, result: Mapping[str, Any]) -> None:
        """Wait for the other ranks, then say `completed`.

        Raises:
            RankFailed: one of them failed.
        """
        while True:
            ended = list(endings(self.directory, self._ranks, besides=0))
            for rank, facts in ended:
                if facts["state"] != "completed":
                    _raise_failed(rank, facts)
            if len(ended) == self._ranks - 1:
                break
            time.sleep(POLL_S)
        super().complete(result)

    def fail(self, cause: Cause, error: str, traceback: str | None = None, **facts: Any) -> None:
        """Say `failed`: by the rank that failed first, of which a broken connection here is only the consequence."""
        deadline = time.monotonic() + ROOT_CAUSE_S
        while time.monotonic() < deadline and not error.startswith("Rank "):
            for rank in range(1, self._ranks):
                other = ArmView(rank_directory(self.directory, rank))
                if other.status.get("state") == "failed" and other.status.get("job_id") == os.environ["SLURM_JOB_ID"]:
                    cause, error = other.cause or cause, f"Rank {rank}: {other.error}"
                    traceback = other.status.get("traceback") or traceback
                    break
            time.sleep(POLL_S)
        super().fail(cause, error, traceback, **facts)


class OtherRank(ArmRecord):
    """What a rank beside the first records: it trains, and evaluates nothing."""

    def __init__(self, directory: Path, rank: int) -> None:
        super().__init__(directory)
        self.rank = rank
        self.arm_directory = directory.parent.parent


def set_up_distributed() -> None:
    """RANK, WORLD_SIZE, MASTER_ADDR, ... as torch.distributed reads them, and this rank's GPU of those of the node.

    Raises:
        ConfigError: the node has several GPUs, but not one for each task. (A task that sees one may have its own.)
    """
    from submitit.helpers import TorchDistributedEnvironment

    environment = TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    gpus, tasks = visible_gpus(), environment.local_world_size
    if 1 < len(gpus) < tasks:
        raise ConfigError(
            f"{tasks} tasks on a node with {len(gpus)} GPUs ({', '.join(gpus)}): set hydra.launcher.tasks_per_node to "
            "at most the GPUs of a node (hydra.launcher.gpus_per_node)"
        )
    if len(gpus) > 1 and tasks > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[environment.local_rank]


def failed_peer(directory: Path, ranks: int, rank: int) -> Ending | None:
    """How another rank failed; None while none did."""
    for other, facts in endings(directory, ranks, besides=rank):
        if facts["state"] == "completed":
            continue
        cause: Cause = facts.get("cause") or "killed"
        ours = own_ending() if cause in ("preempted", "cancelled") else None  # SLURM ends the whole job, node by node
        return ours or Ending(cause, f"Rank {other}: {facts.get('error')}", bool(facts.get("again")))
    return None


def endings(directory: Path, ranks: int, *, besides: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """How the other ranks of this run of the job ended, those that have, first the one that ended first."""
    found = []
    for rank in range(ranks):
        facts = read_json(rank_directory(directory, rank) / "ended.json") if rank != besides else None
        if facts and run_of_job().items() <= facts.items():
            found.append((rank, facts))
    yield from sorted(found, key=lambda pair: pair[1]["ended"])


def run_of_job() -> dict[str, str]:
    """What tells this run of the job from an earlier one."""
    return {"job": os.environ.get("SLURM_JOB_ID", ""), "restart": os.environ.get("SLURM_RESTART_COUNT", "0")}


def rank_directory(directory: Path, rank: int) -> Path:
    """ranks/<r>/ of an arm's directory."""
    return directory / "ranks" / str(rank)


def _raise_failed(rank: int, facts: Mapping[str, Any]) -> NoReturn:
    failed = RankFailed(f"Rank {rank}: {facts.get('error')}")
    failed.arm_cause = facts.get("cause") or "killed"
    raise failed
