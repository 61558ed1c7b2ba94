"""A real SLURM for the tests of this folder, and sweeps on it as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .cluster import Cluster, missing

ROOT = Path(__file__).parents[2]
NOOP = ROOT / "tests" / "parts" / "noop.py"
PARTS = Path(__file__).parent / "parts.py"
CONF = ROOT / "tests" / "conf"
FIXED = (
    "algorithm=noop",
    "inference=skilled",
    f"plugins=[{NOOP},{PARTS}]",
    "store=none",
    "metadata.benchmark=null",
    "metadata.success_metric=loss",
    "data=rows",
    "data.rows=[{prompt: a,completion: b}]",
    "hydra/launcher=submitit_slurm",
)


def started(directory: Path, accounting: bool, max_array_size: int = 1001) -> Iterator[Cluster]:
    """A cluster; where there can be none, the tests are skipped with the reason, in CI they fail."""
    reason = missing(accounting)
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no SLURM in CI: {reason}")
        pytest.skip(reason)
    cluster = Cluster(directory, accounting, max_array_size)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def accounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with slurmdbd."""
    yield from started(tmp_path_factory.mktemp("slurm"), True)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster without accounting: sacct fails."""
    yield from started(tmp_path_factory.mktemp("slurm"), False)


@pytest.fixture(params=["plain", "accounted"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The test runs on both."""
    found: Cluster = request.getfixturevalue(request.param)
    return found


@dataclass
class Sweep:
    """One experiment on a cluster, driven by command lines."""

    cluster: Cluster
    directory: Path
    words: tuple[str, ...] = ()
    driver: subprocess.Popen[str] | None = field(default=None)

    def start(self, *words: str) -> Sweep:
        """Start the driver."""
        self.driver = subprocess.Popen(
            [sys.executable, "-m", "evsys_hydra", "--config-dir", str(CONF), "-m", *FIXED, *words],
            cwd=self.directory.parent,
            env=self.cluster.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def run(self, *words: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a sweep to its end."""
        self.start(f"hydra.sweep.dir={self.directory}", *words)
        return self.end(seconds)

    def end(self, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Wait for the driver."""
        assert self.driver is not None
        out, err = self.driver.communicate(timeout=seconds)
        return subprocess.CompletedProcess(self.driver.args, self.driver.returncode, out, err)

    def verb(self, *words: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """`evsys-hydra <verb> DIRECTORY ...`."""
        verb, *rest = words
        return subprocess.run(
            [sys.executable, "-m", "evsys_hydra.cli", verb, str(self.directory), *rest],
            env=self.cluster.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def status(self) -> dict[str, dict[str, Any]]:
        """Arm -> what `status --json` says of it."""
        return {arm["name"]: arm for arm in json.loads(self.verb("status", "--json").stdout)["arms"]}

    def conclusion(self) -> dict[str, Any]:
        """conclusion.json; {} while there is none."""
        path = self.directory / "conclusion.json"
        facts: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return facts

    def causes(self) -> dict[str, str | None]:
        """Arm -> cause, as concluded."""
        return {name: arm["cause"] for name, arm in self.conclusion()["arms"].items()}

    def submission(self, generation: int = 1) -> dict[str, Any]:
        """slurm/<generation>.json; {} while there is none."""
        path = self.directory / "slurm" / f"{generation}.json"
        facts: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return facts

    def arm(self, name: str) -> Path:
        return self.directory / "arms" / name

    def read(self, arm: str, name: str) -> dict[str, Any]:
        path = self.arm(arm) / name
        facts: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return facts

    def began_at(self, arm: str) -> list[int]:
        """At which step each attempt of a `steps` arm began."""
        lines = (self.arm(arm) / "events.jsonl").read_text().splitlines()
        return [event["began_at"] for event in map(json.loads, lines) if event["kind"] == "note"]

    def said_by_slurm(self) -> str:
        """What the jobs of this sweep noted of SLURM's words, and the end of the controller's log."""
        logs = [path.read_text(errors="replace") for path in sorted(self.directory.parent.rglob("*_log.*"))]
        noted = [line for log in logs for line in log.splitlines() if line.startswith("SLURM:")]
        controller = (self.cluster.directory / "slurmctld.log").read_text().splitlines()
        return "\n".join(["", *noted, *controller[-30:]])

    def wait_for(self, ready: Callable[[], object], what: str, seconds: float = 60) -> float:
        """Wait; returns how long it took."""
        began = time.monotonic()
        while not ready():
            if time.monotonic() - began > seconds:
                queue = "\n".join(self.cluster.queue())
                raise AssertionError(f"waited {seconds:.0f} s for {what}\n{queue}\n{self.verb('status').stdout}")
            time.sleep(0.1)
        return time.monotonic() - began

    def close(self) -> None:
        """End what is left of it."""
        if self.driver is not None and self.driver.poll() is None:
            self.driver.kill()
            self.driver.communicate()
        for path in (self.directory / "slurm").glob("*.json"):
            facts = json.loads(path.read_text())
            jobs = [chunk["job"] for chunk in facts["chunks"]] + [facts["finalizer"]]
            self.cluster.call("scancel", *(job for job in jobs if job))


@pytest.fixture
def sweeps(tmp_path: Path) -> Iterator[Callable[[Cluster, str], Sweep]]:
    """Makes sweeps, and ends them after the test."""
    made: list[Sweep] = []

    def make(cluster: Cluster, name: str = "sweep") -> Sweep:
        made.append(Sweep(cluster, tmp_path / name))
        return made[-1]

    yield make
    for sweep in made:
        sweep.close()
