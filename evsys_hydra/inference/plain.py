"""Clients of the EvSys SDK's kind, one prompt at a time, as bulk clients."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..causes import describe
from ..errors import ConfigError
from .api_gate import backoff
from .client import NO_CHOICES, InferenceClient, PlainClient, Request, Result

OnResult = Callable[[int, Result], None]
ATTEMPTS = 3
BACKOFF_S = 0.5
"""Longest wait before the second attempt; doubles with each (with jitter)."""
GIVE_UP_AFTER = 8
"""So many requests in a row without an answer: the next ones get one attempt each, until one is answered."""
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
TRANSIENT_NAMES = {"TransportError", "APIConnectionError", "RateLimitError", "ServiceUnavailable"}
"""Exceptions of httpx and of the vendors' packages that are no OSError and have no status code."""


class PlainAdapter:
    """An InferenceClient made of a `generate(*, prompt, max_tokens, temperature, stop) -> str`.

    Args:
        client: whose exceptions become results with an error; after a transient one it is asked again.
        concurrency: requests at a time; above 1 the client is called from several threads.
        backoff_s: longest wait before the second of three attempts.

    The messages are joined to one prompt, a blank line between them. The contract has no seed, so sampling is as
    reproducible as the client is.
    """

    def __init__(self, client: PlainClient, concurrency: int = 1, backoff_s: float = BACKOFF_S) -> None:
        self._client = client
        self._concurrency = concurrency
        self._backoff_s = backoff_s
        self._unanswered = 0
        self.identity: str | None = getattr(client, "identity", None)
        self.facts: dict[str, Any] = {"client": type(client).__name__}

    def generate(self, requests: Sequence[Request], on_result: OnResult | None = None) -> list[Result]:
        """Answer all requests, in order."""
        lock = threading.Lock()

        def answer(index: int) -> Result:
            result = self._answer(requests[index])
            if on_result is not None:
                with lock:
                    on_result(index, result)
            return result

        if self._concurrency == 1:
            return [answer(index) for index in range(len(requests))]
        with ThreadPoolExecutor(self._concurrency) as threads:
            return list(threads.map(answer, range(len(requests))))

    def _answer(self, request: Request) -> Result:
        if request.choices:
            return Result(finish_reason="error", error=NO_CHOICES)
        attempts = ATTEMPTS if self._unanswered < GIVE_UP_AFTER else 1
        started = time.monotonic()
        for attempt in range(attempts):
            asked = time.monotonic()
            try:
                text = self._client.generate(
                    prompt="\n\n".join(message["content"] for message in request.messages),
                    max_tokens=request.max_tokens,
                    temperature=request.temperature,
                    stop=list(request.stop) or None,
                )
            except Exception as error:
                if is_transient(error) and attempt + 1 < attempts:
                    time.sleep(backoff(attempt, self._backoff_s, None))
                    continue
                self._unanswered += is_transient(error)
                return Result(finish_reason="error", error=describe(error), latency_s=time.monotonic() - started)
            self._unanswered = 0
            seconds = time.monotonic() - asked
            if not isinstance(text, str):
                wrong = f"TypeError: the client returned a {type(text).__name__}, not a str"
                return Result(finish_reason="error", error=wrong, latency_s=seconds)
            return Result(text=text, latency_s=seconds, extras={"retries": float(attempt)} if attempt else {})
        raise AssertionError("the last attempt gives a result")


def is_transient(error: Exception) -> bool:
    """Whether another attempt may heal what a client raised: connections, timeouts, 408, 429, 5xx."""
    holders = (error, getattr(error, "response", None))  # httpx, requests, the vendors' packages; urllib; aiohttp
    statuses = (getattr(holder, name, None) for holder in holders for name in ("status_code", "code", "status"))
    status = next((each for each in statuses if isinstance(each, int)), None)
    if status is not None:
        return status in (408, 429) or status >= 500
    if isinstance(error, OSError):
        return not isinstance(error, LASTING)
    return bool(TRANSIENT_NAMES & {parent.__name__ for parent in type(error).__mro__})


def as_client(client: object, concurrency: int = 1) -> InferenceClient:
    """The bulk client of an object: itself, or an adapter if its `generate` takes `prompt`.

    Raises:
        ConfigError: an object without a usable `generate`.
    """
    generate = getattr(client, "generate", None)
    if not callable(generate):
        raise ConfigError(
            f"{client!r} is no inference client: it needs generate(requests, on_result) "
            "or generate(*, prompt, max_tokens, temperature, stop)"
        )
    try:
        parameters = inspect.signature(generate).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    plain = "prompt" in parameters or (parameters and all(p.kind is p.VAR_KEYWORD for p in parameters.values()))
    if plain:
        return PlainAdapter(client, concurrency)  # type: ignore[arg-type]
    return client  # type: ignore[return-value]
