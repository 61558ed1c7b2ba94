"""Scoring: what fails costs one prediction, rows are as the contract says, a killed evaluation goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra import BenchmarkConfig, ConfigError, Result, register_verifier
from evsys_hydra.benchmark import Benchmark, BenchmarkScore, score
from evsys_hydra.benchmark.predictions import sample_seed

from .parts import Echo, benchmark

ENTRY = BenchmarkConfig(path="(made by code)", name="moods")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(made: Benchmark, client: Any = None, entry: BenchmarkConfig = ENTRY, **options: Any) -> BenchmarkScore:
    return score(made, client or Echo(), entry.model_copy(update={"verifier_timeout": 0.5}), **options)


@pytest.mark.slow
def test_a_verifier_that_misbehaves_costs_its_prediction() -> None:
    moods = ["good", "raise", "loop", "good", "kill", "exit", "bad", "os_exit", "nan", "two", "sleep", "good"]
    scored = run(benchmark(moods))
    errors = {row["instruction"]: row["error"] for row in scored.predictions if row["error"]}
    assert errors == {
        "raise": "verifier test_moody: ValueError: not today",
        "loop": "verifier test_moody: took longer than 0.5 s and was stopped",
        "kill": "verifier test_moody: its process died (signal 9)",
        "exit": "verifier test_moody: called sys.exit(3)",
        "os_exit": "verifier test_moody: its process died (exit status 4)",
        "nan": "verifier test_moody: returned nan; a reward is a number in [0, 1]",
        "two": "verifier test_moody: returned 2.0; a reward is a number in [0, 1]",
        "sleep": "verifier test_moody: took longer than 0.5 s and was stopped",
    }
    assert scored.metrics == {"mean_reward": 0.75, "pass_rate": 0.75, "n_tasks": 12, "n_errors": 8}
    assert scored.error is None


@register_verifier("test_warming_up")
def warming_up(output: str, expected: Any, params: dict[str, Any]) -> float:
    """Slow at first in its process, as one that imports a package; kills its process if the answer says so."""
    if output == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if not hasattr(sys, "_warmed_up"):
        sys._warmed_up = True  # type: ignore[attr-defined]
        time.sleep(1.0)
    while output == "loop":
        pass
    return 1.0


@pytest.mark.slow
def test_what_a_verifier_needs_at_first_does_not_count_against_its_limit() -> None:
    scored = run(benchmark(["good", "good", "kill", "good", "good"], "test_warming_up"))
    assert [row["reward"] for row in scored.predictions] == [1.0, 1.0, None, 1.0, 1.0]


@pytest.mark.slow
def test_one_looping_answer_does_not_take_the_others_their_time_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    from evsys_hydra.benchmark import pool, process

    monkeypatch.setattr(process, "FIRST_LIMIT_S", 2.0)
    pool.close_pools()
    scored = run(benchmark(["loop", "good", "good", "loop", "good"], "test_warming_up"))
    pool.close_pools()
    assert [row["reward"] for row in scored.predictions] == [None, 1.0, 1.0, None, 1.0]


def test_a_verifier_process_that_died_while_idle_costs_nothing() -> None:
    made = benchmark(["good"] * 3)
    run(made)
    children = [pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]
    workers = [pid for pid in children if b"benchmark.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert workers
    for pid in workers:
        os.kill(int(pid), signal.SIGKILL)
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
    assert [row["error"] for row in run(made).predictions] == [None] * 3


def test_a_looping_regular_expression_costs_its_prediction() -> None:
    verifier = {"kind": "in_process", "fn_name": "regex_match", "expected": "(a+)+b"}
    rows = [{"task_id": text, "instruction": text, "verifier": verifier} for text in ("ab", "a" * 64, "aab")]
    scored = run(Benchmark.from_iterable("regex", rows))
    assert [row["reward"] for row in scored.predictions] == [1.0, None, 1.0]


def test_rows_are_as_the_contract_says(tmp_path: Path) -> None:
    path = tmp_path / "predictions" / "moods.jsonl"
    scored = run(benchmark(["good", "unanswered"]), predictions=path)
    good, lost = sorted(rows_of(path), key=lambda row: row["task_id"])
    assert list(good) == [
        "kind", "task_id", "sample_idx", "instruction", "expected", "reward", "output", "error", "metadata",
    ]  # fmt: skip
    assert (good["kind"], good["sample_idx"], good["expected"], good["reward"]) == ("eval", 0, "good", 1.0)
    assert {"latency_s", "prompt_tokens", "completion_tokens"} <= set(good["metadata"])
    assert (lost["reward"], lost["error"]) == (None, "HTTP 500")
    assert scored.per_task == {"t0": [1.0], "t1": [None]}


def test_prompts_and_seeds() -> None:
    made = Benchmark.from_iterable(
        "prompts",
        [
            {"task_id": "a", "instruction": "{x}", "verifier": {"kind": "in_process", "fn_name": "exact_match"}},
            {
                "task_id": "b",
                "instruction": "y",
                "system_prompt": "own",
                "verifier": {"kind": "in_process", "fn_name": "exact_match"},
            },
        ],
    )
    template = {"system_prompt": "shared", "user_template": "{{Q}} {instruction}"}
    entry = BenchmarkConfig.model_validate(
        {"path": "x", "num_samples": 2, "temperature": 0.5, "chat_template": template, "stop": ["\n"], "max_tokens": 9}
    )
    client = Echo()
    run(made, client, entry, seed=3)
    assert [request.messages[0]["content"] for request in client.asked] == ["shared", "shared", "own", "own"]
    assert client.asked[0].messages[1] == {"role": "user", "content": "{{Q}} {x}"}
    assert (client.asked[0].max_tokens, client.asked[0].temperature, client.asked[0].stop) == (9, 0.5, ("\n",))
    assert [request.seed for request in client.asked] == [sample_seed(3, task, i) for task in "ab" for i in (0, 1)]
    assert len({request.seed for request in client.asked}) == 4


def test_a_client_that_breaks_in_the_middle_keeps_what_it_gave(tmp_path: Path) -> None:
    path = tmp_path / "moods.jsonl"
    made = benchmark(["good"] * 6)
    scored = run(made, Echo(breaks_after=4), predictions=path)
    assert scored.metrics["n_errors"] == 2 and scored.metrics["pass_rate"] == 1.0
    assert scored.predictions[5]["error"] == "RuntimeError: the engine broke"
    again = Echo()
    healed = run(made, again, predictions=path)
    assert len(again.asked) == 2 and healed.resumed == 4
    assert healed.metrics["n_errors"] == 0
    assert len(rows_of(path)) == 6, "the errored rows are gone from the file"


def test_a_client_of_the_users_own_that_gives_back_something_else() -> None:
    class Odd:
        def generate(self, requests: Any, on_result: Any = None) -> list[Any]:
            return ["good", Result(text=None), Result("good")]  # type: ignore[arg-type]

    scored = run(benchmark(["a", "b", "c"]), Odd())
    assert [row["error"] for row in scored.predictions] == [
        "TypeError: the client gave a str, not a Result",
        "TypeError: the client gave a text that is a NoneType, not a str",
        None,
    ]


def test_a_value_that_cannot_be_handed_to_a_verifier_costs_its_prediction() -> None:
    made = benchmark(["good"] * 4)
    made.tasks[2].verifier.params["lock"] = threading.Lock()  # type: ignore[union-attr]
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    made.tasks[1].verifier.params["deep"] = deep  # type: ignore[union-attr]
    made.__dict__["hash"] = "of tasks that are no JSON"
    scored = run(made)
    errors = [row["error"] for row in scored.predictions]
    assert errors[0] is None and errors[3] is None
    assert errors[1].startswith("verifier test_moody: RecursionError") and "cannot pickle" in errors[2]


def test_a_row_that_is_no_json_costs_its_line_only(tmp_path: Path) -> None:
    class Large(Echo):
        def generate(self, requests: Any, on_result: Any = None) -> list[Result]:
            results = super().generate(requests)
            results[0].extras["tokens"] = 2**70
            return results

    path = tmp_path / "moods.jsonl"
    scored = run(benchmark(["good"] * 3), Large(), predictions=path)
    assert sorted(row["task_id"] for row in rows_of(path)) == ["t1", "t2"]
    assert scored.error is not None and scored.error.startswith("the prediction of t0 could not be written")


def test_progress_that_cannot_be_written_stops_nothing() -> None:
    def full(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    assert run(benchmark(["good", "unanswered"]), on_progress=full).metrics["n_errors"] == 1


def test_nothing_scored_is_said() -> None:
    scored = run(benchmark(["good"]), Echo(breaks_after=0))
    assert scored.metrics == {"n_tasks": 1, "n_errors": 1}
    assert scored.error == "none of 1 predictions could be scored; the first: RuntimeError: the engine broke"


def test_a_stopped_evaluation_leaves_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "moods.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(benchmark(["good"] * 6), Echo(breaks_after=5, error=KeyboardInterrupt()), predictions=path)
    client = Echo()
    run(benchmark(["good"] * 6), client, predictions=path)
    assert 1 <= len(client.asked) <= 6
    assert len(rows_of(path)) == 6


def test_rows_of_other_settings_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "moods.jsonl"
    made = benchmark(["good"] * 3)
    run(made, predictions=path)
    changed = [
        (made, ENTRY, {"seed": 1}),
        (made, ENTRY.model_copy(update={"max_tokens": 7}), {}),
        (made, ENTRY, {"identity": "another checkpoint"}),
        (benchmark(["good"] * 2 + ["bad"]), ENTRY, {}),
        (made, ENTRY, {"resume": False}),
    ]
    for other, entry, options in changed:
        client = Echo()
        run(other, client, entry, predictions=path, **options)
        assert len(client.asked) == 3, options
        assert len(rows_of(path)) == 3
        assert len(rows_of(tmp_path / "moods.jsonl.old")) == 3


def test_more_samples_and_tasks_add_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "moods.jsonl"
    made = benchmark(["good", "bad", "good"])
    run(made, entry=ENTRY.model_copy(update={"limit": 2}), predictions=path)
    client = Echo()
    scored = run(made, client, ENTRY.model_copy(update={"num_samples": 2}), predictions=path)
    assert len(client.asked) == 4 and scored.resumed == 2
    assert scored.per_task == {"t0": [1.0, 1.0], "t1": [0.0, 0.0], "t2": [1.0, 1.0]}


def test_a_torn_line_is_generated_again(tmp_path: Path) -> None:
    path = tmp_path / "moods.jsonl"
    run(benchmark(["good"] * 4), predictions=path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][: len(lines[3]) // 2])
    client = Echo()
    run(benchmark(["good"] * 4), client, predictions=path)
    assert len(client.asked) == 1


def test_a_killed_evaluation_goes_on(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import time
        from pathlib import Path
        from tests.benchmark.parts import Echo, benchmark
        from tests.benchmark.test_scoring import ENTRY, run
        class Slow(Echo):
            def generate(self, requests, on_result=None):
                for index, request in enumerate(requests):
                    time.sleep(0.02)
                    on_result(index, super().generate([request])[0])
                return []
        run(benchmark(["good"] * 500), Slow(), predictions=Path({str(tmp_path / "p.jsonl")!r}))
        """
    )
    path = tmp_path / "p.jsonl"
    with subprocess.Popen([sys.executable, "-c", code], env=_importable()) as process:
        give_up = time.monotonic() + 60
        while not path.exists() or path.read_bytes().count(b"\n") < 5:
            assert time.monotonic() < give_up and process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    done = path.read_bytes().count(b"\n")
    client = Echo()
    scored = run(benchmark(["good"] * 500), client, predictions=path)
    assert len(client.asked) == 500 - done
    assert scored.resumed == done and scored.metrics["pass_rate"] == 1.0


def test_a_disk_that_refuses_costs_the_file_not_the_score(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    scored = run(benchmark(["good"] * 3), predictions=blocked / "moods.jsonl")
    assert scored.metrics["pass_rate"] == 1.0
    assert scored.error is not None and "could not be written" in scored.error


def test_verifiers_of_the_running_script_and_of_functions(tmp_path: Path) -> None:
    threshold = 3

    @register_verifier("test_local")
    def longer(output: str, expected: Any, params: dict[str, Any]) -> float:
        return float(len(output) > threshold)

    assert run(benchmark(["good", "bad"], "test_local")).per_task == {"t0": [1.0], "t1": [0.0]}

    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from evsys_hydra import Benchmark, register_verifier
            @register_verifier("mine")
            def mine(output, expected, params):
                return helper(output)
            def helper(output):
                return 1.0 if output == "pong" else 0.0
            class Client:
                def generate(self, *, prompt, max_tokens, temperature, stop):
                    return "pong"
            row = {"task_id": "1", "instruction": "ping", "verifier": {"kind": "in_process", "fn_name": "mine"}}
            print(Benchmark.from_iterable("b", [row]).score(Client()).metrics["pass_rate"])
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, env=_importable())
    assert done.stdout == "1.0\n", done.stderr


def test_verifiers_of_a_plugin_file(tmp_path: Path) -> None:
    from evsys_hydra.registry import load_plugins

    plugin = tmp_path / "plugins.py"
    plugin.write_text(
        "from evsys_hydra import register_verifier\n"
        "@register_verifier('from_plugin')\n"
        "def check(output, expected, params):\n    return 0.25\n"
    )
    load_plugins([str(plugin)])
    assert run(benchmark(["good"], "from_plugin")).per_task == {"t0": [0.25]}


def plugin_of(path: Path, reward: str) -> None:
    path.write_text(
        "from pathlib import Path\n"
        "from evsys_hydra import register_verifier\n"
        f"@register_verifier({path.stem!r})\n"
        f"def check(output, expected, params):\n    return {reward}\n"
    )


def test_answers_are_verified_again_when_their_verifier_is_edited(tmp_path: Path) -> None:
    from evsys_hydra.registry import load_plugins

    plugin, path, client = tmp_path / "edited.py", tmp_path / "p.jsonl", Echo()
    plugin_of(plugin, "float(output == 'good')")
    load_plugins([str(plugin)])
    made = benchmark(["good", "bad", "unanswered"], "edited")
    assert run(made, client, predictions=path).per_task == {"t0": [1.0], "t1": [0.0], "t2": [None]}
    before = rows_of(path)
    answered = sorted((row for row in before if row["error"] is None), key=lambda row: row["task_id"])
    plugin_of(plugin, "float(output == 'bad')")
    scored = run(made, client, predictions=path)
    assert scored.per_task == {"t0": [0.0], "t1": [1.0], "t2": [None]} and scored.resumed == 2
    assert [request.messages[-1]["content"] for request in client.asked[3:]] == ["unanswered"]
    assert rows_of(tmp_path / "p.jsonl.old") == before and len(rows_of(path)) == 3
    kept = ("task_id", "output")
    facts = ("latency_s", "completion_tokens", "eval")
    for old, new in zip(answered, rows_of(path)[:2], strict=True):
        assert [old[name] for name in kept] == [new[name] for name in kept]
        assert [old["metadata"][name] for name in facts] == [new["metadata"][name] for name in facts]
        assert old["metadata"]["verifier"] != new["metadata"]["verifier"]
    assert run(made, client, predictions=path).resumed == 2
    assert len(rows_of(path)) == 3


@pytest.mark.slow
def test_killed_while_verifying_again_nothing_is_lost(tmp_path: Path) -> None:
    from evsys_hydra.registry import load_plugins

    plugin, path, begun = tmp_path / "slowly.py", tmp_path / "p.jsonl", tmp_path / "begun"
    plugin_of(plugin, "1.0")
    load_plugins([str(plugin)])
    made = benchmark(["good", "bad"], "slowly")
    run(made, predictions=path)
    before = path.read_bytes()
    plugin_of(plugin, f"__import__('time').sleep(60 if Path({str(begun)!r}).write_text('x') else 0)")
    code = textwrap.dedent(
        f"""
        from pathlib import Path
        from evsys_hydra.registry import load_plugins
        from tests.benchmark.parts import benchmark
        from tests.benchmark.test_scoring import run
        load_plugins([{str(plugin)!r}])
        run(benchmark(["good", "bad"], "slowly"), predictions=Path({str(path)!r}))
        """
    )
    with subprocess.Popen([sys.executable, "-c", code], env=_importable()) as process:
        give_up = time.monotonic() + 60
        while not begun.exists():
            assert time.monotonic() < give_up and process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert path.read_bytes() == before
    plugin_of(plugin, "0.5")
    client = Echo()
    assert run(made, client, predictions=path).metrics["mean_reward"] == 0.5
    assert client.asked == []


def test_an_answer_whose_verifier_failed_is_not_generated_again(tmp_path: Path) -> None:
    from evsys_hydra.registry import load_plugins

    plugin, path, ready = tmp_path / "failing.py", tmp_path / "p.jsonl", tmp_path / "ready"
    plugin_of(plugin, f"float(Path({str(ready)!r}).read_text())")
    load_plugins([str(plugin)])
    client, made = Echo(), benchmark(["good", "bad"], "failing")
    assert run(made, client, predictions=path).metrics == {"n_tasks": 2, "n_errors": 2}
    ready.write_text("0.5")
    assert run(made, client, predictions=path).metrics["mean_reward"] == 0.5
    assert len(client.asked) == 2 and [row["reward"] for row in rows_of(path)] == [0.5, 0.5]


def test_rows_of_nobody_knows_whom_are_not_taken(tmp_path: Path) -> None:
    class Plain:
        def __init__(self, text: str) -> None:
            self.text = text

        def generate(self, *, prompt: str, max_tokens: int, temperature: float, stop: list[str] | None) -> str:
            return self.text

    made, path = benchmark(["one", "two"]), tmp_path / "p.jsonl"
    assert made.score(Plain("good"), predictions=path).metrics["pass_rate"] == 1.0
    assert made.score(Plain("bad"), predictions=path).metrics["pass_rate"] == 0.0
    assert made.score(Plain("good"), predictions=path, identity="v1").metrics["pass_rate"] == 1.0
    again = made.score(Plain("bad"), predictions=path, identity="v1")
    assert (again.metrics["pass_rate"], again.resumed) == (1.0, 2)


def test_what_cannot_run_is_said_before_anything_is_generated() -> None:
    verifier = {"kind": "e2b", "dockerfile": "FROM python", "test_sh": "t", "test_state_py": "p"}
    made = Benchmark.from_iterable("b", [{"task_id": "1", "instruction": "x", "verifier": verifier}])
    client = Echo()
    with pytest.raises(ConfigError, match=r"task 1: verifier: kind .e2b. .* run the model.s code, which is off"):
        run(made, client)
    assert client.asked == []


def test_progress_ends_at_the_total() -> None:
    said: list[tuple[int, int]] = []
    run(benchmark(["good"] * 50), on_progress=lambda done, total: said.append((done, total)))
    assert said[-1] == (50, 50) and len(said) < 10


def test_direct_use_as_in_the_sdk(tmp_path: Path) -> None:
    class Sdk:
        def generate(self, *, prompt: str, max_tokens: int, temperature: float, stop: list[str] | None) -> str:
            if prompt == "raise":
                raise TimeoutError("too slow")
            return prompt

    scored = benchmark(["good", "bad", "raise"]).score(
        Sdk(), breakdown_keys=["parity"], predictions=tmp_path / "p.jsonl"
    )
    assert scored.metrics == {"mean_reward": 0.5, "pass_rate": 0.5, "n_tasks": 3, "n_errors": 1}
    assert scored.breakdowns["parity"]["1"]["n"] == 1
    assert scored.predictions[2]["error"] == "TimeoutError: too slow"


def _importable() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
