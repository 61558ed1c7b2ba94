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
from .client import InferenceClient, PlainClient, Request, Result

OnResult = Callable[[int, Result], None]


class PlainAdapter:
    """An InferenceClient made of a `generate(*, prompt, max_tokens, temperature, stop) -> str`.

    Args:
        client: whose exceptions become results with an error.
        concurrency: requests at a time; above 1 the client is called from several threads.

    The messages are joined to one prompt, a blank line between them. The contract has no seed, so sampling is as
    reproducible as the client is.
    """

    def __init__(self, client: PlainClient, concurrency: int = 1) -> None:
        self._client = client
        self._concurrency = concurrency
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
        started = time.monotonic()
        try:
            text = self._client.generate(
                prompt="\n\n".join(message["content"] for message in request.messages),
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                stop=list(request.stop) or None,
            )
        except Exception as error:
            return Result(finish_reason="error", error=describe(error), latency_s=time.monotonic() - started)
        seconds = time.monotonic() - started
        if not isinstance(text, str):
            wrong = f"TypeError: the client returned a {type(text).__name__}, not a str"
            return Result(finish_reason="error", error=wrong, latency_s=seconds)
        return Result(text=text, latency_s=seconds)


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
