"""The behaviour contract through the Python door: injected parts, no torch, no network, in seconds."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from evsys_hydra import (
    ArmResult,
    Benchmark,
    ConfigError,
    EvalResult,
    Experiment,
    ExperimentConfig,
    RunConfig,
    RunResult,
    conclude,
)
from evsys_hydra.record.files import read_json, write_json
from tests.conftest import TASKS

YAML = """\
name: contract
metadata:
  hypothesis: more is better
  success_metric: pass_rate
  baseline: null
store: {kind: none}
hydra:
  sweeper:
    params:
      lr: 1e-5,3e-5
"""


class Oracle:
    """The EvSys SDK's plain client: right on the first `skill` tasks."""

    def __init__(self, skill: int) -> None:
        self.skill = skill
        self.calls = 0

    def generate(self, *, prompt: str, max_tokens: int, temperature: float, stop: list[str] | None) -> str:
        self.calls += 1
        number = int(prompt.split()[-1])
        return str(number) if number < self.skill else "?"


def train(config: ExperimentConfig) -> list[RunResult]:
    return [RunResult(run_id=config.arm or "", metrics={"loss": config.lr})]


def experiment(tmp_path: Path, *overrides: str, yaml: str = YAML, **parts: Any) -> Experiment:
    path = tmp_path / "config.yaml"
    path.write_text(yaml)
    defaults: dict[str, Any] = {
        "train_fn": train,
        "benchmark": Benchmark.from_iterable("bench", TASKS),
        "inference_factory": lambda result, run: Oracle(20 if run.name.startswith("lr=3e-5") else 5),
        "output_dir": tmp_path / "exp",
    }
    return Experiment.from_yaml(path, overrides=overrides, **{**defaults, **parts})


def test_one_declarative_run_gives_arms_ranking_and_conclusion(tmp_path: Path) -> None:
    result = experiment(tmp_path).run()
    assert (result.name, result.status, result.hypothesis) == ("contract", "completed", "more is better")
    assert [arm.name for arm in result.arms] == ["lr=1e-5", "lr=3e-5"]
    assert result.best_arm is not None and result.best_arm.name == "lr=3e-5"
    assert result.best_score == 0.5
    assert result.ranking["verdict"] == "winner" and result.ranking["winner"] == "lr=3e-5"
    assert "Best arm: lr=3e-5 at pass_rate=0.5000." in result.conclusion
    assert "2/2 arms completed." in result.conclusion and "Failed:" not in result.conclusion
    assert read_json(tmp_path / "exp" / "conclusion.json")["experiment_id"] == result.experiment_id


def test_an_arm_that_raises_fails_alone(tmp_path: Path) -> None:
    def sometimes(config: ExperimentConfig) -> list[RunResult]:
        if config.lr < 2e-5:
            raise ValueError("no good")
        return train(config)

    result = experiment(tmp_path, train_fn=sometimes).run()
    failed, completed = result.arms
    assert (failed.status, failed.error, failed.cause) == ("failed", "ValueError: no good", "user_error")
    assert completed.status == "completed" and result.status == "completed"
    assert "1/2 arms completed." in result.conclusion and "Failed: lr=1e-5." in result.conclusion


@pytest.mark.parametrize("ending", [SystemExit(3), KeyError("x"), MemoryError()])
def test_all_arms_failed(tmp_path: Path, ending: BaseException) -> None:
    def never(config: ExperimentConfig) -> list[RunResult]:
        raise ending

    result = experiment(tmp_path, train_fn=never).run()
    assert result.status == "failed" and result.best_arm is None and result.best_score is None
    assert "All 2 arms failed." in result.conclusion
    assert {arm.cause for arm in result.arms} == {"out_of_memory" if isinstance(ending, MemoryError) else "user_error"}


def test_no_results_and_other_statuses_are_failures(tmp_path: Path) -> None:
    result = experiment(tmp_path, train_fn=lambda config: []).run()
    assert result.arms[0].error == "train_fn returned no results for arm 'lr=1e-5'"
    cancelled = [RunResult("x", status="cancelled", error="Stopped: by hand")]
    result = experiment(tmp_path, train_fn=lambda config: cancelled, output_dir=tmp_path / "two").run()
    assert [arm.error for arm in result.arms] == ["Stopped: by hand"] * 2


def test_the_inference_factory_is_called_once_for_each_completed_arm(tmp_path: Path) -> None:
    calls: list[tuple[str, str]] = []

    def factory(result: RunResult, run: RunConfig) -> Oracle:
        calls.append((result.run_id, run.name))
        return Oracle(3)

    def sometimes(config: ExperimentConfig) -> list[RunResult]:
        return [] if config.seed == 1 else train(config)

    experiment(tmp_path, "seed=0,1", train_fn=sometimes, inference_factory=factory).run()
    assert calls == [("lr=1e-5,seed=0",) * 2, ("lr=3e-5,seed=0",) * 2]


def test_an_evaluation_that_fails_never_loses_the_training(tmp_path: Path) -> None:
    def broken(result: RunResult, run: RunConfig) -> Oracle:
        raise ConnectionError("no server")

    result = experiment(tmp_path, inference_factory=broken).run()
    assert [arm.status for arm in result.arms] == ["completed", "completed"]
    assert result.arms[0].evals[0].error == "ConnectionError: no server"
    assert result.arms[0].metrics["loss"] == 1e-5 and result.best_arm is None
    assert "2/2 arms completed." in result.conclusion and "Best arm" not in result.conclusion


def test_a_failing_request_costs_one_prediction(tmp_path: Path) -> None:
    class Flaky(Oracle):
        def generate(self, *, prompt: str, max_tokens: int, temperature: float, stop: list[str] | None) -> str:
            if prompt.endswith(" 7"):
                raise TimeoutError("slow")
            return super().generate(prompt=prompt, max_tokens=max_tokens, temperature=temperature, stop=stop)

    result = experiment(tmp_path, inference_factory=lambda result, run: Flaky(40)).run()
    metrics = result.arms[0].eval_metrics
    assert metrics["n_errors"] == 1 and metrics["n_tasks"] == 40
    rows = (tmp_path / "exp" / "arms" / "lr=1e-5" / "predictions" / "bench.jsonl").read_text()
    assert "TimeoutError: slow" in rows and rows.count("\n") == 40


def test_seeds_are_replicates_of_a_group(tmp_path: Path) -> None:
    result = experiment(tmp_path, "n_repeats=3", "base_seed=10").run()
    assert [arm.name for arm in result.arms][:3] == ["lr=1e-5,seed=10", "lr=1e-5,seed=11", "lr=1e-5,seed=12"]
    assert [arm.group_name for arm in result.arms] == ["lr=1e-5"] * 3 + ["lr=3e-5"] * 3
    assert [arm.run_config.seed for arm in result.arms if arm.run_config] == [10, 11, 12] * 2
    assert result.ranking["ranking"] == ["lr=3e-5", "lr=1e-5"] and result.ranking["scope"] == "recipe"


def test_n_repeats_and_seeds_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two ways to say the same"):
        experiment(tmp_path, "n_repeats=3", "seed=0,1").run()


def test_a_loss_is_minimized_by_default(tmp_path: Path) -> None:
    result = experiment(tmp_path, "metadata.success_metric=loss").run()
    assert result.best_arm is not None and result.best_arm.name == "lr=1e-5"
    assert result.ranking["verdict"] == "no_inference"


def test_without_a_success_metric_nothing_is_ranked(tmp_path: Path) -> None:
    result = experiment(tmp_path, "metadata.success_metric=null").run()
    assert result.best_arm is None and "Best arm" not in result.conclusion
    assert "2/2 arms completed." in result.conclusion


def test_a_raising_store_loses_nothing(tmp_path: Path) -> None:
    class Down:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            def refuse(*args: Any, **fields: Any) -> Any:
                raise ConnectionError("the store is down")

            return refuse

    result = experiment(tmp_path, store=Down()).run()
    assert result.status == "completed" and (tmp_path / "exp" / "conclusion.md").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["lr=abc"], r"lr = 'abc'"),
        (["lr=-1"], r"lr = -1.*greater than 0"),
        (["+metadata.hypothesys=x"], r"metadata.hypothesys: unknown field \(did you mean 'hypothesis'\?\)"),
        (["algorithm={kind: sfd}"], r"Unknown algorithm kind 'sfd'. Did you mean 'sft'\?"),
        (["+algorithm.batchsize=3"], r"algorithm: batchsize: unknown field \(did you mean 'batch_size'\?\)"),
        (["lr=1e-5,1e-5"], r"is twice in the sweep"),
        (["lr=1e-5,0.00001"], r"is twice in the sweep"),
        (["seed=range(0,0)"], r"no values"),
        (["name_template='{seed}'", "lr=1e-5,2e-5"], r"two arms have this name"),
        (["model=demoo"], r"Available options in 'model'"),
        (["plugins=[no_such_module_at_all]"], r"plugins: cannot import 'no_such_module_at_all'"),
        (["data=file", "data.path=missing.jsonl"], r"missing\.jsonl"),
    ],
)
def test_bad_configs_are_found_before_anything_runs(tmp_path: Path, overrides: list[str], said: str) -> None:
    def never(config: ExperimentConfig) -> list[RunResult]:
        raise AssertionError("an arm was started")

    train_fn = None if "data=file" in overrides else never
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        experiment(tmp_path, *overrides, train_fn=train_fn).run()
    assert not (tmp_path / "exp").exists()


def test_every_problem_is_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        experiment(tmp_path, "lr=1e-5,abc,-2", "+metadata.x=1", "+model.y=2").run()
    text = str(caught.value)
    for said in ("nothing was launched", "lr = 'abc'", "lr = -2", "metadata.x", "model.y", "lr=1e-5 and 2 more"):
        assert said in text


def test_a_directory_that_holds_an_experiment_is_not_overwritten(tmp_path: Path) -> None:
    experiment(tmp_path).run()
    with pytest.raises(Exception, match="already holds an experiment"):
        experiment(tmp_path).run()


def test_a_typed_config_and_a_sweep_in_python(tmp_path: Path) -> None:
    composed = experiment(tmp_path)._source.composer.compose([]).task
    from evsys_hydra.composed import typed_config

    config = typed_config(composed)
    result = Experiment(
        config,
        sweep={"lr": [1e-5, 1e-4], "seed": [0, 1]},
        train_fn=train,
        benchmark=Benchmark.from_iterable("bench", TASKS),
        inference_factory=lambda result, run: Oracle(int(run.seed) + 3),
        output_dir=tmp_path / "typed",
    ).run()
    assert [arm.name for arm in result.arms] == [
        "lr=1e-5,seed=0",
        "lr=1e-5,seed=1",
        "lr=0.0001,seed=0",
        "lr=0.0001,seed=1",
    ]


def test_lookups_of_an_arm() -> None:
    arm = ArmResult("a", None, "completed", metrics={"loss": 0.5, "pass_rate": 0.0})
    arm.evals = [
        EvalResult("api", metrics={"pass_rate": 0.9}, tags=["test"], model="gpt"),
        EvalResult("val.small", metrics={"pass_rate": 0.1}, step=10, tags=["val"]),
        EvalResult("val.small", metrics={"pass_rate": 0.2}, step=20, tags=["val"]),
        EvalResult("other", metrics={"pass_rate": 0.3}),
        EvalResult("main", metrics={"pass_rate": 0.4}, tags=["test"]),
    ]
    assert arm.primary is arm.evals[4]
    arm.eval_metrics = arm.primary.metrics
    assert arm.eval("val.small") is arm.evals[2] and arm.eval("val.small", step=10) is arm.evals[1]
    assert arm.eval("val.small", step=15) is None and arm.eval("main", step=None) is arm.evals[4]
    assert arm.score("pass_rate") == 0.4 and arm.score("val.small.pass_rate") == 0.2
    assert arm.score("loss") == 0.5 and arm.score("main.nothing") is None and arm.score("x.y") is None


def test_the_public_names() -> None:
    import evsys_hydra

    assert set(evsys_hydra.__all__) >= {"ArmResult", "Benchmark", "BenchmarkScore", "EvalResult", "EvsysStore"}
    for name in evsys_hydra.__all__:
        assert getattr(evsys_hydra, name) is not None
    with pytest.raises(AttributeError):
        _ = evsys_hydra.nothing


@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"], ["--info", "defaults"]])
def test_looking_at_the_config_imports_nothing_heavy(flags: list[str]) -> None:
    code = (
        "import sys\nfrom evsys_hydra.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'submitit', 'scipy', 'pydantic', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_lazy_names_are_exactly_all() -> None:
    import evsys_hydra

    assert sorted(evsys_hydra._MODULE_OF) == evsys_hydra.__all__


def test_records_that_make_no_table_still_give_a_conclusion(tmp_path: Path) -> None:
    experiment(tmp_path).run()
    predictions = tmp_path / "exp" / "arms" / "lr=1e-5" / "predictions" / "bench.jsonl"
    predictions.write_text(predictions.read_text().replace('"reward":1.0', '"reward":-7.0'))
    metadata = read_json(tmp_path / "exp" / "experiment.json")
    metadata["metadata"]["success_metric"] = "mean_reward"
    write_json(tmp_path / "exp" / "experiment.json", metadata)
    result = conclude(tmp_path / "exp")
    assert result.status == "completed" and "could not be ranked" in result.conclusion
    assert "2/2 arms completed." in result.conclusion


class _Chat(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that answers with the last word of the question."""

    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body["model"])
        text = body["messages"][-1]["content"].split()[-1]
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        answer = json.dumps({"choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.slow
def test_an_api_model_is_scored_once_and_never_ranked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Chat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-4711")
    result = experiment(tmp_path, "seed=0,1", "benchmark.models=[big]").run()
    server.shutdown()
    assert _Chat.asked == ["big"] * len(TASKS)
    assert result.ranking["references"]["big"]["estimate"] == 1.0
    assert result.ranking["ranking"] == ["lr=3e-5", "lr=1e-5"] and result.best_score == 0.5
    assert [arm.name for arm in result.arms if arm.group_name == "big"] == []
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "git.diff"]  # may hold this line
    assert [path for path in files if b"sk-test-4711" in path.read_bytes()] == []
