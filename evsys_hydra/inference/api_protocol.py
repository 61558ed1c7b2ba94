"""The words of the OpenAI-compatible protocol: what is sent, and what an answer means."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx

from .client import FinishReason, Request

Endpoint = Literal["chat", "completions"]
MAX_READ = 10_000
"""Characters of a body that an error may tell; who shows it takes the key out first, and cuts it then."""
NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached")
REFUSED_FOR_ALL = (401, 402)
"""No key, no money: no other request would fare better."""
REFUSED_AT_FIRST = (403, 404)
"""No right, no such model; from a server that has answered before, a word about this one request (moderation)."""


class Retry(Exception):
    """An attempt that another one may heal. `after`: seconds the server asked for; `slow_down`: it said 429."""

    def __init__(self, why: str, after: float | None = None, *, slow_down: bool = False) -> None:
        super().__init__(why)
        self.after = after
        self.slow_down = slow_down


class Refused(Exception):
    """An attempt that no other one can heal. `for_all`: nor would any other request be answered.

    `at_first`: nor would any other one, if none has been answered so far.
    """

    def __init__(self, why: str, *, for_all: bool = False, at_first: bool = False) -> None:
        super().__init__(why)
        self.for_all = for_all
        self.at_first = at_first


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


def path_of(endpoint: Endpoint) -> str:
    """The endpoint's path below base_url."""
    return "/chat/completions" if endpoint == "chat" else "/completions"


def body_of(request: Request, model: str, endpoint: Endpoint, max_tokens_field: str) -> dict[str, Any]:
    """The JSON that is sent. The seed is sent where it matters: when sampling."""
    body: dict[str, Any] = {"model": model, max_tokens_field: request.max_tokens, "temperature": request.temperature}
    if endpoint == "chat":
        body["messages"] = [dict(message) for message in request.messages]
    else:
        body["prompt"] = "\n\n".join(message["content"] for message in request.messages)
    if request.stop:
        body["stop"] = list(request.stop)
    if request.temperature > 0:
        body["seed"] = request.seed
    if request.enable_thinking is not None:
        body["chat_template_kwargs"] = {"enable_thinking": request.enable_thinking}
    return body


def read_answer(response: httpx.Response) -> Answer:
    """What a response says.

    Raises:
        Retry: 408, 429, 5xx, or a body that is not what the protocol promises.
        Refused: another error status.
    """
    status = response.status_code
    if status != 200:
        why = f"HTTP {status}: {_reason(response)}"
        if status == 429 and _code(response) in NO_MONEY:  # said like a rate limit, but no waiting heals it
            raise Refused(why, for_all=True)
        if status in (408, 429) or status >= 500:
            raise Retry(why, _retry_after(response), slow_down=status == 429)
        raise Refused(why, for_all=status in REFUSED_FOR_ALL, at_first=status in REFUSED_AT_FIRST)
    try:
        return _read(response.json())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise Retry(f"unreadable answer ({type(error).__name__}: {error}): {response.text[:MAX_READ]!r}") from error


def _read(value: Any) -> Answer:
    choice = value["choices"][0]
    reason = choice.get("finish_reason")
    if reason == "error" or choice.get("error"):  # said with status 200 by servers that pass others' answers on
        raise Retry(f"the server broke off: {_unicode(str(choice.get('error') or reason))[:MAX_READ]}")
    message = choice.get("message") or ({} if reason == "content_filter" else None)
    text = choice["text"] if "text" in choice else _text(message)
    if not isinstance(text, str):
        raise TypeError(f"text is a {type(text).__name__}")
    usage = value.get("usage") or {}
    return Answer(
        text=_unicode(text),
        finish_reason=reason if reason in ("length", "content_filter") else "stop",
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
    )


def _text(message: Any) -> str:
    """The content; tool calls are written as the `<tool_call>` blocks that tool_calls_match reads."""
    content = message.get("content") or ""
    if isinstance(content, list):  # parts, of which those that are no text (a model's thinking) are left out
        content = "".join(part["text"] for part in content if part.get("type") == "text")
    blocks = [f"<tool_call>{json.dumps(call['function'])}</tool_call>" for call in message.get("tool_calls") or []]
    return "\n".join([*([content] if content else []), *blocks])


def _reason(response: httpx.Response) -> str:
    try:
        error = response.json()["error"]
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, KeyError, TypeError):
        text = response.text
    return _unicode(" ".join(str(text).split())[:MAX_READ])


def _code(response: httpx.Response) -> str | None:
    try:
        error = response.json()["error"]
        return str(error.get("code") or error.get("type"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _unicode(text: str) -> str:
    """Half of a surrogate pair is a string in JSON, but no text that could be written."""
    return text.encode(errors="replace").decode()


def _retry_after(response: httpx.Response) -> float | None:
    """Retry-After in seconds: given as seconds or as a date."""
    given = response.headers.get("retry-after")
    if given is None:
        return None
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return None
