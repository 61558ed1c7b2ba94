"""Clients of the SDK's kind: one prompt in, one text out."""

from __future__ import annotations

import email.message
import threading
import time
import urllib.error
from typing import Any

import httpx
import pytest

from evsys_hydra import ConfigError, Request, Result
from evsys_hydra.inference.plain import PlainAdapter, as_client


class Sdk:
    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.at_once = self.most = 0
        self._lock = threading.Lock()

    def generate(self, *, prompt: str, max_tokens: int, temperature: float, stop: list[str] | None) -> str:
        with self._lock:
            self.seen.append({"prompt": prompt, "max_tokens": max_tokens, "temperature": temperature, "stop": stop})
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(0.02)
        with self._lock:
            self.at_once -= 1
        if prompt == "raise":
            raise RuntimeError("it broke")
        return prompt.upper() if prompt != "none" else None  # type: ignore[return-value]


def ask(text: str, **options: Any) -> Request:
    return Request([{"role": "user", "content": text}], **options)


def test_prompts_and_settings_are_handed_on() -> None:
    client = Sdk()
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}]
    request = Request(messages, max_tokens=7, temperature=0.5, stop=("\n",))
    (result,) = as_client(client).generate([request])
    assert result.text == "BE SHORT.\n\nWHY?" and result.latency_s > 0
    assert client.seen == [{"prompt": "Be short.\n\nWhy?", "max_tokens": 7, "temperature": 0.5, "stop": ["\n"]}]


def test_what_raises_is_an_error_of_its_request() -> None:
    results = as_client(Sdk()).generate([ask("a"), ask("raise"), ask("none"), ask("b")])
    assert [result.text for result in results] == ["A", "", "", "B"]
    assert results[1].error == "RuntimeError: it broke"
    assert results[2].error == "TypeError: the client returned a NoneType, not a str"


class Flaky:
    """Raises these, one a call, and then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def generate(self, *, prompt: str, max_tokens: int, temperature: float, stop: list[str] | None) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return prompt


def refused(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://127.0.0.1")
    return httpx.HTTPStatusError(str(status), request=request, response=httpx.Response(status))


@pytest.mark.parametrize(
    "error", [ConnectionResetError(), TimeoutError(), OSError(), httpx.ReadTimeout("x"), refused(429), refused(502)]
)
def test_what_another_attempt_may_heal_is_tried_again(error: Exception) -> None:
    client = Flaky(error, error)
    results = PlainAdapter(client, backoff_s=0.001).generate([ask("a"), ask("b")])
    assert [(result.text, result.error, result.extras) for result in results] == [
        ("a", None, {"retries": 2.0}),
        ("b", None, {}),
    ]
    assert client.calls == 4


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("x"),
        ValueError("x"),
        refused(400),
        FileNotFoundError("x"),
        urllib.error.HTTPError("http://127.0.0.1", 401, "x", email.message.Message(), None),
    ],
)
def test_what_no_attempt_heals_is_tried_once(error: Exception) -> None:
    client = Flaky(error)
    first, second = PlainAdapter(client, backoff_s=0.001).generate([ask("a"), ask("b")])
    assert first.error is not None and first.error.startswith(type(error).__name__) and second.text == "b"
    assert client.calls == 2


def test_a_server_that_is_gone_does_not_cost_every_sample_its_attempts() -> None:
    client = Flaky(*[ConnectionError("gone")] * 200)
    results = PlainAdapter(client, backoff_s=0.001).generate([ask(str(i)) for i in range(100)])
    assert {result.error for result in results} == {"ConnectionError: gone"}
    assert client.calls == 8 * 3 + 92


@pytest.mark.parametrize("concurrency", [1, 4])
def test_concurrency_is_bounded_and_order_kept(concurrency: int) -> None:
    client = Sdk()
    told: list[int] = []
    results = PlainAdapter(client, concurrency).generate([ask(str(i)) for i in range(12)], lambda i, _: told.append(i))
    assert [result.text for result in results] == [str(i) for i in range(12)]
    assert sorted(told) == list(range(12))
    assert client.most == concurrency


def test_bulk_clients_are_left_alone() -> None:
    class Bulk:
        def generate(self, requests: Any, on_result: Any = None) -> list[Result]:
            return []

    class Anything:
        def generate(self, **settings: Any) -> str:
            return "x"

    bulk = Bulk()
    assert as_client(bulk) is bulk
    assert isinstance(as_client(Anything()), PlainAdapter)
    with pytest.raises(ConfigError, match="needs generate"):
        as_client(object())
