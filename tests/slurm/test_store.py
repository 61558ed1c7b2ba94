"""A detached sweep reaches its store without a driver: the job that concludes it sends the records."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evsys_hydra.store.local import LocalStore

from .cluster import Cluster
from .conftest import Sweep

pytestmark = pytest.mark.slurm


def test_a_detached_sweep_is_in_the_store_and_the_trackers(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(plain)
    file = sweep.directory.parent / "team.db"
    words = ("lr=1,2", "store=local", f"store.path={file}", "store.safe_mode=false", "tracker=tensorboard")
    sweep.start(f"hydra.sweep.dir={sweep.directory}", *words, "hydra.launcher.detach=true")
    assert sweep.driver is not None
    assert sweep.driver.wait(120) == 0
    sweep.wait_for(sweep.conclusion, "the conclusion")
    sweep.wait_for(lambda: not plain.queue(), "the finalizer's end", 90)
    store = LocalStore(file)
    (experiment,) = store.list_experiments()
    assert (experiment["status"], bool(experiment["conclusion"])) == ("completed", True)
    assert {run["status"] for run in store.list_runs(experiment_id=experiment["id"])} == {"completed"}
    arms = {path.name for path in (sweep.directory / "tensorboard").iterdir()}
    assert arms == {path.name for path in (sweep.directory / "arms").iterdir()}
