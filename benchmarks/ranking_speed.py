"""How long rank() takes, beside looping scipy.stats.permutation_test over all pairs.

    OMP_NUM_THREADS=1 python benchmarks/ranking_speed.py

Limits: 50 groups x 10,000 tasks under 2 s, 1,000 groups x 200 tasks under 20 s and 2 GB, on one core. The loop over
pairs is measured on one pair with 999 of the 8,192 resamples and extrapolated in proportion, as the table says.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evsys_hydra.ranking import rank

RESAMPLES, MEASURED = 8192, 999


def table_of(n_groups: int, n_tasks: int, graded: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    scores = rng.random((n_groups, n_tasks))
    if not graded:
        scores = (scores < 0.5).astype(float)
    tasks = [f"task-{index}" for index in range(n_tasks)]
    arms = [
        {
            "name": f"arm-{index}",
            "group": f"group-{index:04}",
            "seed": 0,
            "status": "ok",
            "per_task": dict(zip(tasks, row.tolist(), strict=True)),
            "scalar": None,
        }
        for index, row in enumerate(scores)
    ]
    metric = {"name": "reward", "direction": "maximize", "kind": "per_task", "bounds": [0, 1]}
    return {"metric": metric, "arms": arms, "baseline": "group-0000", "rng_seed": 0}


def seconds_of_one_pair(n_tasks: int) -> float:
    """CPU seconds of one paired permutation test, extrapolated from MEASURED to RESAMPLES resamples."""
    from scipy.stats import permutation_test

    x = np.random.default_rng(0).random((2, n_tasks))
    start = time.process_time()
    permutation_test(
        (x[0], x[1]),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=MEASURED,
        batch=100,
        vectorized=True,
        rng=np.random.default_rng(1),
    )
    return (time.process_time() - start) * RESAMPLES / MEASURED


def seconds_of_argmax(table: dict[str, Any]) -> float:
    start = time.process_time()
    max(table["arms"], key=lambda arm: sum(arm["per_task"].values()) / len(arm["per_task"]))
    return time.process_time() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    print(
        "| groups x tasks | rewards | rank(), CPU s | limit, s | argmax, CPU s | permutation_test over pairs, CPU s |"
    )
    print("|---|---|---|---|---|---|")
    late = False
    for n_groups, n_tasks, limit in ((50, 10_000, 2.0), (1_000, 200, 20.0)):
        pair = seconds_of_one_pair(n_tasks)
        pairs = n_groups * (n_groups - 1) // 2
        for graded in (False, True):
            table = table_of(n_groups, n_tasks, graded)
            times = []
            for _ in range(repeats):
                gc.collect()
                start = time.process_time()
                rank(table)
                times.append(time.process_time() - start)
            best = min(times)
            late |= best > limit
            print(
                f"| {n_groups:,} x {n_tasks:,} | {'graded' if graded else 'binary'} | {best:.2f} | {limit:.0f} "
                f"| {seconds_of_argmax(table):.3f} | {pair * pairs:,.0f} ({pairs:,} pairs of {pair:.2f} s, "
                f"extrapolated; {pair * pairs / best:,.0f} times rank()) |"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"\nPeak memory of the process: {peak:.2f} GB (limit 2 GB). Best of {repeats} runs.")
    return int(late or peak > 2)


if __name__ == "__main__":
    sys.exit(main())
