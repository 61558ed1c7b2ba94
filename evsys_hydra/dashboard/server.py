"""The server: the gateway's contract for EvSys SDK clients and our gateway store, and the pages over the same store.

`create_app` is the starlette app; open.py runs it. On this machine only it is open; on any other address it wants API
keys. Nothing a client sends is ever part of SQL, of a path or of a page's markup.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import StoreError
from ..record.files import to_json
from ..store.errors import BadRequest, NotAllowed, UnknownId, Unreachable
from ..store.pages import pages_of
from ..store.sqlite.store import SqlStore
from ..store.wire import ONCE, PATH
from .guard import Guard
from .keys import Keys, Member, member_of
from .open import LOOPBACK
from .operations import Offered
from .sessions import Sessions
from .site import Site

MAX_BODY = 32 * 2**20
STATUS_OF: tuple[tuple[type[StoreError], int], ...] = (
    (NotAllowed, 403),
    (UnknownId, 404),
    (BadRequest, 422),
    (Unreachable, 503),
    (StoreError, 500),
)

log = logging.getLogger(__name__)


def create_app(store: SqlStore, keys: Keys | None = None, *, max_body: int = MAX_BODY) -> Starlette:
    """The app that serves the gateway's contract and the pages.

    Args:
        store: where the records are.
        keys: hashes of the API keys and their projects (keys.hash_key); None: open, for this machine only.
        max_body: longest request, in bytes.
    """
    offered = Offered(store)

    async def data(request: Request) -> Response:
        member = Member() if keys is None else member_of(keys, request.headers.get("Authorization"))
        if member is None:
            return _error(401, "bad key")
        if not request.headers.get("Content-Type", "").lower().startswith("application/json"):
            return _error(422, "Content-Type must be application/json")  # a foreign web page cannot send this
        body = await _body(request, max_body)
        if body is None:
            return _error(413, f"a request may have {max_body} bytes")
        try:
            result = await run_in_threadpool(_perform, offered, body, member, request.headers.get(ONCE))
        except StoreError as error:
            status = next(code for kind, code in STATUS_OF if isinstance(error, kind))
            if status >= 500:
                log.error("%s", error)
            return _error(status, str(error) if status < 500 else "the store failed; its log says why")
        return _json(200, {"result": result})

    site = Site(pages_of(store), Sessions(keys))
    return Starlette(
        routes=[Route(PATH, data, methods=["POST"]), *site.routes],
        middleware=[Middleware(Guard, hosts=None if keys is not None else LOOPBACK)],
        exception_handlers={HTTPException: _http_error, Exception: _crash},
    )


def _perform(offered: Offered, body: bytes, member: Member, once: str | None) -> Any:
    envelope = _parsed(body)
    if not isinstance(envelope, dict):
        raise BadRequest("the body must be a JSON object with op and args")
    return offered.perform(envelope.get("op"), envelope.get("args", {}), member, once)


def _parsed(body: bytes) -> Any:
    """JSON, also as Python writes it: NaN and infinities read as null, halves of a pair of surrogates as U+FFFD."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return _whole(json.loads(body, parse_constant=lambda _: None, parse_int=_number))
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None


def _number(digits: str) -> int | float:
    """An integer of 64 bits, else a float: as orjson reads them."""
    return int(digits) if len(digits) < 20 else float(digits)


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value


async def _body(request: Request, max_body: int) -> bytes | None:
    """The request's body; None if it is too long, whatever its header said."""
    said = request.headers.get("Content-Length", "")
    if said.isdigit() and int(said) > max_body:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_body:
            return None
    return bytes(body)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail)


async def _crash(request: Request, error: Exception) -> Response:
    return _error(500, "the server failed; its log says why")


def _error(status: int, text: str) -> Response:
    return _json(status, {"error": text})


def _json(status: int, content: Any) -> Response:
    return Response(to_json(content), status, media_type="application/json")
