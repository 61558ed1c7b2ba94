"""One POST to the gateway and what its answer means.

Which failures are safe to repeat is decided here, once: what certainly did not arrive is Unreachable, what may have
arrived is Unclear, what will be refused again is BadRequest, UnknownId or NotAllowed. The key is in the pool's
headers and nowhere else; no text made here contains it.
"""

from __future__ import annotations

import email.utils
import time
from typing import Any

import httpx
import orjson

from ..errors import StoreError
from ..record.files import to_json
from .errors import BadRequest, NotAllowed, Unclear, UnknownId, Unreachable

PATH = "/api/dashboard/api/sdk/data/"
ONCE = "Idempotency-Key"
CLIP = 300
WRONG_KEY = "EVSYS_API_KEY is not a key of that dashboard; its owner makes one: evsys-hydra dashboard keys create NAME"
MAX_ANSWER = 256 * 2**20
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)


class Wire:
    """A pool of connections to one gateway.

    Args:
        base: the gateway's address, with or without a trailing slash.
        key: the API key.
        timeout_s: longest time of one POST, in seconds.
        connections: how many connections the pool has.

    Raises:
        StoreError: an address or key that no request can be made with.
    """

    def __init__(self, base: str, key: str, *, timeout_s: float, connections: int) -> None:
        if not key.isascii() or not key.isprintable() or " " in key:
            raise StoreError(
                "The API key of the EvSys gateway has characters that no key has (a space, a line break?)."
            )
        try:
            url = httpx.URL(base.rstrip("/") + PATH)
        except httpx.InvalidURL as error:
            raise StoreError(f"The address of the EvSys gateway cannot be read: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise StoreError("The address of the EvSys gateway must begin with http:// or https:// and name a host.")
        self.url = url
        self.shown = str(url.copy_with(username=None, password=None, path="/", query=None)).rstrip("/")
        self._timeout_s = timeout_s
        self._key = key
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            timeout=httpx.Timeout(timeout_s),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=False,
        )

    def __repr__(self) -> str:
        return f"Wire({self.shown!r})"

    def post(self, op: str, args: dict[str, Any], timeout_s: float | None = None, *, once: str | None = None) -> Any:
        """The result of one operation, asked for once.

        Args:
            timeout_s: longest time in all, in seconds, answer included; None: the pool's.
            once: names what is made, the same in each try; a server that knows Idempotency-Key makes it once.

        Raises:
            StoreError: a subclass that says whether repeating is safe.
        """
        limit = min(timeout_s or self._timeout_s, self._timeout_s)
        deadline = time.monotonic() + limit
        body = to_json({"op": op, "args": args})
        headers = {ONCE: once} if once is not None else {}
        timeout = httpx.Timeout(limit)
        try:
            with self._client.stream("POST", self.url, content=body, headers=headers, timeout=timeout) as response:
                answer = b""
                for chunk in response.iter_bytes():
                    answer += chunk
                    if time.monotonic() > deadline:
                        raise Unclear(f"{op}: {self.shown} did not finish its answer within {limit:g} s")
                    if len(answer) > MAX_ANSWER:
                        raise StoreError(f"{op}: the answer of {self.shown} is larger than {MAX_ANSWER >> 20} MB")
        except NOT_SENT as error:
            raise Unreachable(f"{op}: {self.shown} cannot be reached: {self._clean(error)}") from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise Unclear(f"{op}: {self.shown} broke off: {self._clean(error)}") from None
        return self._result(op, response, answer)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _result(self, op: str, response: httpx.Response, answer: bytes) -> Any:
        status = response.status_code
        if status >= 300:
            text = self._clean(answer[: 4 * CLIP].decode(errors="replace"))
            remedy = f". {WRONG_KEY}" if status == 401 else ""
            error = _type_of(status)(f"{op}: {self.shown} answered {status}: {text or response.reason_phrase}{remedy}")
            if wait := retry_after(response.headers.get("Retry-After")):
                error.retry_after = wait  # type: ignore[attr-defined]
            raise error
        try:
            envelope = orjson.loads(answer)
        except orjson.JSONDecodeError:
            envelope = None
        if not isinstance(envelope, dict):
            text = self._clean(answer[: 4 * CLIP].decode(errors="replace"))
            raise Unclear(f"{op}: {self.shown} answered {status} with what is no JSON object: {text!r}")
        return envelope.get("result")

    def _clean(self, said: object) -> str:
        """What others said, on one line, clipped, without the key."""
        text = f"{type(said).__name__}: {said}" if isinstance(said, Exception) else str(said)
        text = " ".join(text.replace(self._key, "***").split())
        return text if len(text) <= CLIP else f"{text[:CLIP]}..."


def _type_of(status: int) -> type[StoreError]:
    if status in (401, 403):
        return NotAllowed
    if status == 404:
        return UnknownId
    if status == 429:
        return Unreachable
    if status >= 500 or status == 408:
        return Unclear
    return BadRequest if status >= 400 else StoreError


def retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, which is a number or a date."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
