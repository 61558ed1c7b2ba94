"""Adaptive evaluation through the Python door: who can no longer be best is scored no further, and the text says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra import Benchmark, ConfigError, Experiment, ExperimentConfig, ExperimentResult, RunResult, conclude
from evsys_hydra.record.files import read_lines

N = 256
TASKS = [
    {
        "task_id": f"t{number}",
        "instruction": f"Say {number}",
        "verifier": {"kind": "in_process", "fn_name": "exact_match", "expected": str(number)},
    }
    for number in range(N)
]
YAML = """\
name: adaptive
metadata: {success_metric: pass_rate, baseline: null}
store: {kind: none}
hydra: {sweeper: {params: {lr: "1e-3,1e-4,1e-5"}}}
"""
SKILL = {"lr=0.001": 0.9, "lr=0.0001": 0.88, "lr=1e-5": 0.1}


class Client:
    """Right on a share of the tasks, spread evenly over them."""

    def __init__(self, skill: float) -> None:
        self.skill, self.calls = skill, 0

    def generate(self, *, prompt: str, max_tokens: int, temperature: float, stop: list[str] | None) -> str:
        self.calls += 1
        number = int(prompt.split()[-1])
        return str(number) if number * 37 % 100 < 100 * self.skill else "?"


def train(config: ExperimentConfig) -> list[RunResult]:
    if (config.arm or "").startswith("lr=0.1"):
        raise RuntimeError("diverged")
    return [RunResult(run_id=config.arm or "")]


def run(
    tmp_path: Path, *overrides: str, clients: dict[str, Client] | None = None, skill: dict[str, float] = SKILL
) -> ExperimentResult:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "config.yaml"
    path.write_text(YAML)

    def factory(result: RunResult, run: Any) -> Client:
        made = Client(next(share for name, share in skill.items() if run.name.split(",seed")[0] == name))
        if clients is not None:
            clients[run.name] = made
        return made

    parts: dict[str, Any] = {"train_fn": train, "benchmark": Benchmark.from_iterable("bench", TASKS)}
    output = tmp_path / "exp"
    overrides = ("benchmark.adaptive=true", *overrides)
    return Experiment.from_yaml(path, overrides=overrides, **parts, inference_factory=factory, output_dir=output).run()


def test_a_group_that_can_no_longer_be_best_is_scored_no_further(tmp_path: Path) -> None:
    clients: dict[str, Client] = {}
    result = run(tmp_path, clients=clients)
    calls = {name: client.calls for name, client in clients.items()}
    assert calls["lr=0.001"] == N and calls["lr=0.0001"] == N and 0 < calls["lr=1e-5"] < N
    n = calls["lr=1e-5"]
    last = result.arms[-1]
    assert last.status == "completed" and last.eval_metrics["n_tasks"] == n and last.eval_metrics["n_errors"] == 0
    facts = last.evals[0].facts["adaptive"]
    lost_to = facts.pop("lost_to")
    assert lost_to in ("lr=0.001", "lr=0.0001") and facts == {"alpha": 0.01, "tasks": n, "of": N}
    assert f"lr=1e-5 after {n} (behind {lost_to}) of 256 tasks" in result.conclusion
    assert f"That saved {N - n} of {3 * N} answers to score." in result.conclusion
    assert result.ranking["ranking"] == ["lr=0.001", "lr=0.0001"] and result.ranking["alpha"] == pytest.approx(0.04)
    assert "Not ranked" not in result.conclusion
    assert conclude(tmp_path / "exp").conclusion == result.conclusion
    rows = list(read_lines(tmp_path / "exp" / "arms" / "lr=1e-5" / "predictions" / "bench.jsonl"))
    assert len(rows) == n


def test_all_arms_take_the_tasks_in_one_order_and_it_is_not_the_files(tmp_path: Path) -> None:
    run(tmp_path)
    orders = [
        [row["task_id"] for row in read_lines(tmp_path / "exp" / "arms" / arm / "predictions" / "bench.jsonl")][:32]
        for arm in SKILL
    ]
    assert {frozenset(order) for order in orders} == {frozenset(orders[0])}
    assert set(orders[0]) != {f"t{number}" for number in range(32)}


def test_groups_that_the_experiment_is_about_are_scored_in_full(tmp_path: Path) -> None:
    clients: dict[str, Client] = {}
    result = run(tmp_path, "+metadata.compare={better: 'lr=0.001', than: 'lr=1e-5'}", clients=clients)
    assert {client.calls for client in clients.values()} == {N}
    assert result.ranking["hypothesis"]["call"] == "supported"


@pytest.mark.slow
def test_seeds_of_a_stopped_group_stop_after_their_first_round(tmp_path: Path) -> None:
    clients: dict[str, Client] = {}
    result = run(tmp_path, "seed=0,1,2", clients=clients)
    calls = {name: client.calls for name, client in clients.items()}
    assert all(count == N for name, count in calls.items() if not name.startswith("lr=1e-5"))
    assert calls["lr=1e-5,seed=2"] < N
    assert result.ranking["ranking"] == ["lr=0.001", "lr=0.0001"]
    assert result.ranking["scope"] == "recipe"


def test_groups_that_failed_do_not_lower_the_bar(tmp_path: Path) -> None:
    """The level is divided among all planned rivals: with one this arm is stopped after 96 tasks, with three later."""
    skill = {"lr=0.0001": 0.88, "lr=1e-5": 0.7}
    for rivals, wanted in [("", 96), ("0.1,0.11,", 128)]:
        clients: dict[str, Client] = {}
        result = run(tmp_path / str(wanted), f"lr={rivals}1e-4,1e-5", clients=clients, skill=skill)
        assert [arm.status for arm in result.arms].count("failed") == rivals.count(",")
        assert {name: client.calls for name, client in clients.items()} == {"lr=0.0001": N, "lr=1e-5": wanted}


def test_whom_a_group_lost_to_must_itself_be_ranked(tmp_path: Path) -> None:
    run(tmp_path, skill={**SKILL, "lr=0.0001": 0.1})
    status = tmp_path / "exp" / "arms" / "lr=0.001" / "status.json"
    status.write_text(json.dumps({**json.loads(status.read_text()), "state": "failed", "error": "X: y"}))
    text = conclude(tmp_path / "exp").conclusion
    assert text.startswith("Nothing could be ranked")
    assert "But lr=0.001 is not ranked itself: score lr=1e-5 in full with evsys-hydra eval" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["metadata.success_metric=train_loss"], "success_metric is 'train_loss'"),
        (["benchmark.cluster_key=family"], "independent tasks"),
    ],
)
def test_what_cannot_be_decided_task_by_task_is_refused(tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, *words)


@pytest.mark.slow
@pytest.mark.model
def test_a_stopped_group_is_ranked_once_it_is_scored_in_full(tmp_path: Path) -> None:
    """A real sweep in isolated processes, and the verb."""
    environment = {**os.environ, "EVSYS_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}

    def call(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    words = ("lr=1e-4,1e-5", "algorithm.max_steps=40", "benchmark.adaptive=true", "store=none")
    call("evsys_hydra", "-m", *words, f"hydra.sweep.dir={tmp_path / 'exp'}")
    before = json.loads((tmp_path / "exp" / "conclusion.json").read_text())
    assert before["verdict"]["ranking"] == ["lr=0.0001"] and before["verdict"]["winner"] == "lr=0.0001"
    assert "the other was stopped early" in before["conclusion"]
    said = json.loads(call("evsys_hydra.cli", "eval", str(tmp_path / "exp" / "arms" / "lr=1e-5"), "--json"))
    assert said["evals"][0]["name"] == "demo" and said["evals"][0]["metrics"]["n_tasks"] == 200
    after = json.loads((tmp_path / "exp" / "conclusion.json").read_text())
    assert after["verdict"]["ranking"] == ["lr=0.0001", "lr=1e-5"] and "Stopped early" not in after["conclusion"]
