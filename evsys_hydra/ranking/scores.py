"""Which runs are ranked, on which tasks, and the matrix of their scores.

Rewards are turned so that larger is better (sign * reward), runs and tasks are sorted by id: nothing after this file
knows the direction of the metric or the order of the table. Failed and incomplete runs are set aside with the reason.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .distributions import Floats
from .table import Arm, Table

# A run scored on less than this share of the tasks is `incomplete`: listed, never ranked.
COMPLETE_SHARE = 0.8


@dataclass(frozen=True)
class Unranked:
    """A run that is not ranked. reason: failed, no_score, stopped or incomplete."""

    arm: str
    group: str
    reason: str
    scored: int


@dataclass(frozen=True)
class Scores:
    """The scores of groups of runs on one universe of tasks.

    Attributes:
        groups: names of the G groups, sorted.
        run_group: [R] index of each run's group.
        fixed: [G] whether the group's weights were not trained here (a reference), so one run has no seed variance.
        values: [R, N] sign * reward, NaN where a score is missing; one column for a scalar metric.
        units: [N] index of each task's independent unit: its cluster, or the task itself.
        clustered: whether units are clusters.
        bounds: smallest and largest possible value (after the sign), or None.
        scalar: whether the metric is one number a run.
    """

    groups: tuple[str, ...]
    run_group: NDArray[np.intp]
    fixed: NDArray[np.bool_]
    values: Floats
    units: NDArray[np.intp]
    clustered: bool
    bounds: tuple[float, float] | None
    scalar: bool

    @property
    def worst(self) -> float:
        """What a missing score counts in the worst reading: the lower bound, or the worst score seen without bounds."""
        return self.bounds[0] if self.bounds else float(np.nanmin(self.values))

    def only(self, groups: list[str]) -> Scores:
        """The same tasks with only these groups, sorted."""
        kept = sorted(groups)
        old = [self.groups.index(group) for group in kept]
        rows = np.flatnonzero(np.isin(self.run_group, old))
        new_index = {index: position for position, index in enumerate(old)}
        run_group = np.array([new_index[int(self.run_group[row])] for row in rows], dtype=np.intp)
        return replace(self, groups=tuple(kept), run_group=run_group, fixed=self.fixed[old], values=self.values[rows])


@dataclass(frozen=True)
class Collected:
    """What a table holds: the scores (None if no run has any), the ranked and reference groups, the runs set aside."""

    scores: Scores | None
    ranked: list[str]
    references: list[str]
    unranked: list[Unranked]
    n_tasks: int


def collect(table: Table) -> Collected:
    """Set failed, unscored and incomplete runs aside and line the others up on the tasks."""
    stopped = {arm.group for arm in table.arms if arm.lost_to is not None}
    scored = [arm for arm in table.arms if arm.status == "ok" and _n_scores(arm, table) > 0]
    tasks = _universe(scored, table)
    covered = {arm.name: _covered(arm, tasks, table) for arm in table.arms}
    kept = [arm for arm in scored if covered[arm.name] >= COMPLETE_SHARE * len(tasks) and arm.group not in stopped]
    kept_names = {arm.name for arm in kept}
    unranked = [
        Unranked(arm.name, arm.group, _reason(arm, table, stopped), covered[arm.name])
        for arm in table.arms
        if arm.name not in kept_names
    ]
    ranked = sorted({arm.group for arm in kept if arm.ranked})
    references = sorted({arm.group for arm in kept if not arm.ranked})
    scores = _matrix(kept, tasks, table) if kept else None
    return Collected(scores, ranked, references, unranked, 0 if table.metric.kind == "scalar" else len(tasks))


def _n_scores(arm: Arm, table: Table) -> int:
    return int(arm.scalar is not None) if table.metric.kind == "scalar" else len(arm.scores)


def _universe(scored: list[Arm], table: Table) -> list[str]:
    """All tasks any ranked run was scored on; a reference's further tasks only count where nothing is ranked."""
    if table.metric.kind == "scalar":
        return [table.metric.name]
    pool = [arm for arm in scored if arm.ranked] or scored
    tasks: set[str] = set()
    for arm in pool:
        tasks.update(arm.scores)
    return sorted(tasks)


def _covered(arm: Arm, tasks: list[str], table: Table) -> int:
    if table.metric.kind == "scalar" or arm.ranked:
        return _n_scores(arm, table)
    return sum(task in arm.scores for task in tasks)


def _reason(arm: Arm, table: Table, stopped: Collection[str]) -> str:
    if arm.status == "failed":
        return "failed"
    if arm.group in stopped:
        return "stopped"
    return "no_score" if _n_scores(arm, table) == 0 else "incomplete"


def _matrix(kept: list[Arm], tasks: list[str], table: Table) -> Scores:
    metric = table.metric
    groups = tuple(sorted({arm.group for arm in kept}))
    position = {group: index for index, group in enumerate(groups)}
    values = np.full((len(kept), len(tasks)), np.nan)
    column = {task: index for index, task in enumerate(tasks)}
    for row, arm in enumerate(kept):
        if metric.kind == "scalar":
            values[row, 0] = arm.scalar
            continue
        known = [(column[task], reward) for task, reward in arm.scores.items() if task in column]
        at, rewards = zip(*known, strict=True)
        values[row, list(at)] = rewards
    clusters = table.clusters if metric.kind == "per_task" else None
    names = [clusters[task] for task in tasks] if clusters is not None else tasks
    _, units = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)
    fixed = np.zeros(len(groups), dtype=bool)
    for arm in kept:
        fixed[position[arm.group]] = not arm.ranked
    return Scores(
        groups=groups,
        run_group=np.array([position[arm.group] for arm in kept], dtype=np.intp),
        fixed=fixed,
        values=metric.sign * values,
        units=units.astype(np.intp).reshape(-1),
        clustered=clusters is not None,
        bounds=_turned_bounds(table),
        scalar=metric.kind == "scalar",
    )


def _turned_bounds(table: Table) -> tuple[float, float] | None:
    if table.metric.pass_at_k is not None:
        return (0.0, 1.0)
    if table.metric.bounds is None:
        return None
    low, high = table.metric.bounds
    return (low, high) if table.metric.sign > 0 else (-high, -low)
