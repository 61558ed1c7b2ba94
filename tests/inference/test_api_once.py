"""An API model is asked once per experiment: however many arms, and across a resumed sweep and `evsys-hydra eval`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.record import ArmView
from evsys_hydra.record.files import read_lines
from evsys_hydra.sweep.collect import read_arm
from tests.conftest import TASKS, Run, command_line

from .servers import Server

KEY = "sk-very-secret-4567"


def answer(number: int, body: dict[str, Any]) -> tuple[Any, ...]:
    """The right answer, the last word, after a while."""
    time.sleep(0.2)
    return ("json", {"choices": [{"message": {"content": body["messages"][-1]["content"].split()[-1]}}]})


def asked(server: Server) -> list[str]:
    return sorted(body["messages"][-1]["content"] for body in server.bodies)


@pytest.mark.slow
def test_an_api_model_is_paid_for_once(tmp_path: Path, noop_words: list[str]) -> None:
    with Server(answer) as server:
        environment = {**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": KEY}
        words = [*noop_words, "benchmark.model=big/one", "lr=0.5,1.0", "hydra.sweep.dir=exp"]
        command = command_line(*words)
        everything = sorted(task["instruction"] for task in TASKS)
        directory = tmp_path / "exp" / "arms" / "big-one"

        # the arm is killed in the middle of its evaluation, and the driver goes on
        running = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(list(read_lines(directory / "predictions" / "tasks.jsonl"))) < 5:
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.01)
        os.kill(ArmView(directory).status["pid"], signal.SIGKILL)
        running.wait(timeout=60)
        assert ArmView(directory).state == "failed"
        before = len(server.bodies)
        assert before < len(TASKS)
        subprocess.run(["evsys-hydra", "resume", "exp"], cwd=tmp_path, env=environment, check=True, capture_output=True)
        assert ArmView(directory).state == "completed"
        again = len(server.bodies) - len(TASKS)
        assert set(asked(server)) == set(everything)
        assert 0 <= again <= 16, "what was asked twice are the answers that were under way at the kill"

        def evaluate(*words: str | Path) -> None:
            command = ["evsys-hydra", "eval", *map(str, words)]
            subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)

        done = len(server.bodies)
        evaluate(directory)
        (tmp_path / "few").mkdir()
        lines = [{**task, "task_id": f"again-{task['task_id']}"} for task in TASKS[:3]]
        (tmp_path / "few" / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        evaluate(directory, "--benchmark", "few")
        assert len(server.bodies) == done, "the same questions with the same settings"
        evaluate(directory, "--benchmark", "few", "benchmark.chat_template.system_prompt=short")
        assert len(server.bodies) == done + 3
        few = read_arm(ArmView(directory)).eval("few")
        assert few is not None and few.metrics["pass_rate"] == 1.0 and few.facts["cached"] == 3
    kept = "".join(file.read_text() for file in (tmp_path / "exp").rglob("*.json*"))
    assert KEY not in kept and "api_answers" in {path.name for path in (tmp_path / "exp").iterdir()}


def grade(number: int, body: dict[str, Any]) -> tuple[Any, ...]:
    """The judge's word about any answer."""
    return ("json", {"choices": [{"message": {"content": '{"reason": "so so", "score": 0.5}'}}]})


@pytest.mark.slow
def test_a_judge_is_paid_for_once(sweep: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation whose rows are lost asks for no second opinion."""
    folder = tmp_path / "judged"
    folder.mkdir()
    verifier = {"kind": "llm_judge", "judge_model": "judge", "rubric": "Be right."}
    tasks = [{**task, "verifier": verifier} for task in TASKS[:6]]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    with Server(grade) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        sweep(f"benchmark.path={folder}", "metadata.baseline=null", "lr=1.0", multirun=False, check=True)
        assert len(server.bodies) == 6
        (directory,) = (tmp_path / "exp" / "arms").iterdir()
        (directory / "predictions" / "judged.jsonl").unlink()
        subprocess.run(["evsys-hydra", "eval", directory], cwd=tmp_path, check=True, capture_output=True)
        assert len(server.bodies) == 6
    rows = list(read_lines(directory / "predictions" / "judged.jsonl"))
    assert [row["reward"] for row in rows] == [0.5] * 6
