"""Adaptive evaluation: an arm is scored in rounds, and no further once its group can no longer be the best.

There is no coordinator. All arms take the tasks in one random order; after each round an arm reads what the others have
written so far and decides about itself (see ranking/early_stopping.py). The first arms of a sequential sweep have
nobody to lose to and are scored in full.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .benchmark.results import PredictionRow
from .benchmark.task import Task
from .benchmark.tasks import name_of
from .config import BenchmarkConfig, ExperimentConfig
from .errors import RecordError
from .ranking.early_stopping import ALPHA_STOP, loses_to
from .record import ArmRecord, ArmView, ExperimentRecord
from .record.arm import predictions_path
from .record.files import read_lines
from .results import direction_of

ROUNDS = 16
FEWEST = 32
"""Tasks of a round, unless all tasks are fewer: batches stay full, and less would decide nothing."""

Rewards = NDArray[np.float64]
Rows = Mapping[tuple[str, int], PredictionRow]


class Adaptive:
    """The rounds of one arm's evaluation.

    Args:
        config: the arm's config.
        entry: the benchmark that decides; its metric is the experiment's success metric.
        record: the arm's record, among those of its rivals.
        benchmark_hash: seeds the order of the tasks.
    """

    def __init__(
        self, config: ExperimentConfig, entry: BenchmarkConfig, record: ArmRecord, benchmark_hash: str
    ) -> None:
        metadata = config.metadata
        key = str(metadata.success_metric).rsplit(".", 1)[-1]
        self._name, self._samples, self._hash = name_of(entry), entry.num_samples, benchmark_hash
        self._binary = key == "pass_rate"
        self._sign = 1.0 if direction_of(key, metadata.direction) == "maximize" else -1.0
        self._own = ArmView(record.arm_directory)
        named = {metadata.baseline, *(metadata.compare.model_dump().values() if metadata.compare else ())}
        self._exempt = self._own.role != "arm" or self._own.group in named
        self._order: list[Task] = []
        self._done = 0
        self._read: dict[Path, tuple[int, Rewards]] = {}
        self.facts: dict[str, Any] = {"alpha": ALPHA_STOP, "tasks": 0, "of": 0, "lost_to": None}
        """What the eval's record says: tasks scored, of how many, and the group that this one lost to."""

    def parts(self, tasks: Sequence[Task]) -> list[Sequence[Task]]:
        """The tasks in one order for all arms, cut into rounds."""
        self._order = sorted(tasks, key=lambda task: hashlib.sha256(f"{self._hash}{task.task_id}".encode()).digest())
        size = max(FEWEST, -(-len(tasks) // ROUNDS))
        self.facts["of"] = len(tasks)
        return [self._order[start : start + size] for start in range(0, len(tasks), size)]

    def go_on(self, part: Sequence[Task], rows: Rows) -> bool:
        """Whether the arm's group may still be the best, or is named by `baseline` or `compare`."""
        self._done += len(part)
        self.facts["tasks"] = self._done
        if not self._exempt and self._done < len(self._order):
            self.facts["lost_to"] = self._lost_to(rows)
        return self.facts["lost_to"] is None

    def _lost_to(self, rows: Rows) -> str | None:
        arms = self._arms()
        if said := next((lost for view in arms.get(self._own.group, []) if (lost := self._stopped(view))), None):
            return said
        runs = {group: self._runs(views, rows) for group, views in arms.items()}
        planned = {group: len(views) for group, views in arms.items()}
        own, planned_own = runs.pop(self._own.group, []), planned.pop(self._own.group, 1)
        return loses_to(own, runs, planned, planned_own=planned_own)

    def _arms(self) -> dict[str, list[ArmView]]:
        """Group -> all its arms, in the order they were planned.

        Failed ones count too: were the level divided among those that are left, each failure would raise it.
        """
        try:
            record = ExperimentRecord.load(self._own.directory.resolve().parent.parent)
        except RecordError:
            return {}
        found: dict[str, list[ArmView]] = {}
        for name in record.arm_names:
            view = ArmView(record.arm_directory(name))
            if view.role == "arm":
                found.setdefault(view.group, []).append(view)
        return found

    def _stopped(self, view: ArmView) -> str | None:
        """The group that another seed of this group has lost to; None if it has not been stopped."""
        for event in view.events("eval"):
            if view.name != self._own.name and event.get("name") == self._name and event.get("step") is None:
                lost = ((event.get("facts") or {}).get("adaptive") or {}).get("lost_to")
                if lost is not None:
                    return str(lost)
        return None

    def _runs(self, views: Sequence[ArmView], rows: Rows) -> list[Rewards]:
        """The rewards of a group's runs, up to the first seed that has none yet, or has failed."""
        runs: list[Rewards] = []
        for view in views:
            own = view.name == self._own.name
            rewards = self._rewards(rows, errored=1.0) if own else self._rewards_on_disk(view)
            if not len(rewards) or (not own and view.state == "failed"):
                break
            runs.append(rewards)
        return runs

    def _rewards_on_disk(self, view: ArmView) -> Rewards:
        path = predictions_path(view.directory, self._name)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return np.empty(0)
        if self._read.get(path, (-1,))[0] != size:
            found = {(str(row.get("task_id")), int(row.get("sample_idx") or 0)): row for row in read_lines(path)}
            mine = view.group == self._own.group
            self._read[path] = (size, self._rewards(found, errored=1.0 if mine else 0.0))
        return self._read[path][1]

    def _rewards(self, rows: Rows, *, errored: float) -> Rewards:
        """sign * each task's mean reward in the common order, up to the first task that is not scored.

        Args:
            errored: what an errored prediction counts, 1 for the best and 0 for the worst reward, so that no error
                stops a group.
        """
        rewards: list[float] = []
        for task in self._order:
            found = [rows.get((task.task_id, index)) for index in range(self._samples)]
            if any(row is None or row.get("instruction") != task.instruction for row in found):
                break
            rewards.append(sum(self._worth(row["reward"], errored) for row in found if row) / self._samples)
        return np.array(rewards)

    def _worth(self, reward: float | None, errored: float) -> float:
        if reward is None:
            return errored if self._sign > 0 else errored - 1.0
        return self._sign * (float(reward >= 1) if self._binary else reward)
