"""Launchers: no-op arms through `isolated`, against Hydra's basic launcher and submitit_local, in one run.

python benchmarks/launchers.py [--arms 50]

Seconds an arm are the whole sweep's wall time, less the time until the first arm could start (composing, validating,
starting Python), divided by the arms.
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
    with tempfile.TemporaryDirectory() as folder:
        figures = {launcher: sweep(launcher, arms, Path(folder)) for launcher in LAUNCHERS}
    base = figures["isolated"][1]
    for launcher, (whole, running) in figures.items():
        print(
            f"{launcher:15} whole {whole:6.2f} s   after composing {running:6.2f} s   "
            f"{running / arms:.3f} s an arm   ratio to isolated {running / base:.2f}"
        )


if __name__ == "__main__":
    main()
