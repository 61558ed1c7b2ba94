"""What a sweep of no-op arms costs on SLURM, beside submitit alone and a plain sbatch array, in one run.

`python benchmarks/slurm_overhead.py [N ...]` starts a test cluster if SLURM_CONF is not set. Times are what a person
waits for, from the command to its end, the ways taken in turn ROUNDS times; the ratios are what counts, the machine is
whatever it is. Last come the CPU seconds of one arm's process, ours and submitit's, which other load hardly changes.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 2
BASES = ("submitit alone", "sbatch array")
SHARED = ("hydra.launcher.arms_per_job=25",)
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
        ways: dict[str, Callable[[Path], None]] = {
            "sbatch array": lambda _, n=count: sbatch(n, environment),
            "submitit alone": lambda folder, n=count: submitit(n, folder, environment),
            "evsys_hydra": lambda folder, n=count: sweep(n, folder, environment, ()),
            "evsys_hydra, 25 arms a job": lambda folder, n=count: sweep(n, folder, environment, SHARED),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(ROUNDS):
            for name, run in ways.items():
                folder = where / f"{count}-{turn}-{len(name)}"
                seconds[name].append(timed(lambda run=run, folder=folder: run(folder)))
        median = {name: statistics.median(values) for name, values in seconds.items()}
        for name, value in median.items():
            beside = [
                statistics.median(a / b for a, b in zip(seconds[name], seconds[other], strict=True)) for other in BASES
            ]
            print(
                f"{count} arms, {name}: {value:.1f} s, {beside[0]:.2f} x submitit, {beside[1]:.1f} x sbatch", flush=True
            )
    ours, theirs = (
        cpu_of_an_arm(where / f"{counts[0]}-0-{len('evsys_hydra')}", environment),
        cpu_of_submitit(environment),
    )
    print(f"CPU of one arm's process: evsys_hydra {ours:.2f} s, submitit {theirs:.2f} s, ratio {ours / theirs:.2f}")


def cpu_of_an_arm(experiment: Path, environment: dict[str, str]) -> float:
    """User and system seconds of running an arm of the experiment again, as its job did."""
    task = {"SLURM_ARRAY_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_ID": "1"}
    directory = experiment / "arms" / "lr=1"

    def again() -> None:
        for name in ("status.json", "trained.json"):
            (directory / name).unlink()
        command = [sys.executable, "-u", "-m", "evsys_hydra.slurm.job", str(experiment), "1", "0"]
        subprocess.run(command, check=True, env={**environment, **task})

    return cpu_seconds(again)


def cpu_of_submitit(environment: dict[str, str]) -> float:
    """The same for the process of a submitit job that calls float(1.0)."""
    with tempfile.TemporaryDirectory() as folder:
        code = "import sys, submitit; submitit.LocalExecutor(sys.argv[1]).submit(float, 1.0).result()"
        subprocess.run([sys.executable, "-c", code, folder], check=True, env=environment)
        pickled = next(Path(folder).glob("*_submitted.pkl"))
        job = pickled.name.split("_")[0]
        facts = {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": job, "SUBMITIT_LOCAL_NTASKS": "1"}
        facts |= {"SUBMITIT_LOCAL_GLOBALID": "0", "SUBMITIT_LOCAL_LOCALID": "0", "SUBMITIT_LOCAL_NODEID": "0"}
        facts |= {"SUBMITIT_LOCAL_NNODES": "1", "SUBMITIT_LOCAL_TASKS_PER_NODE": "1"}
        command = [sys.executable, "-u", "-m", "submitit.core._submit", folder]
        return cpu_seconds(
            lambda: subprocess.run(command, check=True, env={**environment, **facts}, stdout=subprocess.DEVNULL)
        )


def cpu_seconds(run: Callable[[], object]) -> float:
    """The least of five runs' user and system seconds, children's included."""
    found = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


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
