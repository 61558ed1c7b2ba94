"""The API client against a real server that misbehaves: bursts of 429, hung sockets, truncated bodies, wrong JSON."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra import Benchmark, ConfigError, Request
from evsys_hydra.benchmark.judge import has_score
from evsys_hydra.inference.api import REFUSALS, ApiClient, ApiInference, open_model
from evsys_hydra.inference.api_gate import Gate

from .servers import Server

KEY = "sk-very-secret-0123"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)


def client_of(server: Server, **settings: Any) -> ApiClient:
    quick = {"timeout_s": 0.5, "backoff_s": 0.01, "max_retries": 4, "key_env": "TEST_KEY", "model": "m"}
    return ApiClient(ApiInference(**{"base_url": server.url, **quick, **settings}))


def ask(*texts: str, **options: Any) -> list[Request]:
    return [Request([{"role": "user", "content": text}], **options) for text in texts]


def test_what_is_sent() -> None:
    with Server(lambda number, body: None) as server:
        client = client_of(server)
        request = Request([{"role": "user", "content": "hi"}], 9, 0.5, ("\n",), seed=7, enable_thinking=False)
        (result,) = client.generate([request])
        client.generate(ask("greedy"))
        client_of(server, endpoint="completions", max_tokens_field="max_completion_tokens").generate(ask("plain"))
        client_of(server, key_env=None).generate(ask("open"))
    assert (result.text, result.prompt_tokens, result.completion_tokens, result.error) == ("HI", 2, 2, None)
    assert server.bodies[0] == {
        "path": "/v1/chat/completions", "model": "m", "max_tokens": 9, "temperature": 0.5, "stop": ["\n"], "seed": 7,
        "messages": [{"role": "user", "content": "hi"}], "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    assert "seed" not in server.bodies[1] and "stop" not in server.bodies[1]
    assert server.bodies[2]["path"] == "/v1/completions" and server.bodies[2]["prompt"] == "plain"
    assert server.bodies[2]["max_completion_tokens"] == 512
    keys = [{name.lower(): value for name, value in each.items()}.get("authorization") for each in server.headers]
    assert keys == [f"Bearer {KEY}"] * 3 + [None]


@pytest.mark.parametrize(
    "act",
    [
        ("status", 500, {}, "boom"),
        ("status", 503, {"retry-after": "0"}, "busy"),
        ("status", 429, {"retry-after": "0.05"}, "slow down"),
        ("close",),
        ("truncate",),
        ("hang", 1.0),
        ("dribble", 1.0),
        ("raw", b"<html>not JSON</html>"),
        ("raw", b'{"choices": [{"mess'),
        ("json", {"choices": []}),
        ("json", {"choices": [{"message": {"content": 7}}]}),
        ("json", {"choices": [{"text": None}]}),
        ("json", {"choices": [{"message": {"content": "half an"}, "finish_reason": "error"}]}),
        ("json", ["odd"]),
        ("json", None),
        ("status", 200, {"content-encoding": "gzip"}, "not compressed"),
        ("raw", b"[" * 100_000),
    ],
)
def test_what_a_retry_heals_is_retried(act: tuple[Any, ...]) -> None:
    with Server(lambda number, body: act if number < 2 else None) as server:
        client = client_of(server)
        (result,) = client.generate(ask("hi"))
    assert result.error is None and result.text == "HI"
    assert result.extras["retries"] == client.usage.retries == 2


def test_what_never_heals_is_an_error_of_its_request() -> None:
    def script(number: int, body: dict[str, Any]) -> tuple[Any, ...] | None:
        return ("status", 500, {}, "boom") if body["messages"][0]["content"] == "bad" else None

    with Server(script) as server:
        results = client_of(server, max_retries=2).generate(ask("a", "bad", "b"))
    assert [result.text for result in results] == ["A", "", "B"]
    assert results[1].error == "HTTP 500: boom"
    assert sum(body["messages"][0]["content"] == "bad" for body in server.bodies) == 3


def test_a_bad_request_is_not_retried() -> None:
    with Server(lambda number, body: ("status", 400, {}, "too long") if number == 0 else None) as server:
        results = client_of(server, concurrency=1).generate(ask("a", "b"))
    assert results[0].error == "HTTP 400: too long" and results[1].text == "B"
    assert len(server.bodies) == 2


def test_a_refusal_after_an_answer_is_of_its_request_alone() -> None:
    with Server(lambda number, body: ("status", 403, {}, "flagged") if number == 1 else None) as server:
        results = client_of(server, concurrency=1).generate(ask("a", "b", "c"))
    assert [result.error for result in results] == [None, "HTTP 403: flagged", None]
    with Server(lambda number, body: ("status", 404, {}, "no such model")) as server:
        results = client_of(server, concurrency=1).generate(ask("a", "b", "c"))
    assert {result.error for result in results} == {"HTTP 404: no such model"} and len(server.bodies) == REFUSALS


def test_one_refused_prompt_does_not_end_those_that_are_still_being_answered() -> None:
    flagged = lambda number, body: (  # noqa: E731
        ("status", 403, {}, "flagged") if body["messages"][0]["content"] == "bad" else None
    )
    with Server(flagged, seconds=0.1) as server:
        results = client_of(server, concurrency=8).generate(ask("bad", *"abcdefghijklmnop"))
    assert [result.error for result in results] == ["HTTP 403: flagged", *[None] * 16]


def test_an_account_without_money_is_asked_no_more() -> None:
    spent = {"message": "You exceeded your current quota", "code": "insufficient_quota"}
    with Server(lambda number, body: ("status", 429, {}, spent)) as server:
        results = client_of(server, concurrency=1).generate(ask("a", "b", "c"))
    assert {result.error for result in results} == {"HTTP 429: You exceeded your current quota"}
    assert len(server.bodies) == 1


def test_a_key_that_is_cut_by_a_long_answer_does_not_leak() -> None:
    with Server(lambda number, body: ("status", 400, {}, "x" * 390 + KEY)) as server:
        (result,) = client_of(server).generate(ask("a"))
    assert result.error is not None and KEY[:8] not in result.error and len(result.error) < 500


def test_a_request_that_cannot_be_sent_is_an_error_of_its_own(tmp_path: Path) -> None:
    with Server(lambda number, body: None) as server:
        for settings in ({}, {"cache": str(tmp_path)}):
            results = client_of(server, **settings).generate(ask("a", "half a pair \ud800", "b"))
            assert [result.text for result in results] == ["A", "", "B"]
            assert results[1].error is not None and "surrogates" in results[1].error


def test_an_answer_is_text_that_can_be_written() -> None:
    parts = [
        {"type": "thinking", "thinking": "so"},
        {"type": "text", "text": "yes"},
        {"type": "text", "text": "\ud83d"},
    ]
    with Server(lambda number, body: ("json", {"choices": [{"message": {"content": parts}}]})) as server:
        (result,) = client_of(server).generate(ask("a"))
    assert result.text == "yes?"


def test_a_wrong_key_is_asked_with_once_and_never_shown() -> None:
    with Server(lambda number, body: ("status", 401, {}, f"wrong key {KEY}")) as server:
        client = client_of(server, concurrency=2)
        results = client.generate(ask(*"abcdefgh"))
    assert {result.error for result in results} == {"HTTP 401: wrong key ***"}
    assert len(server.bodies) <= 2
    assert KEY not in repr(client) + str(client.facts) + str(vars(client)["_config"]) + str(client.identity)


def test_a_server_that_is_not_there() -> None:
    with Server(lambda number, body: None) as server:
        client = client_of(server, max_retries=1)
    (result,) = client.generate(ask("a"))
    assert result.error is not None and result.error.startswith(f"connection to {server.url}")


@pytest.mark.slow
def test_a_burst_of_429_slows_everything_and_loses_nothing() -> None:
    def script(number: int, body: dict[str, Any]) -> tuple[Any, ...] | None:
        return ("status", 429, {"retry-after": "1"}, "slow down") if 4 <= number < 8 else None

    with Server(script, seconds=0.02) as server:
        client = client_of(server, concurrency=8, max_retries=8, timeout_s=10)
        results = client.generate(ask(*map(str, range(60))))
    assert [result.text for result in results] == [str(number) for number in range(60)]
    pauses = [later - earlier for earlier, later in itertools.pairwise(sorted(server.times))]
    assert max(pauses) > 0.8, "nothing is asked before Retry-After is over"


def test_concurrency_is_bounded() -> None:
    with Server(lambda number, body: None, seconds=0.02) as server:
        told: list[int] = []
        client_of(server, concurrency=5).generate(ask(*map(str, range(40))), lambda index, _: told.append(index))
    assert server.most == 5 and sorted(told) == list(range(40))


def test_the_gate_halves_once_a_burst_and_grows_back() -> None:
    async def play() -> list[float]:
        gate = Gate(16)
        for _ in range(5):
            gate.slow_down(None)
        limits = [gate.limit]
        for _ in range(200):
            gate.went_well()
        return [*limits, gate.limit]

    assert asyncio.run(play()) == [8.0, 16.0]


def test_what_a_filter_took_is_said() -> None:
    for message in ({"content": ""}, None):
        choice = {"message": message, "finish_reason": "content_filter"}
        with Server(lambda number, body, choice=choice: ("json", {"choices": [choice]})) as server:  # type: ignore[misc]
            (result,) = client_of(server).generate(ask("a"))
        assert (result.text, result.finish_reason, result.error) == ("", "content_filter", None)


def test_equal_requests_are_paid_once() -> None:
    """Greedy samples of one task; sampled ones have seeds of their own."""
    with Server(lambda number, body: None, seconds=0.05) as server:
        client = client_of(server, concurrency=4, input_price=2.0)
        told: list[int] = []
        results = client.generate(ask(*["same"] * 6, "other"), lambda index, _: told.append(index))
        assert len(server.bodies) == 2 and client.usage.cached == 5
        assert [result.text for result in results] == ["SAME"] * 6 + ["OTHER"] and sorted(told) == list(range(7))
        assert sum(result.extras.get("cost", 0.0) for result in results) == pytest.approx(client.usage.cost)
        sampled = [Request(ask("same")[0].messages, temperature=1.0, seed=seed) for seed in range(3)]
        client.generate(sampled)
        assert len(server.bodies) == 5


def test_usage_and_cost() -> None:
    with Server(lambda number, body: None) as server:
        client = client_of(server, input_price=2.0, output_price=10.0)
        (result,) = client.generate(ask("hello"))
    assert result.extras["cost"] == pytest.approx(5 * 2e-6 + 5 * 10e-6)
    assert client.facts["prompt_tokens"] == 5 and client.facts["cost"] == pytest.approx(60e-6)


def test_tool_calls_become_text_that_their_verifier_reads() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    verifier = {"kind": "in_process", "fn_name": "tool_calls_match", "expected": {"name": "f", "arguments": {"x": 1}}}
    made = Benchmark.from_iterable("b", [{"task_id": "1", "instruction": "call f", "verifier": verifier}])
    with Server(lambda number, body: ("json", {"choices": [{"message": message}]})) as server:
        assert made.score(client_of(server)).metrics["pass_rate"] == 1.0


def test_the_cache_answers_what_was_asked_before(tmp_path: Path) -> None:
    with Server(lambda number, body: ("status", 400, {}, "no") if number == 1 else None) as server:
        settings = {"cache": str(tmp_path), "concurrency": 1}
        client_of(server, **settings).generate(ask("a", "refused"))
        again = client_of(server, **settings)
        results = again.generate(ask("a", "refused"))
        assert [result.text for result in results] == ["A", "REFUSED"], "an error is not kept"
        assert again.usage.cached == 1 and len(server.bodies) == 3
        client_of(server, **{**settings, "model": "other"}).generate(ask("a"))
        assert len(server.bodies) == 4, "another model is another answer"
    assert KEY not in "".join(file.read_text() for file in tmp_path.iterdir())


def test_a_judge_whose_reply_cannot_be_used_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(number: int, body: dict[str, Any]) -> tuple[Any, ...]:
        said = "8/10, cut o" if number == 0 else '{"score": 1}'
        return ("json", {"choices": [{"message": {"content": said}}]})

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server(script) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        replies = [open_model("j", tmp_path, has_score).generate(ask("same"))[0].text for _ in range(3)]
        assert replies == ["8/10, cut o", '{"score": 1}', '{"score": 1}'] and len(server.bodies) == 2


def test_what_the_cache_takes_for_the_same(tmp_path: Path) -> None:
    """Every parameter of a request, and the seed of each sample where it is sampled."""
    one = Request([{"role": "user", "content": "a"}], max_tokens=5, temperature=0.5, seed=1)
    others = [
        {"max_tokens": 6},
        {"temperature": 0.6},
        {"seed": 2},
        {"stop": ("x",)},
        {"enable_thinking": True},
        {"messages": [{"role": "system", "content": "short"}, *one.messages]},
    ]
    with Server(lambda number, body: None) as server:
        settings = {"cache": str(tmp_path), "concurrency": 1}
        asked = [one, *(replace(one, **other) for other in others)]
        client_of(server, **settings).generate(asked)
        assert len(server.bodies) == len(asked)
        client_of(server, **settings).generate(asked)
        assert len(server.bodies) == len(asked)
        client_of(server, **settings, endpoint="completions").generate([one])
        greedy = [replace(one, temperature=0.0, seed=seed) for seed in (1, 2)]
        client_of(server, **settings).generate(greedy)
        assert len(server.bodies) == len(asked) + 2, "a greedy answer has no seed"


def test_a_cache_that_was_torn_or_is_of_another_version_is_read(tmp_path: Path) -> None:
    with Server(lambda number, body: None) as server:
        settings = {"cache": str(tmp_path), "concurrency": 1}
        client_of(server, **settings).generate(ask("a", "b"))
        (file,) = tmp_path.iterdir()
        first, second = file.read_text().splitlines()
        later = json.loads(first)
        later["result"]["a_field_of_tomorrow"] = 1
        file.write_text(json.dumps(later) + "\n" + second[: len(second) // 2])
        results = client_of(server, **settings).generate(ask("a", "b"))
        assert [result.text for result in results] == ["A", "B"] and len(server.bodies) == 3
        client_of(server, **settings).generate(ask("a", "b"))
        assert len(server.bodies) == 3


def test_it_works_inside_a_running_event_loop() -> None:
    with Server(lambda number, body: None) as server:
        client = client_of(server)

        async def notebook() -> str:
            return client.generate(ask("hi"))[0].text

        assert asyncio.run(notebook()) == "HI"


def test_configs_that_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY")
    for settings, said in [
        ({"key_env": "TEST_KEY"}, "TEST_KEY is not set"),
        ({"key_env": None, "base_url": "api.org/v1"}, "must begin with http"),
        ({"key_env": None, "base_url": "https://me:word@api.org/v1"}, "keys belong in the environment"),
        ({"key_env": None, "model": None}, "which model"),
    ]:
        with pytest.raises(ConfigError, match=said):
            ApiClient(ApiInference(**{"model": "m", **settings}))


def test_a_judge_is_asked_while_answers_come(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(number: int, body: dict[str, Any]) -> tuple[Any, ...]:
        answer = body["messages"][1]["content"].rsplit("<answer>\n", 1)[1].split("\n</answer>")[0]
        said = {"right": '{"reason": "yes", "score": 1.0}', "half": "score: 0.5", "odd": "I like it"}[answer]
        return ("json", {"choices": [{"message": {"content": said}}]})

    class Client:
        def generate(self, *, prompt: str, max_tokens: int, temperature: float, stop: list[str] | None) -> str:
            return prompt

    rows = [
        {
            "task_id": text,
            "instruction": text,
            "verifier": {"kind": "llm_judge", "judge_model": "j", "rubric": "Be right."},
        }
        for text in ("right", "half", "odd")
    ]
    started = time.monotonic()
    with Server(script) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        scored = Benchmark.from_iterable("judged", rows).score(Client())
    assert scored.per_task == {"right": [1.0], "half": [0.5], "odd": [None]}
    assert scored.predictions[2]["error"] == "judge j: no score in [0, 1] in its reply: 'I like it'"
    facts = scored.predictions[0]["metadata"]
    assert (facts["judge_model"], facts["rubric"]) == ("j", "Be right.")
    assert {body["model"] for body in server.bodies} == {"j"} and "Be right." in server.bodies[0]["messages"][1][
        "content"
    ]
    assert time.monotonic() - started < 10
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        Benchmark.from_iterable("judged", rows).score(Client())
