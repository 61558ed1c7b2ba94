"""`evsys-hydra eval`: evals are added to a sweep's record, nothing is taken from it, nothing is done twice."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.record import ArmRecord, ArmView
from evsys_hydra.record.files import read_json, read_lines
from evsys_hydra.results import ArmResult
from evsys_hydra.sweep.collect import read_arm
from tests.conftest import ROOT, TASKS, Run, command_line


def evaluate(*words: str | Path, cwd: Path, code: int = 0) -> Any:
    command = ["evsys-hydra", "eval", *map(str, words), "--json"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def arm(tmp_path: Path, name: str = "demo") -> ArmResult:
    return read_arm(ArmView(tmp_path / "exp" / "arms" / name))


@pytest.fixture
def other_tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in TASKS[:8]))
    return folder


@pytest.mark.slow
def test_evals_are_added_under_names_of_their_own(sweep: Run, tmp_path: Path, other_tasks: Path) -> None:
    sweep("metadata.success_metric=mean_reward", "lr=0.5,1.0", check=True)
    experiment, directory = tmp_path / "exp", tmp_path / "exp" / "arms" / "lr=0.5"
    rows = (directory / "predictions" / "tasks.jsonl").read_bytes()
    status, before = read_json(directory / "status.json"), arm(tmp_path, "lr=0.5")
    conclusion = read_json(experiment / "conclusion.json")["conclusion"]

    facts = evaluate(directory, cwd=tmp_path)  # its own benchmark as it is recorded: nothing to do
    assert [(row["name"], row["added"]) for row in facts["evals"]] == [("tasks", False)]

    facts = evaluate("lr=0.5", "--dir", experiment, "--benchmark", "other", "--benchmark", "demo", cwd=tmp_path)
    assert [row["name"] for row in facts["evals"]] == ["other", "demo"] and all(row["added"] for row in facts["evals"])
    assert facts["evals"][0]["metrics"]["n_tasks"] == 8 and facts["conclusion"] == "The conclusion is as it was."

    changed = ("benchmark.temperature=0.5", "benchmark.limit=10")
    facts = evaluate(directory, *changed, "--benchmark", "tasks", cwd=tmp_path)
    assert facts["evals"][0]["name"] == "tasks-temperature=0.5-limit=10"

    assert "test" not in arm(tmp_path, "lr=0.5").eval("other").tags  # type: ignore[union-attr]

    (other_tasks / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in TASKS[:9]))
    facts = evaluate(directory, "--benchmark", other_tasks, cwd=tmp_path)
    assert facts["evals"][0]["name"].startswith("other-") and facts["evals"][0]["metrics"]["n_tasks"] == 9

    after = arm(tmp_path, "lr=0.5")
    assert len(after.evals) == 5 and after.evals[0] == before.evals[0]
    assert after.primary == before.primary and after.eval_metrics == before.eval_metrics
    assert (directory / "predictions" / "tasks.jsonl").read_bytes() == rows
    assert read_json(directory / "status.json") == status
    assert read_json(experiment / "conclusion.json")["conclusion"] == conclusion
    ids = [event["id"] for event in read_lines(directory / "events.jsonl")]
    assert len(ids) == len(set(ids))

    facts = evaluate(experiment, "--benchmark", "other", cwd=tmp_path)  # every arm of it
    assert sorted((row["arm"], row["added"]) for row in facts["evals"]) == [
        ("base", True),
        ("lr=0.5", False),
        ("lr=1.0", True),
    ]


@pytest.mark.slow
def test_a_metric_is_added_without_new_answers(sweep: Run, tmp_path: Path) -> None:
    sweep("benchmark.num_samples=2", check=True)
    rows = (tmp_path / "exp" / "arms" / "demo" / "predictions" / "tasks.jsonl").read_bytes()
    for metric in ("pass@2", "pass^2"):
        evaluate("demo", f"benchmark.metrics=[{metric}]", "--dir", "exp", cwd=tmp_path)
    (row,) = arm(tmp_path).evals
    assert {"mean_reward", "pass_rate", "n_tasks", "n_errors", "pass@2", "pass^2"} == set(row.metrics)
    assert "test" in row.tags
    assert (tmp_path / "exp" / "arms" / "demo" / "predictions" / "tasks.jsonl").read_bytes() == rows


@pytest.mark.slow
def test_an_edited_verifier_scores_what_was_answered(sweep: Run, tmp_path: Path) -> None:
    """Also where it changes no metric; until all arms are scored by it, the conclusion says so."""
    plugin, folder, experiment = tmp_path / "own.py", tmp_path / "mine", tmp_path / "exp"
    source = (
        "from evsys_hydra import register_verifier\n"
        "@register_verifier('own')\n"
        "def own(output, expected, params):\n    return {}\n"
    )
    plugin.write_text(source.format("0.25"))
    folder.mkdir()
    tasks = [{**task, "verifier": {"kind": "in_process", "fn_name": "own"}} for task in TASKS[:8]]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    parts = ROOT / "tests" / "parts" / "noop.py"
    words = (f"plugins=[{parts},{plugin}]", f"benchmark.path={folder}", "metadata.success_metric=mean_reward")
    sweep(*words, "metadata.baseline=null", "lr=0.5,1.0", check=True)
    answers = [row["output"] for row in read_lines(experiment / "arms" / "lr=0.5" / "predictions" / "mine.jsonl")]
    assert "verifier" not in read_json(experiment / "conclusion.json")["conclusion"]

    for reward in ("0.75", "0.7 + 0.05"):
        plugin.write_text(source.format(reward))
        facts = evaluate("lr=0.5", "--dir", experiment, cwd=tmp_path)
        assert [(row["name"], row["metrics"]["mean_reward"], row["added"]) for row in facts["evals"]] == [
            ("mine", 0.75, True)
        ]
        rows = list(read_lines(experiment / "arms" / "lr=0.5" / "predictions" / "mine.jsonl"))
        assert [row["output"] for row in rows] == answers and {row["reward"] for row in rows} == {0.75}
    said = read_json(experiment / "conclusion.json")["conclusion"]
    assert said.startswith("The arms were not all scored by the same verifier: edited in between: own of mine.")

    facts = evaluate(experiment, cwd=tmp_path)
    assert sorted((row["arm"], row["added"]) for row in facts["evals"]) == [("lr=0.5", False), ("lr=1.0", True)]
    assert "verifier" not in read_json(experiment / "conclusion.json")["conclusion"]


@pytest.mark.slow
def test_the_store_and_the_conclusion_follow(sweep: Run, tmp_path: Path) -> None:
    """A benchmark that could not be scored is scored later, and counts as if it had been."""
    from evsys_hydra.store import open_store_at

    broken = tmp_path / "broken.py"
    text = (ROOT / "tests" / "parts" / "noop.py").read_text()
    broken.write_text(text.replace('path = Path(checkpoint or "")', "path = 1 / 0"))
    words = (
        f"plugins=[{broken}]",
        "store=local",
        f"store.path={tmp_path / 'store.sqlite'}",
        "metadata.success_metric=mean_reward",
    )
    sweep(*words, "metadata.baseline=null")
    assert arm(tmp_path).evals[0].error and arm(tmp_path).score("mean_reward") is None
    assert "(no score: ZeroDivisionError: " in read_json(tmp_path / "exp" / "conclusion.json")["conclusion"]
    broken.write_text(text)
    facts = evaluate("demo", "--dir", "exp", cwd=tmp_path)
    assert arm(tmp_path).evals[0].error is None
    score = arm(tmp_path).score("mean_reward")
    assert facts["conclusion"].startswith("The conclusion now:") and f"mean_reward={score:.4f}" in facts["conclusion"]
    shown = subprocess.run(["evsys-hydra", "status", "exp"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"mean_reward={score:.4f}" in shown.stdout
    store = open_store_at(str(tmp_path / "store.sqlite"))
    (experiment,) = store.list_experiments()
    (run,) = store.list_runs(experiment_id=experiment["id"])
    assert run["summary"]["score"] == score
    assert [row["metrics"].get("mean_reward") for row in store.list_evals(run_id=run["id"])] == [None, score]


@pytest.mark.slow
def test_what_cannot_be_scored_is_said_at_once(sweep: Run, tmp_path: Path, other_tasks: Path) -> None:
    sweep("algorithm.do=complete,raise")
    name = "do=complete"
    assert "is failed: there is no final checkpoint. ValueError: this recipe does not work" in evaluate(
        "do=raise", "--dir", "exp", cwd=tmp_path, code=1
    )
    problems = evaluate(name, "benchmark.max_token=3", "--dir", "exp", cwd=tmp_path, code=1)
    assert f"{name}: benchmark.max_token: unknown field (did you mean 'max_tokens'?)" in problems
    problems = evaluate(name, "--benchmark", "oter", "--dir", "exp", cwd=tmp_path, code=1)
    assert "--benchmark oter: neither a benchmark of the arm (tasks)" in problems and "tool_selection" in problems
    assert "lr=1: an evaluation can change" in evaluate(name, "lr=1", "--dir", "exp", cwd=tmp_path, code=1)
    words = ("benchmark.models=[gpt]", "benchmark.run_every=5", "benchmark.adaptive=true")
    problems = evaluate(name, *words, "--dir", "exp", cwd=tmp_path, code=1)
    assert all(f"benchmark.{field}: an evaluation scores" in problems for field in ("models", "run_every", "adaptive"))
    assert "has no checkpoint of step 7" in evaluate(name, "--step", "7", "--dir", "exp", cwd=tmp_path, code=1)
    problems = evaluate("nobody", "--dir", "exp", cwd=tmp_path, code=1)
    assert "No arm 'nobody'" in problems and "python -m evsys_hydra algorithm=none model.name=nobody" in problems
    directory = tmp_path / "exp" / "arms" / name
    before = (directory / "events.jsonl").read_bytes()
    with (directory / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        problems = evaluate(directory, "--benchmark", "other", cwd=tmp_path, code=1)
    assert "is running now" in problems["evals"][0]["error"] and not problems["evals"][0]["added"]
    (directory / "checkpoints" / "skill.txt").unlink()
    problems = evaluate(directory, "--benchmark", "other", cwd=tmp_path, code=1)
    assert "has no checkpoint to score: its files are gone" in problems
    assert (directory / "events.jsonl").read_bytes() == before


@pytest.mark.slow
def test_a_killed_evaluation_generates_what_is_missing_only(sweep: Run, tmp_path: Path, other_tasks: Path) -> None:
    """SIGKILL in the middle: the same command asks for the rest, and ends with the rows of one that was not killed."""
    slow = tmp_path / "slow.py"
    asked = tmp_path / "asked.txt"
    text = (ROOT / "tests" / "parts" / "noop.py").read_text()
    note = f"words = request.messages[-1]['content'].split(); open({str(asked)!r}, 'a').write(words[-1] + chr(10))"
    note += "; time.sleep(float(os.environ.get('SLOW', '0')))"
    slow.write_text(text.replace('words = request.messages[-1]["content"].split()', note))
    sweep(f"plugins=[{slow}]", check=True)
    asked.unlink()
    directory = tmp_path / "exp" / "arms" / "demo"
    rows = directory / "predictions" / "other.jsonl"
    command = ["evsys-hydra", "eval", str(directory), "--benchmark", str(other_tasks)]
    running = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "SLOW": "0.3"}, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(read_lines(rows))) < 3:
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    assert ArmView(directory).state == "completed"
    with pytest.raises(BlockingIOError):
        ArmRecord(directory).reopen()
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    kept = [row["task_id"] for row in read_lines(rows)]
    assert 3 <= len(kept) < 8
    with rows.open("ab") as file:
        file.write(b'{"kind": "eval", "task_id": "t7", "sam')  # what a write that was cut off leaves
    asked.unlink()
    evaluate(directory, "--benchmark", other_tasks, cwd=tmp_path)
    assert sorted(asked.read_text().split()) == [str(n) for n in range(8) if f"t{n}" not in kept]
    resumed = {row["task_id"]: {**row, "metadata": None} for row in read_lines(rows)}
    rows.rename(rows.with_suffix(".kept"))
    row = evaluate(directory, "--benchmark", other_tasks, cwd=tmp_path)["evals"][0]
    assert {row["task_id"]: {**row, "metadata": None} for row in read_lines(rows)} == resumed
    assert row["metrics"] == arm(tmp_path).eval("other").metrics  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.model
def test_a_step_and_the_final_weights_of_a_real_model(tmp_path: Path) -> None:
    words = [
        "algorithm.max_steps=4",
        "algorithm.save_at=[0.5]",
        "benchmark.limit=6",
        "metadata.baseline=null",
        "store=none",
    ]
    command = [*command_line(*words, "hydra.sweep.dir=exp"), "model.dtype=float32"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    facts = evaluate("demo", "--step", "2", "--dir", "exp", cwd=tmp_path)
    assert [(row["name"], row["step"], row["metrics"]["n_errors"]) for row in facts["evals"]] == [("demo", 2, 0)]
    assert "--step 2, 4" in evaluate("demo", "--step", "3", "--dir", "exp", cwd=tmp_path, code=1)
    evaluate("demo", "benchmark.max_tokens=39", "--dir", "exp", cwd=tmp_path)
    predictions = tmp_path / "exp" / "arms" / "demo" / "predictions"
    now = {row["task_id"]: row["output"] for row in read_lines(predictions / "demo-max_tokens=39.jsonl")}
    then = {row["task_id"]: row["output"] for row in read_lines(predictions / "demo.jsonl")}
    short = {task for task, output in then.items() if len(output) < 30}
    assert short and all(now[task] == then[task] for task in short)
    assert arm(tmp_path).eval("demo", 2) is not None and arm(tmp_path).eval("demo").step is None  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.model
def test_a_model_alone_is_scored_by_a_sweep_that_trains_nothing(tmp_path: Path) -> None:
    words = ["algorithm=none", "model.name=demo", "benchmark=arithmetic", "benchmark.limit=3", "store=none"]
    command = [sys.executable, "-m", "evsys_hydra", *words, "hydra.run.dir=exp"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (directory,) = (tmp_path / "exp" / "arms").iterdir()
    row = read_arm(ArmView(directory)).eval("arithmetic")
    assert row is not None and row.metrics["n_tasks"] == 3
