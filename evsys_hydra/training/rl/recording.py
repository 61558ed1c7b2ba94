"""Rollouts on disk: predictions/rollouts.jsonl, one line a sample, of kind "rollout".

Append-only. A resumed training makes the steps after its checkpoint again; lines that are there already are not
written a second time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ...benchmark.task import Task
from ...benchmark.worker import Outcome
from ...record.arm import predictions_path
from ...record.files import LineWriter, read_lines
from .sampling import Rollout


class RolloutFile:
    """The rollouts of one training.

    Args:
        directory: the arm's.
        mark: of this training (its hash): lines of another one are moved to `rollouts.jsonl.old`.
        limit: lines a step; "all": every sample.
    """

    def __init__(self, directory: Path, mark: str, limit: int | Literal["all"]) -> None:
        self._mark = mark[:16]
        self._limit = limit
        path = predictions_path(directory, "rollouts")
        if any((row.get("metadata") or {}).get("training") != self._mark for row in read_lines(path)):
            os.replace(path, path.with_name(f"{path.name}.old"))
        self._known = {_key(row) for row in read_lines(path)}
        self._writer = LineWriter(path)

    def write(
        self,
        step: int,
        tasks: Sequence[Task],
        rollouts: Sequence[Rollout],
        outcomes: Sequence[Outcome],
        advantages: Sequence[float],
    ) -> None:
        """Write a step's samples.

        Args:
            tasks: what each rollout answers.
        """
        together = zip(tasks, rollouts, outcomes, advantages, strict=True)
        for task, rollout, outcome, advantage in list(together)[: None if self._limit == "all" else self._limit]:
            row = {
                "kind": "rollout",
                "step": step,
                "task_id": task.task_id,
                "sample_idx": rollout.sample_idx,
                "instruction": task.instruction,
                "expected": task.verifier.expected,
                "reward": outcome.reward,
                "advantage": round(float(advantage), 6),
                "output": rollout.text,
                "error": outcome.error,
                "metadata": {
                    "completion_tokens": len(rollout.answer_ids),
                    "finish_reason": rollout.finish_reason,
                    **(outcome.facts or {}),
                    "task": task.metadata,
                    "training": self._mark,
                },
            }
            if _key(row) not in self._known:
                self._writer.append(row)

    def close(self) -> None:
        """Wait until the lines are on the disk."""
        self._writer.sync()
        self._writer.close()


def _key(row: dict[str, Any]) -> bytes:
    """What makes two lines the same sample, where it stands and what it says, as a hash: there are many of them."""
    same = [row.get(name) for name in ("step", "task_id", "sample_idx", "output", "reward")]
    return hashlib.blake2b(repr(same).encode(errors="surrogatepass"), digest_size=16).digest()
