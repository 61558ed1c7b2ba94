"""What a sweep of no-op arms costs on SLURM, beside submitit alone and a plain sbatch array, in one run.

`python benchmarks/slurm_overhead.py [N ...]` starts a test cluster if SLURM_CONF is not set. Times are what a person
waits for, from the command to its end; the ratios are what counts, the machine is whatever it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUBMITIT = """
import sys, submitit
executor = submitit.AutoExecutor(folder=sys.argv[1], cluster="slurm")
executor.update_parameters(timeout_min=5, slurm_array_parallelism=256)
jobs = executor.map_array(float, [1.0] * int(sys.argv[2]))
submitit.SlurmJob.watcher.delay_s = 1
while not all(job.done(force_check=False) for job in jobs):
    __import__("time").sleep(0.2)
assert all(job.result() == 1.0 for job in jobs)
"""


def main(counts: list[int]) -> None:
    """Print a line for each count and way."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        if "SLURM_CONF" in os.environ:
            measure(counts, where, dict(os.environ))
            return
        sys.path.insert(0, str(ROOT))
        from tests.slurm.cluster import Cluster

        cluster = Cluster(where / "cluster", accounting=True).start()
        try:
            measure(counts, where, cluster.environment)
        finally:
            cluster.stop()


def measure(counts: list[int], where: Path, environment: dict[str, str]) -> None:
    for count in counts:
        plain = timed(lambda n=count: sbatch(n, environment))
        alone = timed(lambda n=count: submitit(n, where / f"submitit-{n}", environment))
        print(f"{count} arms: sbatch array {plain:.1f} s, submitit alone {alone:.1f} s", flush=True)
        for label, words in (("", ()), (", 25 arms a job", ("hydra.launcher.arms_per_job=25",))):
            directory = where / f"sweep-{count}-{len(words)}"
            ours = timed(lambda n=count, d=directory, w=words: sweep(n, d, environment, w))
            print(
                f"  evsys_hydra{label} {ours:.1f} s: {ours / alone:.2f} x submitit, {ours / plain:.1f} x sbatch",
                flush=True,
            )


def timed(run: Callable[[], None]) -> float:
    began = time.monotonic()
    run()
    return time.monotonic() - began


def sbatch(count: int, environment: dict[str, str]) -> None:
    words = ["sbatch", "--wait", f"--array=0-{count - 1}", "-o", "/dev/null", "--wrap", "true"]
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)


def submitit(count: int, folder: Path, environment: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-c", SUBMITIT, str(folder), str(count)], check=True, env=environment)


def sweep(count: int, directory: Path, environment: dict[str, str], words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "evsys_hydra", "--config-dir", str(ROOT / "tests" / "conf"), "-m"]
    command += [f"lr=range(1,{count + 1})", "algorithm=noop", "inference=skilled", "store=none", "data=rows"]
    command += ["data.rows=[{prompt: a,completion: b}]", "metadata.benchmark=null", "metadata.success_metric=loss"]
    command += [
        f"plugins=[{ROOT}/tests/parts/noop.py]",
        f"hydra.sweep.dir={directory}",
        "hydra/launcher=submitit_slurm",
    ]
    with (directory.parent / f"{directory.name}.log").open("wb") as log:
        subprocess.run([*command, *words], check=True, env=environment, stdout=log, stderr=log)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [50, 200])
