"""Models behind an OpenAI-compatible server: chat or completion endpoints of any base_url.

The key comes from the environment and is in no config, message, repr or record. Requests are made concurrently, as
many as the server bears: a 429 halves them and its Retry-After is waited for. What a retry can heal is retried.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import httpx
from pydantic import Field

from ..causes import describe
from ..config import KindConfig, RunConfig
from ..errors import ConfigError
from ..registry import register_inference
from .api_cache import ResponseCache, key_of
from .api_gate import Gate, backoff
from .api_protocol import Answer, Refused, Retry, body_of, path_of, read_answer
from .client import NO_CHOICES, Request, Result

OnResult = Callable[[int, Result], None]
REFUSALS = 3
"""So many refusals before any answer mean that there will be none; a single one may be about its prompt alone."""
MAX_SHOWN = 400
DEFAULT_URL = "https://api.openai.com/v1"


class ApiInference(KindConfig):
    """A model behind an OpenAI-compatible server."""

    kind: Literal["api"] = "api"
    scores_choices: ClassVar[bool] = False
    model: str | None = None
    """The model's name on the server; null: model.name."""
    base_url: str = DEFAULT_URL
    """The server's address, up to and with /v1."""
    key_env: str | None = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; null: no key is sent."""
    endpoint: Literal["chat", "completions"] = "chat"
    """chat/completions, or completions with the messages' texts as the prompt."""
    concurrency: int = Field(16, ge=1)
    """Most requests at a time; fewer while the server answers 429."""
    timeout_s: float = Field(120.0, gt=0)
    """Longest time one attempt may take."""
    max_retries: int = Field(8, ge=0)
    """More attempts after the first, on connection errors, timeouts, 408, 429, 5xx and unreadable answers."""
    backoff_s: float = Field(0.5, gt=0)
    """Longest wait before the first retry; doubles with each."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """How the server calls the longest answer."""
    input_price: float | None = Field(None, ge=0)
    """Price of a million prompt tokens, for the cost in the record."""
    output_price: float | None = Field(None, ge=0)
    """Price of a million completion tokens."""
    cache: str | None = None
    """Directory where answers are kept: the same request to the same model is paid once. null: api_answers/ of the
    experiment."""

    def unusable(self) -> list[str]:
        """Why it cannot be used here: no key in the environment, an address that is none; empty: nothing is known."""
        problems = []
        for needed in (_key, _address):
            try:
                needed(self)
            except ConfigError as error:
                problems.append(str(error))
        return problems


@dataclass
class Usage:
    """What a client has used so far. `cost` is in the prices' currency, 0 without prices."""

    requests: int = 0
    retries: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


@register_inference("api", config=ApiInference)
def open_api(config: ApiInference, checkpoint: str | Path | None, run: RunConfig) -> ApiClient:
    """The client of an API model; a checkpoint has no part in it.

    Raises:
        ConfigError: no key in the environment, or an address that is none.
    """
    return ApiClient(config if config.model is not None else config.model_copy(update={"model": run.model.name}))


def open_model(
    model: str, cache: Path | None = None, worth_keeping: Callable[[Result], bool] | None = None
) -> ApiClient:
    """An API model by name alone, at OPENAI_BASE_URL (or OpenAI) with OPENAI_API_KEY: judges, baseline models.

    Args:
        cache: directory where answers are kept.
        worth_keeping: which of them; None: all.
    """
    url = os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL
    kept = None if cache is None else str(cache)
    return ApiClient(ApiInference(model=model, base_url=url, cache=kept), worth_keeping)


class ApiClient:
    """An InferenceClient on an OpenAI-compatible server.

    Args:
        config: with `model` set.
        worth_keeping: which answers go into the cache; None: all.

    Raises:
        ConfigError: no key in the environment, or an address that is none.
    """

    def __init__(self, config: ApiInference, worth_keeping: Callable[[Result], bool] | None = None) -> None:
        if config.model is None:
            raise ConfigError("inference.model: which model of the server? It is not set")
        self._config = config
        self._key = _key(config)
        self._url = _address(config)
        self.usage = Usage()
        self.identity = f"{config.model} at {self._url}"
        self._worth_keeping = worth_keeping
        self._cache = ResponseCache(Path(config.cache), self.identity) if config.cache is not None else None
        self._fatal: str | None = None
        self._has_answered = False
        self._refused_at_first = 0

    @property
    def facts(self) -> dict[str, Any]:
        """Where the answers came from and what they cost so far."""
        return {"engine": "api", "model": self._config.model, "url": self._url, **asdict(self.usage)}

    def generate(self, requests: Sequence[Request], on_result: OnResult | None = None) -> list[Result]:
        """Answer all requests; `on_result` is called from another thread, never twice at a time."""
        results: list[Result] = [Result(finish_reason="error", error="not asked")] * len(requests)
        self._fatal = None

        def finish(index: int, result: Result) -> None:
            results[index] = result
            if on_result is not None:
                on_result(index, result)

        _run_in_thread(lambda: self._answer_all(requests, finish))
        return results

    async def _answer_all(self, requests: Sequence[Request], finish: OnResult) -> None:
        gate = Gate(self._config.concurrency)
        limits = httpx.Limits(max_connections=self._config.concurrency)
        waiting = iter(range(len(requests)))
        asked: dict[str, asyncio.Task[Result]] = {}
        async with httpx.AsyncClient(timeout=self._config.timeout_s, limits=limits) as http:

            async def answer_some() -> None:
                for index in waiting:
                    finish(index, await self._answer_once(http, gate, requests[index], asked))

            await asyncio.gather(*(answer_some() for _ in range(min(self._config.concurrency, len(requests)))))

    async def _answer_once(
        self, http: httpx.AsyncClient, gate: Gate, request: Request, asked: dict[str, asyncio.Task[Result]]
    ) -> Result:
        """The answer to a request; equal ones (greedy samples of one task) share theirs."""
        if request.choices:
            return Result(finish_reason="error", error=NO_CHOICES)
        try:
            config = self._config
            body = body_of(request, str(config.model), config.endpoint, config.max_tokens_field)
            kept = self._cache.get(body) if self._cache is not None else None
            if kept is None and (key := key_of(body)) not in asked:
                asked[key] = asyncio.create_task(self._answer(http, gate, body))
                return await asked[key]
            self.usage.cached += 1
            if kept is not None:
                return kept
            shared = await asked[key]  # its cost is the first one's
            return replace(shared, extras={name: value for name, value in shared.extras.items() if name != "cost"})
        except Exception as error:  # texts that are no Unicode, for example: no other request suffers
            return Result(finish_reason="error", error=self._clean(describe(error)))

    async def _answer(self, http: httpx.AsyncClient, gate: Gate, body: dict[str, Any]) -> Result:
        config = self._config
        started = time.monotonic()
        why = ""
        for attempt in range(config.max_retries + 1):
            try:
                async with gate:
                    if self._fatal is not None:  # what was refused to one is refused to all
                        return Result(finish_reason="error", error=self._fatal)
                    asked = time.monotonic()
                    answer = await self._attempt(http, body)
                gate.went_well()
                self._has_answered = True
                return self._result(body, answer, time.monotonic() - asked, attempt)
            except Refused as refused:
                why = self._clean(str(refused))
                self._refused_at_first += refused.at_first
                hopeless = not self._has_answered and self._refused_at_first >= REFUSALS
                if refused.for_all or (refused.at_first and hopeless):
                    self._fatal = why
                break
            except Retry as retry:
                why = self._clean(str(retry))
                if retry.slow_down:
                    gate.slow_down(retry.after)
                if attempt < config.max_retries:
                    self.usage.retries += 1
                    await asyncio.sleep(backoff(attempt, config.backoff_s, retry.after))
        return Result(finish_reason="error", error=why, latency_s=time.monotonic() - started)

    async def _attempt(self, http: httpx.AsyncClient, body: dict[str, Any]) -> Answer:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key is not None else {}
        self.usage.requests += 1
        try:
            # httpx limits each read; a server that dribbles needs a limit for the whole.
            response = await asyncio.wait_for(
                http.post(self._url, json=body, headers=headers), timeout=self._config.timeout_s
            )
        except (TimeoutError, httpx.TimeoutException) as error:
            raise Retry(f"no answer within {self._config.timeout_s:g} s") from error
        except httpx.RequestError as error:  # a body that cannot be decompressed is one too
            raise Retry(f"connection to {self._url}: {describe(error)}") from error
        return read_answer(response)

    def _result(self, body: dict[str, Any], answer: Answer, seconds: float, retries: int) -> Result:
        cost = (
            answer.prompt_tokens * (self._config.input_price or 0.0)
            + answer.completion_tokens * (self._config.output_price or 0.0)
        ) / 1e6
        self.usage.prompt_tokens += answer.prompt_tokens
        self.usage.completion_tokens += answer.completion_tokens
        self.usage.cost += cost
        extras = {"retries": float(retries)} | ({"cost": cost} if cost else {})
        tokens = (answer.prompt_tokens, answer.completion_tokens)
        result = Result(answer.text, answer.finish_reason, *tokens, latency_s=seconds, extras=extras)
        if self._cache is not None and (self._worth_keeping is None or self._worth_keeping(result)):
            self._cache.put(body, result)
        return result

    def _clean(self, text: str) -> str:
        text = text.replace(self._key, "***") if self._key else text
        return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _key(config: ApiInference) -> str | None:
    if config.key_env is None:
        return None
    key = os.environ.get(config.key_env, "").strip()
    if not key:
        raise ConfigError(
            f"inference.key_env: the environment variable {config.key_env} is not set. "
            "Set it to the server's key, or set key_env to null for a server that needs none."
        )
    return key


def _address(config: ApiInference) -> str:
    try:
        url = httpx.URL(config.base_url.rstrip("/") + path_of(config.endpoint))
    except httpx.InvalidURL as error:
        raise ConfigError(f"inference.base_url: {error}") from error
    if url.userinfo:
        raise ConfigError("inference.base_url: holds a user or password; keys belong in the environment (key_env)")
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"inference.base_url={config.base_url!r}: must begin with http:// or https:// and a host")
    return str(url)


def _run_in_thread(work: Callable[[], Any]) -> None:
    """Run a coroutine in an event loop of its own: the caller may have one that is running (a notebook)."""
    loop = asyncio.new_event_loop()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except BaseException as error:
            failed.append(error)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def begin() -> None:
        await work()

    task = loop.create_task(begin())
    thread = threading.Thread(target=run, name="api", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(timeout=0.2)
    except BaseException:  # Ctrl-C: stop asking
        loop.call_soon_threadsafe(task.cancel)
        thread.join(timeout=5.0)
        raise
    if failed:
        raise failed[0]
