"""Each tracker shows what the records hold: the real packages, offline, read back by their own means."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.record.files import read_json
from evsys_hydra.trackers import ArmFacts, Point
from evsys_hydra.trackers.mirror import Mirror
from evsys_hydra.trackers.process import follow, send
from tests.store import making

from .conftest import mlflow_client, started, tensorboard_scalars, tracked, wandb_history, wandb_records

LOSS = [(step, round(1 / step, 6)) for step in range(1, 6)]


@pytest.mark.slow
def test_tensorboard(tmp_path: Path) -> None:
    tracked(tmp_path / "exp", {"tensorboard": {"kind": "tensorboard", "dir": None}})
    assert send(tmp_path / "exp") == {"tensorboard": {"sent": 14, "error": None}}
    found = tensorboard_scalars(tmp_path / "exp" / "tensorboard" / "a")
    assert found["train/loss"] == LOSS
    assert found["eval/bench/mean_reward"] == [(5, 0.75)]
    assert send(tmp_path / "exp") == {"tensorboard": {"sent": 0, "error": None}}
    assert tensorboard_scalars(tmp_path / "exp" / "tensorboard" / "a") == found
    outcomes = {name: _tensorboard_outcome(tmp_path / "exp" / "tensorboard" / name) for name in "ab"}
    assert outcomes == {"a": ("demo", 1), "b": ("demo", 2)}


def _tensorboard_outcome(folder: Path) -> tuple[str, int]:
    """The model of the HParams tab, and the status of the session: 1 success, 2 failure."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    found = EventAccumulator(str(folder))
    found.Reload()
    hparams = found.SummaryMetadata("_hparams_/session_start_info"), found.SummaryMetadata("_hparams_/session_end_info")
    start, end = (metadata.parse_session_start_info_plugin_data, metadata.parse_session_end_info_plugin_data)
    return (
        start(hparams[0].plugin_data.content).hparams["model.name"].string_value,
        end(hparams[1].plugin_data.content).status,
    )


@pytest.mark.slow
def test_mlflow(tmp_path: Path) -> None:
    tracked(tmp_path / "exp", {"mlflow": {"kind": "mlflow"}})
    assert send(tmp_path / "exp") == {"mlflow": {"sent": 14, "error": None}}
    assert send(tmp_path / "exp") == {"mlflow": {"sent": 0, "error": None}}
    client = mlflow_client()
    experiment = client.get_experiment_by_name("demo").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert {name: run.info.status for name, run in runs.items()} == {"a": "FINISHED", "b": "FAILED"}
    history = client.get_metric_history(runs["a"].info.run_id, "train/loss")
    assert [(row.step, round(row.value, 6)) for row in history] == LOSS
    assert runs["a"].data.metrics["eval/bench/mean_reward"] == 0.75
    assert runs["a"].data.params["algorithm.lr"] == "${lr}"
    assert runs["b"].data.tags["evsys.error"] == "ValueError: it broke"
    again = making.ArmRecord(tmp_path / "exp" / "arms" / "b")  # a second attempt goes on in the same run
    again.start()
    making.train(again)
    again.complete({"status": "completed", "metrics": {"loss": 0.2}})
    send(tmp_path / "exp")
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert {name: run.info.status for name, run in runs.items()} == {"a": "FINISHED", "b": "FINISHED"}
    assert len(client.get_metric_history(runs["b"].info.run_id, "train/loss")) == 5
    assert runs["b"].data.metrics["final/loss"] == 0.2


@pytest.mark.slow
def test_wandb(tmp_path: Path) -> None:
    tracked(tmp_path / "exp", {"wandb": {"kind": "wandb"}})
    assert send(tmp_path / "exp") == {"wandb": {"sent": 14, "error": None}}
    records = wandb_records(tmp_path / "wandb")
    runs = {row.run.display_name: row.run for row in records if row.WhichOneof("record_type") == "run"}
    assert {(run.project, run.run_group) for run in runs.values()} == {("demo", "a"), ("demo", "b")}
    codes = [row.exit.exit_code for row in records if row.WhichOneof("record_type") == "exit"]
    assert sorted(codes) == [0, 1]
    history = wandb_history(records)
    losses = [(row["_step"], round(row["train/loss"], 6)) for row in history if "train/loss" in row]
    assert losses == [*LOSS, *LOSS]
    assert [row["eval/bench/mean_reward"] for row in history if "eval/bench/mean_reward" in row] == [0.75, 0.75]
    assert send(tmp_path / "exp") == {"wandb": {"sent": 0, "error": None}}
    assert not [row for row in records if row.WhichOneof("record_type") in ("stats", "output_raw", "output")]


@pytest.mark.slow
def test_trackio(tmp_path: Path) -> None:
    tracked(tmp_path / "exp", {"trackio": {"kind": "trackio"}})
    assert send(tmp_path / "exp") == {"trackio": {"sent": 14, "error": None}}
    assert send(tmp_path / "exp") == {"trackio": {"sent": 0, "error": None}}
    code = (
        "from trackio.sqlite_storage import SQLiteStorage as S; import json\n"
        "print(json.dumps({name: [S.get_logs('demo', name), S.get_run_config('demo', name)]"
        " for name in S.get_runs('demo')}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import json

    found = {name.split("-")[0]: rows for name, rows in json.loads(done.stdout.splitlines()[-1]).items()}
    logs, config = found["a"]
    assert [(row["step"], round(row["train/loss"], 6)) for row in logs if "train/loss" in row] == LOSS
    assert [row["eval/bench/mean_reward"] for row in logs if "eval/bench/mean_reward" in row] == [0.75]
    assert [row["state"] for row in logs if "state" in row] == ["completed"]
    assert [row["error"] for row in found["b"][0] if "error" in row] == ["ValueError: it broke"]
    assert config["model.name"] == "demo"


@pytest.mark.slow
def test_two_at_once_follow_a_sweep(tmp_path: Path) -> None:
    trackers = {"tensorboard": {"kind": "tensorboard"}, "mlflow": {"kind": "mlflow"}}
    record = making.experiment(tmp_path / "exp")
    arm = started(record, "a", trackers)
    following = follow(tmp_path / "exp")
    arm.metrics(1, {"loss": 1.0})
    deadline = time.monotonic() + 40
    while not (tmp_path / "exp" / "sync" / "tracker-mlflow" / "arms" / "a.json").exists():
        assert time.monotonic() < deadline, "nothing came while the arm ran"
        time.sleep(0.2)
    arm.metrics(2, {"loss": 0.5})
    arm.complete({"status": "completed", "metrics": {}})
    following.stop(60)
    found = tensorboard_scalars(tmp_path / "exp" / "tensorboard" / "a")
    assert found["train/loss"] == [(1, 1.0), (2, 0.5)]
    client = mlflow_client()
    (run,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    assert (run.info.status, run.data.metrics["train/loss"]) == ("FINISHED", 0.5)


@pytest.mark.slow
def test_it_ends_with_its_driver(tmp_path: Path) -> None:
    record = making.experiment(tmp_path / "exp")
    arm = started(record, "a", {"tensorboard": {"kind": "tensorboard"}})
    arm.metrics(1, {"loss": 1.0})
    code = (
        "import sys, time; from pathlib import Path; from evsys_hydra.trackers.process import follow\n"
        "print(follow(Path(sys.argv[1]))._process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "exp")], stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        child = int(driver.stdout.readline())
        os.kill(driver.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the trackers' process outlived its driver"
        time.sleep(0.1)
    assert tensorboard_scalars(tmp_path / "exp" / "tensorboard" / "a")["train/loss"] == [(1, 1.0)]


@pytest.mark.slow
def test_one_that_cannot_be_used_is_one_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "from evsys_hydra import register_tracker\n"
        "@register_tracker('broken')\n"
        "def open_broken(config, experiment):\n"
        "    import a_package_that_is_not_there\n"
    )
    trackers = {"broken": {"kind": "broken"}, "mlflow": {"kind": "mlflow", "uri": "http://127.0.0.1:9"}}
    trackers["tensorboard"] = {"kind": "tensorboard"}
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    try:
        tracked(tmp_path / "exp", trackers, plugins=[str(plugin)])
        report = send(tmp_path / "exp")
    finally:
        del os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]
    assert "a_package_that_is_not_there" in str(report["broken"]["error"])
    assert report["mlflow"]["error"]
    assert report["tensorboard"] == {"sent": 14, "error": None}
    said = capfd.readouterr().err
    assert said.count("tracker broken") == said.count("tracker mlflow") == 1


class Memory:
    """A tracker that keeps what it is told, and fails when it is told to."""

    def __init__(self) -> None:
        self.points: list[tuple[str, Point]] = []
        self.ends: list[tuple[str, Any]] = []
        self.facts: dict[str, ArmFacts] = {}
        self.fail = 0
        self.refused = ""

    def open(self, arm: ArmFacts, known: str | None) -> MemoryRun:
        if arm.name == self.refused:
            raise ValueError("not this one")
        self.facts[arm.name] = arm
        return MemoryRun(self, arm)


class MemoryRun:
    """One of its arms."""

    def __init__(self, memory: Memory, arm: ArmFacts) -> None:
        self.memory, self.id, self.name = memory, arm.id, arm.name

    def log(self, points: Sequence[Point]) -> None:
        self.memory.fail -= 1
        if self.memory.fail == 0:
            raise ConnectionError("the server went away")
        self.memory.points += [(self.name, point) for point in points]

    def end(self, state: str, facts: Any) -> None:
        self.memory.ends.append((state, facts))


@pytest.mark.parametrize("which", [1, 2])
def test_what_was_not_taken_is_sent_again_and_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    monkeypatch.setattr("evsys_hydra.trackers.mirror.BATCH", 2)
    tracked(tmp_path / "exp", {})
    memory = Memory()
    memory.fail = which
    with pytest.raises(ConnectionError):
        Mirror(tmp_path / "exp", "memory", memory).send(live=False)
    mirror = Mirror(tmp_path / "exp", "memory", memory)
    mirror.send(live=False)
    mirror.send(live=False)
    for name in ("a", "b"):
        steps = [point.step for arm, point in memory.points if arm == name and "train/loss" in point.values]
        assert steps == [1, 2, 3, 4, 5]
    assert sorted((state, facts["state"]) for state, facts in memory.ends) == [("completed",) * 2, ("failed",) * 2]


def test_an_arm_that_is_refused_keeps_no_other_out(tmp_path: Path) -> None:
    tracked(tmp_path / "exp", {})
    memory = Memory()
    memory.refused = "a"
    mirror = Mirror(tmp_path / "exp", "memory", memory)
    for _ in range(2):
        with pytest.raises(ValueError, match="not this one"):
            mirror.send(live=False)
    steps = [point.step for arm, point in memory.points if arm == "b" and "train/loss" in point.values]
    assert steps == [1, 2, 3, 4, 5]
    assert [state for state, _ in memory.ends] == ["failed"]


def test_steps_that_are_recorded_again_are_not_sent_again(tmp_path: Path) -> None:
    record = making.experiment(tmp_path / "exp")
    arm = started(record, "a", {})
    memory = Memory()
    mirror = Mirror(tmp_path / "exp", "memory", memory)
    for step in (1, 2, 1, 2, 3):  # back to a checkpoint
        arm.metrics(step, {"loss": float(step)})
    arm.metrics(3, {"loss": 1.0}, split="val")
    arm.metrics(4, {"loss": float("nan")})
    mirror.send(live=True)
    steps = [(point.step, sorted(point.values)) for _, point in memory.points]
    assert steps == [(1, ["train/loss"]), (2, ["train/loss"]), (3, ["train/loss"]), (3, ["val/loss"])]


def test_no_secret_reaches_a_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cr3t-value")
    record = making.experiment(tmp_path / "exp")
    arm = making.add_arm(record, "a", inference={"kind": "api", "api_key": "${oc.env:MY_TOKEN}"})
    making.run_arm(arm, fail="HTTPError: 401 for s3cr3t-value")
    memory = Memory()
    Mirror(tmp_path / "exp", "memory", memory).send(live=False)
    assert memory.facts["a"].config["inference.api_key"] == "${oc.env:MY_TOKEN}"
    assert memory.ends[0][1]["error"] == "HTTPError: 401 for ${oc.env:MY_TOKEN}"


@pytest.mark.slow
def test_a_sweep_with_trackers(tmp_path: Path, sweep: Any) -> None:
    done = sweep("algorithm.lr=1,2", "tracker=[tensorboard,mlflow]", "tracker.mlflow.experiment=mine")
    assert done.returncode == 0, done.stderr
    arms = {path.name for path in (tmp_path / "exp" / "arms").iterdir()}
    found = {arm: tensorboard_scalars(tmp_path / "exp" / "tensorboard" / arm) for arm in arms}
    assert {arm for arm in arms if "train/loss" in found[arm]} == arms - {"base"}
    assert all("eval/tasks/mean_reward" in found[arm] for arm in arms)
    client = mlflow_client()
    runs = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert {run.info.run_name for run in runs} == arms
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert read_json(tmp_path / "exp" / "conclusion.json")


def test_an_unknown_tracker_is_found_before_anything_runs(sweep: Any) -> None:
    done = sweep("+tracker.tensorbord.dir=x")
    assert done.returncode == 1
    assert "Did you mean 'tensorboard'" in done.stderr


@pytest.mark.slow
def test_the_tracker_of_the_docs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "trackers.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "my_plugin.py").write_text(block)
    tracked(tmp_path / "exp", {"csv": {"file": "points.csv"}}, plugins=[str(tmp_path / "my_plugin.py")])
    assert send(tmp_path / "exp")["csv"] == {"sent": 14, "error": None}
    assert "a,5,eval/bench/mean_reward,0.75" in (tmp_path / "exp" / "points.csv").read_text()
