"""Clients of the SDK's kind: one prompt in, one text out."""

from __future__ import annotations

import threading
import time
from typing import Any

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
