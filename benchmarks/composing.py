"""Composing and validating many value-only arms, against Hydra's own composition of each, in one run.

python benchmarks/composing.py [--arms 200]
"""

from __future__ import annotations

import argparse
import time

from evsys_hydra.sweep.check import Checker
from evsys_hydra.sweep.compose import Composer
from evsys_hydra.sweep.open import compose
from evsys_hydra.sweep.plan import plan


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arms", type=int, default=200)
    parser.add_argument("--hydra-arms", type=int, default=20, help="how many arms Hydra composes for the comparison")
    options = parser.parse_args()
    loader, master = compose([])
    words = [[f"lr={number + 1}e-6", f"seed={number}"] for number in range(options.arms)]
    started, cpu_started = time.perf_counter(), time.process_time()
    plan(Composer(loader, master), words, swept_keys=["lr", "seed"], known={}, checker=Checker(), baselines=True)
    ours, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    started = time.perf_counter()
    for arm in words[: options.hydra_arms]:
        loader.load_sweep_config(master, arm)
    theirs = (time.perf_counter() - started) / options.hydra_arms
    each = ours / options.arms
    print(
        f"{options.arms} arms composed, named and validated in {ours:.2f} s, {1000 * each:.1f} ms an arm "
        f"({1000 * cpu / options.arms:.1f} ms of CPU)"
    )
    print(f"Hydra's own composition alone: {1000 * theirs:.0f} ms an arm; ratio {theirs / each:.0f}")


if __name__ == "__main__":
    main()
