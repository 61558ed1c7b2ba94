"""Simulated experiments: how often argmax, an unpaired z test and rank() name a false winner, and what each finds.

    OMP_NUM_THREADS=1 python benchmarks/ranking_simulation.py --repeats 1000

Binary and graded rewards of groups that differ in a logistic world: tasks of varying difficulty, groups that differ on
single tasks, runs shifted by their seed. Prints Markdown tables: with all groups equal every winner is false; with one
group ahead by a gap, power is how often that group is named; coverage is of 95% intervals and of the best set.
argmax names the highest mean; unpaired z names it if z > 1.96 against the runner-up with independent binomial errors.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evsys_hydra.ranking import rank

DIFFICULTY_SD, TASTE_SD = 1.5, 1.0


@dataclass(frozen=True)
class World:
    """One kind of experiment; `lead` is the first group's advantage on the logit scale."""

    label: str
    n_groups: int
    n_tasks: int
    n_seeds: int = 1
    seed_sd: float = 0.0
    graded: bool = False
    cluster_size: int = 1
    missing: float = 0.0
    lead: float = 0.0


NULLS = [
    World("2 groups, 20 tasks", 2, 20),
    World("2 groups, 100 tasks", 2, 100),
    World("5 groups, 100 tasks", 5, 100),
    World("10 groups, 20 tasks", 10, 20),
    World("10 groups, 100 tasks", 10, 100),
    World("2 groups, 8 graded tasks", 2, 8, graded=True),
    World("2 groups, 100 graded tasks", 2, 100, graded=True),
    World("2 groups, 100 tasks, 5 seeds", 2, 100, 5, seed_sd=0.5),
    World("2 groups, 100 tasks, 3 seeds", 2, 100, 3, seed_sd=0.5),
    World("10 groups, 100 tasks, 3 seeds", 10, 100, 3, seed_sd=0.5),
    World("2 groups, 20 clusters of 5", 2, 100, cluster_size=5),
    World("2 groups, 100 tasks, 8% missing", 2, 100, missing=0.08),
]
LEADS = [
    World("2 groups, 100 tasks", 2, 100, lead=0.9),
    World("2 groups, 100 graded tasks", 2, 100, graded=True, lead=0.5),
    World("5 groups, 200 tasks", 5, 200, lead=0.9),
    World("10 groups, 200 tasks", 10, 200, lead=0.9),
    World("2 groups, 200 tasks, 3 seeds", 2, 200, 3, seed_sd=0.2, lead=0.9),
    World("5 groups, 200 tasks, 5 seeds", 5, 200, 5, seed_sd=0.2, lead=0.9),
    World("2 groups, 40 clusters of 5", 2, 200, cluster_size=5, lead=0.9),
    World("2 groups, 200 tasks, 8% missing", 2, 200, missing=0.08, lead=0.9),
]


def draw(rng: np.random.Generator, world: World) -> tuple[NDArray[np.float64], list[str], list[int]]:
    """Run scores [R, N], NaN where missing; the group and the seed of each run."""
    count = world.n_tasks // world.cluster_size
    unit = np.arange(world.n_tasks) // world.cluster_size
    difficulty = rng.normal(0, DIFFICULTY_SD, count)[unit]
    taste = rng.normal(0, TASTE_SD, (world.n_groups, count))[:, unit]
    taste[0] += world.lead
    rows, groups, seeds = [], [], []
    for group in range(world.n_groups):
        for seed in range(world.n_seeds):
            chance = 1 / (1 + np.exp(-(difficulty + taste[group] + rng.normal(0, world.seed_sd))))
            row = chance if world.graded else (rng.random(world.n_tasks) < chance).astype(float)
            row[rng.random(world.n_tasks) < world.missing] = np.nan
            rows.append(row)
            groups.append(f"g{group:02}")
            seeds.append(seed)
    return np.array(rows), groups, seeds


def table_of(world: World, scores: NDArray[np.float64], groups: list[str], seeds: list[int]) -> dict[str, Any]:
    tasks = [f"t{index}" for index in range(world.n_tasks)]
    clusters = {task: f"c{index // world.cluster_size}" for index, task in enumerate(tasks)}
    arms = [
        {
            "name": f"{group}-{seed}",
            "group": group,
            "seed": seed,
            "status": "ok",
            "per_task": {task: score for task, score in zip(tasks, row.tolist(), strict=True) if score == score},
        }
        for group, seed, row in zip(groups, seeds, scores, strict=True)
    ]
    return {
        "metric": {"name": "reward", "direction": "maximize", "kind": "per_task", "bounds": [0, 1]},
        "arms": arms,
        "clusters": clusters if world.cluster_size > 1 else None,
        "baseline": "g01",
        "rng_seed": 0,
    }


def unpaired_z(world: World, scores: NDArray[np.float64]) -> tuple[str, bool]:
    """The highest group, and whether an unpaired z test against the runner-up calls it significant."""
    pooled = scores.reshape(world.n_groups, -1)
    means = np.nanmean(pooled, axis=1)
    variances = np.nanvar(pooled, axis=1, ddof=1) / np.sum(~np.isnan(pooled), axis=1)
    second, first = np.argsort(means, kind="stable")[-2:]
    error = np.sqrt(variances[first] + variances[second])
    return f"g{first:02}", bool(means[first] - means[second] > 1.96 * error)


def true_mean(world: World, lead: float) -> float:
    """Expected reward of a group, by Gauss-Hermite quadrature over difficulty, taste and seed."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    z = lead + np.sqrt(DIFFICULTY_SD**2 + TASTE_SD**2 + world.seed_sd**2) * nodes
    return float(weights @ (1 / (1 + np.exp(-z))) / weights.sum())


@dataclass
class Tally:
    """Shares of the simulated experiments, and mean errors of the best score."""

    argmax: float = 0.0
    z: float = 0.0
    ours: float = 0.0
    wrong: float = 0.0
    best_set: float = 0.0
    arm_ci: float = 0.0
    pair_ci: float = 0.0
    raw_bias: float = 0.0
    corrected_bias: float = 0.0


def simulate(world: World, repeats: int) -> Tally:
    rng, tally = np.random.default_rng(2026), Tally()
    truth = {group: true_mean(world, world.lead if group == "g00" else 0.0) for group in ("g00", "g01")}
    for _ in range(repeats):
        scores, groups, seeds = draw(rng, world)
        verdict: Any = rank(table_of(world, scores, groups, seeds))
        top, called = unpaired_z(world, scores)
        # Without a lead every call is false; with one only g00 counts.
        counts = (lambda group: True) if world.lead == 0 else (lambda group: group == "g00")
        tally.argmax += counts(top)
        tally.z += called and counts(top)
        tally.ours += verdict["winner"] is not None and counts(verdict["winner"])
        tally.wrong += verdict["winner"] not in (None, "g00")
        tally.best_set += "g00" in verdict["best_set"]
        low, high = verdict["arms"]["g01"]["ci"]
        tally.arm_ci += low <= truth["g01"] <= high
        low, high = verdict["vs_baseline"]["g00"]["ci"]
        tally.pair_ci += low <= truth["g00"] - truth["g01"] <= high
        first = verdict["ranking"][0]
        true_first = truth["g00" if first == "g00" else "g01"]
        tally.raw_bias += verdict["arms"][first]["estimate"] - true_first
        tally.corrected_bias += verdict["best_score_corrected"] - true_first
    return Tally(**{field: total / repeats for field, total in vars(tally).items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    repeats = parser.parse_args().repeats
    error = 100 * np.sqrt(0.05 * 0.95 / repeats)
    print(f"{repeats:,} experiments a row; the standard error of a 5% rate is {error:.1f} points.\n")
    print("| all groups equal | argmax: false winner | unpaired z | rank() | best set holds g00 | arm CI covers "
          "| difference CI covers | raw best score, bias | corrected, bias |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for world in NULLS:
        t = simulate(world, repeats)
        print(
            f"| {world.label} | {t.argmax:.1%} | {t.z:.1%} | {t.ours:.1%} | {t.best_set:.1%} | {t.arm_ci:.1%} "
            f"| {t.pair_ci:.1%} | {t.raw_bias:+.3f} | {t.corrected_bias:+.3f} |",
            flush=True,
        )
    print("\n| one group ahead | true gap | argmax: names it | unpaired z: power | rank(): power | rank(): wrong "
          "| best set holds it | arm CI covers | difference CI covers |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for world in LEADS:
        t = simulate(world, repeats)
        gap = true_mean(world, world.lead) - true_mean(world, 0.0)
        print(
            f"| {world.label} | {gap:.3f} | {t.argmax:.1%} | {t.z:.1%} | {t.ours:.1%} | {t.wrong:.1%} "
            f"| {t.best_set:.1%} | {t.arm_ci:.1%} | {t.pair_ci:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
