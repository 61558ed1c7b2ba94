"""Launchers: no-op arms through `isolated`, against Hydra's basic launcher and submitit_local, in one run.

python benchmarks/launchers.py [--arms 50]

"beyond composing" is the wall time after the arms' directories were written (composing and validating are behind),
starting the launcher and writing the conclusion included. "one more arm" is the difference between two sizes of sweep.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAUNCHERS = ("isolated", "basic", "submitit_local")


def sweep(launcher: str, arms: int, folder: Path) -> tuple[float, float]:
    """Wall seconds of the whole command, and of the part after the arms' directories were written."""
    where = folder / launcher
    words = ["algorithm=noop", "inference=skilled", f"plugins=[{ROOT}/tests/parts/noop.py]", "store=none"]
    words += ["metadata.benchmark=null", "metadata.success_metric=loss"]
    words += ["data=rows", "data.rows=[{prompt: a, completion: b}]"]
    command = [sys.executable, "-m", "evsys_hydra", "--config-dir", str(ROOT / "tests" / "conf"), "-m", *words]
    command += [f"seed=range({arms})", f"hydra/launcher={launcher}", f"hydra.sweep.dir={where}"]
    started = time.time()
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ended = time.time()
    return ended - started, ended - (where / "experiment.json").stat().st_mtime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arms", type=int, default=50)
    arms = parser.parse_args().arms
    few = max(2, arms // 5)
    figures = {}
    for launcher in LAUNCHERS:
        with tempfile.TemporaryDirectory() as folder:
            small = sweep(launcher, few, Path(folder))[1]
        with tempfile.TemporaryDirectory() as folder:
            whole, beyond = sweep(launcher, arms, Path(folder))
        figures[launcher] = (whole, beyond, (beyond - small) / (arms - few))
    base = figures["isolated"][1]
    for launcher, (whole, beyond, more) in figures.items():
        print(
            f"{launcher:15} {arms} arms: whole {whole:6.2f} s, beyond composing {beyond:6.2f} s "
            f"({beyond / arms:.3f} s an arm; one more arm {more:.3f} s)   ratio to isolated {beyond / base:.2f}"
        )


if __name__ == "__main__":
    main()
