"""Adaptive evaluation against scoring every task: errors made, winners found, answers saved.

    python benchmarks/adaptive_simulation.py [--repetitions 1000]

Each scenario draws K groups on N binary tasks of varied difficulty, paired by task, and scores them twice: in full
(rank at alpha 0.05), and in rounds with groups stopped by `loses_to` (rank of the rest at 0.04), one after another as
on a laptop or all at once as on a cluster. Printed: how often the best group was stopped, how often a winner was named
that is not the best (among equal groups all are the best: any of them stopped, any winner), how often the best was
named, and the share of answers that were not needed.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evsys_hydra.adaptive import FEWEST, ROUNDS
from evsys_hydra.ranking import rank
from evsys_hydra.ranking.early_stopping import ALPHA_STOP, loses_to

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scenario:
    """Groups of recipes on tasks.

    Args:
        skill: shift of each group's log odds of passing a task.
        tasks: how many.
        seeds: runs of each group.
        seed_sd: spread of a run's log odds around its group's.
        together: all arms are scored at the same time.
    """

    name: str
    skill: tuple[float, ...]
    tasks: int = 512
    seeds: int = 1
    seed_sd: float = 0.0
    together: bool = False

    def draw(self, rng: np.random.Generator) -> Floats:
        """[K, seeds, tasks] of 0 and 1."""
        difficulty = rng.normal(0.0, 1.5, self.tasks)
        shift = np.array(self.skill)[:, None] + rng.normal(0.0, self.seed_sd, (len(self.skill), self.seeds))
        chance = 1 / (1 + np.exp(-(shift[:, :, None] + difficulty)))
        return (rng.random(chance.shape) < chance).astype(float)


SCENARIOS = [
    Scenario("4 equal, in turns", (0.0,) * 4),
    Scenario("4 equal, together", (0.0,) * 4, together=True),
    Scenario("8 equal, 1,024 tasks, together", (0.0,) * 8, tasks=1024, together=True),
    Scenario("4 equal, 3 seeds, together", (0.0,) * 4, seeds=3, seed_sd=0.15, together=True),
    Scenario("4 equal, 3 seeds far apart, together", (0.0,) * 4, tasks=1024, seeds=3, seed_sd=0.5, together=True),
    Scenario("best by 5 points of 4, third in turn", (0.0, 0.0, 0.35, 0.0)),
    Scenario("best by 5 points of 4, together", (0.35, 0.0, 0.0, 0.0), together=True),
    Scenario("best by 15 points of 8, third in turn", (0.0, 0.0, 1.0, *(0.0,) * 5)),
    Scenario("best by 15 points of 8, together", (1.0, *(0.0,) * 7), together=True),
    Scenario("a ladder of 8, 1,024 tasks, together", tuple(0.4 * step for step in range(8)), 1024, together=True),
    Scenario("a ladder of 8, 3 seeds, together", tuple(0.4 * step for step in range(8)), 512, 3, 0.1, together=True),
]


def stopping_points(scores: Floats, *, together: bool) -> list[int]:
    """How many tasks each group is scored on."""
    groups, seeds, tasks = scores.shape
    size = max(FEWEST, -(-tasks // ROUNDS))
    ends = list(range(size, tasks, size))
    scored = [0] * groups
    stopped = [False] * groups

    def lost(group: int) -> bool:
        rivals = {str(k): list(scores[k][:, : scored[k]]) for k in range(groups) if k != group and scored[k]}
        planned = {str(k): seeds for k in range(groups) if k != group}
        own = list(scores[group][:, : scored[group]])
        return loses_to(own, rivals, planned, planned_own=seeds) is not None

    if together:
        for end in ends:
            running = [k for k in range(groups) if not stopped[k]]
            for k in running:
                scored[k] = end
            for k in running:
                stopped[k] = lost(k)
        for k in range(groups):
            scored[k] = scored[k] if stopped[k] else tasks
        return scored
    for k in range(groups):
        for end in ends:
            scored[k] = end
            if lost(k):
                break
        else:
            scored[k] = tasks
    return scored


def winner(scores: Floats, scored: list[int], alpha: float) -> int | None:
    """The group that the ranking names, if any."""
    tasks = scores.shape[2]
    last = scored.index(tasks)
    arms = [
        {
            "name": f"{k}-{seed}",
            "group": str(k),
            "seed": seed,
            "status": "ok",
            "lost_to": None if scored[k] == tasks else str(last),
            "per_task": {str(task): float(run[task]) for task in range(scored[k])},
        }
        for k, runs in enumerate(scores)
        for seed, run in enumerate(runs)
    ]
    metric = {"name": "pass_rate", "direction": "maximize", "kind": "per_task", "bounds": [0, 1]}
    verdict = rank({"metric": metric, "arms": arms, "alpha": alpha, "rng_seed": 0})
    return int(str(verdict["winner"])) if verdict["winner"] is not None else None


@dataclass
class Outcome:
    """Shares of the repetitions, and of the answers."""

    best_stopped: float
    false_adaptive: float
    false_full: float
    found_adaptive: float
    found_full: float
    saved: float


def simulate(scenario: Scenario, repetitions: int, seed: int = 0) -> Outcome:
    """Both ways of scoring on the same draws."""
    rng = np.random.default_rng(seed)
    top = max(scenario.skill)
    best = {k for k, skill in enumerate(scenario.skill) if skill == top}
    alone = next(iter(best)) if len(best) == 1 else None
    counts = np.zeros(6)
    for _ in range(repetitions):
        scores = scenario.draw(rng)
        scored = stopping_points(scores, together=scenario.together)
        adaptive = winner(scores, scored, 0.05 - ALPHA_STOP)
        full = winner(scores, [scenario.tasks] * len(scored), 0.05)
        stopped = {k for k, tasks in enumerate(scored) if tasks < scenario.tasks}
        counts += [
            bool(stopped & best),
            adaptive is not None and adaptive != alone,
            full is not None and full != alone,
            adaptive is not None and adaptive == alone,
            full is not None and full == alone,
            1 - sum(scored) / (scenario.tasks * len(scored)),
        ]
    return Outcome(*(float(value) for value in counts / repetitions))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    repetitions = parser.parse_args().repetitions
    started = time.monotonic()
    print("| scenario | best stopped | false winner: adaptive | full | winner found: adaptive | full | answers saved |")
    print("|---|---|---|---|---|---|---|")
    for scenario in SCENARIOS:
        found = simulate(scenario, repetitions)
        numbers = [
            found.best_stopped,
            found.false_adaptive,
            found.false_full,
            found.found_adaptive,
            found.found_full,
            found.saved,
        ]
        print(f"| {scenario.name} | {' | '.join(f'{value:.3f}' for value in numbers)} |", flush=True)
    print(f"{repetitions} repetitions each, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
