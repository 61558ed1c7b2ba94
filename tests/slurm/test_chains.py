"""The stages of a chain run one after another in one job; a failed one stops its chain, and resuming goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .cluster import Cluster
from .conftest import NOOP, Sweep

pytestmark = pytest.mark.slurm


def test_a_chain_is_a_job(plain: Cluster, sweeps: Callable[..., Sweep]) -> None:
    sweep = sweeps(plain)
    rows = {name: sweep.directory.with_name(f"{name}.jsonl") for name in ("good", "bad")}
    for name, path in rows.items():
        path.write_text(f'{{"prompt": "{"raise" if name == "bad" else "a"}", "completion": "b"}}\n')
    good, bad = rows.values()
    done = sweep.run(
        "algorithm=carried",
        f"plugins=[{NOOP},{NOOP.with_name('carried.py')}]",
        "metadata.success_metric=started_at",
        "metadata.baseline=null",
        f"recipe={{one:{{}},two:{{data:{good}}},three:{{}}}}",
        f"recipe.two.data={good},{bad}",
        "name_template='{recipe.two.data}'",
    )
    assert done.returncode == 0, done.stderr
    arms = [arm for task in sweep.submission()["tasks"] for arm in task]
    assert [len(task) for task in sweep.submission()["tasks"]] == [3, 3]
    assert [sweep.status()[arm]["cause"] for arm in arms] == [None, None, None, None, "user_error", "never_started"]
    jobs = [sweep.read(arm, "status.json").get("job_id") for arm in arms]
    assert len(set(jobs[:3])) == 1 and len(set(jobs[3:5])) == 1 and jobs[0] != jobs[3]
    metrics = [sweep.read(arm, "status.json")["result"]["metrics"] for arm in arms[:3]]
    assert [found["started_at"] for found in metrics] == pytest.approx([0.1, 0.4, 0.7])

    bad.write_text(good.read_text())
    again = sweep.verb("resume")
    assert again.returncode == 0, again.stderr
    assert sweep.submission(2)["tasks"] == [arms[4:]]
    assert [sweep.read(arm, "status.json")["attempt"] for arm in arms] == [1, 1, 1, 1, 2, 2]
    assert set(sweep.causes().values()) == {None}
