"""Real servers on loopback: the product's own app, and a wrapper that makes it misbehave on purpose."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

KEY = "evsys_test_key_0123456789"


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an ASGI app from a thread; gives its address."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio: no delay only for TCP
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(5)
        listener.close()


class Misbehaving:
    """An ASGI app around another, which answers by a plan.

    Args:
        app: the real one.
        plan: (op, how often this op was asked before) -> "ok", or one of the ways to fail below.
    """

    def __init__(self, app: Any, plan: Callable[[str, int], str]) -> None:
        self.app, self.plan = app, plan
        self.ops: list[str] = []
        self.hang_s = 30.0
        self.slow_s = 1.2

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        op = json.loads(body)["op"]
        way = self.plan(op, self.ops.count(op))
        self.ops.append(op)
        if way in ("500", "429", "503", "hang", "wrong json", "not json", "404", "422"):
            return await self._instead(way, send)
        if way == "slow":
            await asyncio.sleep(self.slow_s)
        answer: list[Any] = []

        async def again() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def keep(message: Any) -> None:
            answer.append(message)

        await self.app(scope, again, keep)
        if way in ("ok", "slow"):
            for message in answer:
                await send(message)
        elif way == "done, 500":
            await _answer(send, 500, b"it broke at the end")
        elif way == "done, hang":
            await asyncio.sleep(self.hang_s)
        elif way == "done, truncated":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9999")]})
            await send({"type": "http.response.body", "body": b'{"result": {"id"', "more_body": False})
        else:
            raise AssertionError(way)

    async def _instead(self, way: str, send: Any) -> None:
        if way == "hang":
            await asyncio.sleep(self.hang_s)
        elif way == "429":
            await _answer(send, 429, b"{}", retry_after=b"0.05")
        elif way == "wrong json":
            await _answer(send, 200, b"[1, 2]")
        elif way == "not json":
            await _answer(send, 200, b"<html>welcome to the hotel wifi</html>")
        else:
            await _answer(send, int(way), b'{"error": "as planned"}')


async def _answer(send: Any, status: int, body: bytes, retry_after: bytes | None = None) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if retry_after:
        headers.append((b"retry-after", retry_after))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
