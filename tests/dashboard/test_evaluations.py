"""Arms that were scored more than once, on several benchmarks, or could not be: what pages take, and that they tell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from evsys_hydra.report import write_report
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.sync import sync
from evsys_hydra.sweep.conclude import conclude

from ..store import making
from .test_pages import run_named, text_of


def levels(value: float) -> dict[str, Any]:
    return {"breakdowns": {"level": {"easy": {"n": 3, "mean_reward": value}}}, "metrics": {"mean_reward": value}}


def arm_of(record: making.ExperimentRecord, name: str) -> making.ArmRecord:
    arm = making.ArmRecord(making.add_arm(record, name))
    arm.start()
    for task in range(3):
        arm.prediction("bench", making.prediction(task))
    return arm


def test_the_last_evaluation_of_the_primary_benchmark_counts(
    client: TestClient, local: LocalStore, tmp_path: Path
) -> None:
    record = making.experiment(tmp_path / "exp")
    for name in ("a", "b"):
        arm = arm_of(record, name)
        making.evaluate(arm, "dev", tags=["dev"], **levels(0.111))
        making.evaluate(arm, metrics={}, breakdowns={}, error="JudgeError: it was away")  # then it was scored
        making.evaluate(arm, **levels(0.625))
        arm.complete({"status": "completed", "metrics": {}})
    making.conclude(record)
    assert sync(record.directory, local).error is None
    page = text_of(client, f"/experiments/{record.id}")
    heat = page[page.index('class="heat"') :]
    heat = heat[: heat.index("</table>")]
    assert "on bench" in heat and "0.625" in heat and "0.111" not in heat
    predictions = text_of(client, f"/arms/{run_named(local, 'a')}/predictions?against=b")
    assert len(re.findall('class="sample[ "]', predictions)) == 3
    assert "JudgeError" not in page


def test_why_an_evaluation_failed_is_told(client: TestClient, local: LocalStore, tmp_path: Path) -> None:
    record = making.experiment(tmp_path / "exp")
    arm = arm_of(record, "a")
    making.evaluate(arm, metrics={}, breakdowns={}, error="JudgeError: the judge's key was refused")
    arm.complete({"status": "completed", "metrics": {}})
    conclude(record.directory)
    assert sync(record.directory, local).error is None
    told = "the judge&#39;s key was refused"
    assert f"not scored on bench: JudgeError: {told}" in text_of(client, f"/experiments/{record.id}")
    assert told in text_of(client, f"/arms/{run_named(local, 'a')}")
    write_report(record.directory)
    assert told in (record.directory / "report.html").read_text()
