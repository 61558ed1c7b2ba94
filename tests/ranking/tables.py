"""Tables and worlds that the ranking's tests share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Table = dict[str, Any]


def make_table(
    values: Floats,
    groups: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    clusters: Sequence[int] | None = None,
    **fields: Any,
) -> Table:
    """A per-task table from run scores [R, N]; NaN is a missing score; g00, g01, ... with seed 0 by default."""
    names = list(groups) if groups is not None else [f"g{row:02}" for row in range(len(values))]
    numbers = list(seeds) if seeds is not None else [0] * len(values)
    tasks = [f"t{column:04}" for column in range(values.shape[1])]
    arms = [
        {
            "name": f"{name}-s{seed}",
            "group": name,
            "seed": seed,
            "status": "ok",
            "per_task": {task: score for task, score in zip(tasks, row.tolist(), strict=True) if score == score},
            "scalar": None,
        }
        for name, seed, row in zip(names, numbers, values, strict=True)
    ]
    table: Table = {
        "metric": {"name": "accuracy", "direction": "maximize", "kind": "per_task", "bounds": [0, 1]},
        "arms": arms,
        "clusters": None
        if clusters is None
        else {task: f"c{cluster}" for task, cluster in zip(tasks, clusters, strict=True)},
        "baseline": None,
        "hypothesis": None,
        "min_effect": None,
        "alpha": 0.05,
        "rng_seed": 0,
    }
    table.update(fields)
    return table


def scalar_table(scores: dict[str, Sequence[float]], **fields: Any) -> Table:
    """A scalar table: group to one score a seed."""
    arms = [
        {"name": f"{g}-s{s}", "group": g, "seed": s, "status": "ok", "per_task": None, "scalar": score}
        for g, runs in scores.items()
        for s, score in enumerate(runs)
    ]
    metric = {"name": "loss", "direction": "maximize", "kind": "scalar", "bounds": None}
    return {"metric": metric, "arms": arms, **fields}


def logistic_world(
    rng: np.random.Generator,
    n_groups: int,
    n_tasks: int,
    n_seeds: int = 1,
    *,
    lead: float = 0.0,
    seed_sd: float = 0.0,
    graded: bool = False,
    clusters: NDArray[np.intp] | None = None,
) -> tuple[Floats, list[str], list[int]]:
    """Run scores [R, N], groups and seeds: tasks of varying difficulty, groups that differ on single tasks.

    Group g00 leads by `lead` on the logit scale; each run is shifted by N(0, seed_sd); tasks of one cluster share their
    difficulty and how well each group does on them.
    """
    difficulty = rng.normal(0, 1.5, n_tasks)
    taste = rng.normal(0, 1.0, (n_groups, n_tasks))
    if clusters is not None:
        count = int(clusters.max()) + 1
        difficulty = rng.normal(0, 1.5, count)[clusters] + 0.3 * difficulty
        taste = rng.normal(0, 1.0, (n_groups, count))[:, clusters] + 0.3 * taste
    taste[0] += lead
    rows, groups, seeds = [], [], []
    for group in range(n_groups):
        for seed in range(n_seeds):
            chance = 1 / (1 + np.exp(-(difficulty + taste[group] + rng.normal(0, seed_sd))))
            rows.append(chance if graded else (rng.random(n_tasks) < chance).astype(float))
            groups.append(f"g{group:02}")
            seeds.append(seed)
    return np.array(rows), groups, seeds
