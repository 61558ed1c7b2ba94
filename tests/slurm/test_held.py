"""Jobs that SLURM keeps back: told of with the reason; what can never start is given up, and the end comes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .cluster import Cluster
from .conftest import Sweep

pytestmark = pytest.mark.slurm


def test_a_dependency_that_is_never_satisfied(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    failed = plain.call("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "false").stdout.strip()
    plain.wait_for(lambda: plain.job_state(failed) == "FAILED", "the job to depend on")
    sweep = sweeps(plain)
    ended = sweep.run("lr=1,2", f"+hydra.launcher.additional_parameters.dependency=afterok:{failed}")
    assert ended.returncode == 1
    assert "(DependencyNeverSatisfied): the job depends on one that did not end as it had to" in ended.stderr
    assert sweep.causes() == {"lr=1": "never_started", "lr=2": "never_started"}
    assert "DependencyNeverSatisfied" in sweep.conclusion()["arms"]["lr=1"]["error"]
    sweep.wait_for(lambda: not plain.queue(), "an empty queue", 30)


def test_held_by_the_user(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(plain)
    sweep.start(f"hydra.sweep.dir={sweep.directory}", "lr=1", "+hydra.launcher.additional_parameters.hold=true")
    sweep.wait_for(lambda: sweep.submission().get("complete"), "the submission")
    job = sweep.submission()["chunks"][0]["job"]
    said = sweep.verb("status").stdout
    assert "PENDING (JobHeldUser): held by its user; let it go: scontrol release" in said, said
    plain.call("scontrol", "release", job)
    ended = sweep.end()
    assert ended.returncode == 0, ended.stderr
    assert f"SLURM holds job {job}_0 back (JobHeldUser)" in ended.stderr


def test_a_launch_that_fails(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    """A failing prolog drains its node and holds the job: released twice, then given up; another sweep gets through."""
    sweep, once = sweeps(plain), sweeps(plain, "once")
    prolog = plain.directory / "prolog"
    try:
        plain.set_prolog("exit 1")
        sweep.start(f"hydra.sweep.dir={sweep.directory}", "lr=1,2")
        plain.wait_for(lambda: "launch failed" in str(plain.queue()).replace("_", " ").lower(), "the failed launch")
        ended = sweep.end(120)
        plain.set_prolog(f"[ -e {prolog}.done ] && exit 0; touch {prolog}.done; exit 1")
        passed = once.run("lr=1,2")
    finally:
        plain.set_prolog(None)
    assert ended.returncode == 1
    assert sweep.causes() == {"lr=1": "never_started", "lr=2": "never_started"}
    assert "failed to launch the job 3 times" in sweep.conclusion()["arms"]["lr=1"]["error"]
    assert passed.returncode == 0, passed.stderr
    assert "a node failed to launch it" in passed.stderr
    sweep.wait_for(lambda: not plain.queue(), "an empty queue", 30)
