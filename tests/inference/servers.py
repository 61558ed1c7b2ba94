"""A real HTTP server on loopback that speaks the OpenAI protocol, and misbehaves as a script tells it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """Answers with the last message in capitals, unless `script` says otherwise for a request.

    Args:
        script: (request number, body) -> None to answer well, or an act: ("status", code, headers, text or error),
            ("hang", seconds), ("dribble", seconds), ("truncate",), ("close",), ("json", value), ("raw", bytes).
        seconds: how long a good answer takes.
    """

    def __init__(self, script: Callable[[int, dict[str, Any]], tuple[Any, ...] | None], seconds: float = 0.0) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.at_once = self.most = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with outer._lock:
                    number = len(outer.bodies)
                    outer.bodies.append({**body, "path": self.path})
                    outer.headers.append(dict(self.headers))
                    outer.times.append(time.monotonic())
                    outer.at_once += 1
                    outer.most = max(outer.most, outer.at_once)
                try:
                    outer._act(self, body, script(number, body), seconds)
                finally:
                    with outer._lock:
                        outer.at_once -= 1

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _act(
        self, handler: BaseHTTPRequestHandler, body: dict[str, Any], act: tuple[Any, ...] | None, seconds: float
    ) -> None:
        if act is None:
            time.sleep(seconds)
            send(handler, 200, json.dumps(answer(body)).encode())
        elif act[0] == "status":
            send(handler, act[1], json.dumps({"error": _error(act[3])}).encode(), act[2])
        elif act[0] == "json":
            send(handler, 200, json.dumps(act[1]).encode())
        elif act[0] == "raw":
            send(handler, 200, act[1])
        elif act[0] == "hang":
            time.sleep(act[1])
            handler.close_connection = True
        elif act[0] == "close":
            handler.close_connection = True
        elif act[0] == "truncate":
            data = json.dumps(answer(body)).encode()
            handler.send_response(200)
            handler.send_header("content-length", str(len(data) + 500))
            handler.end_headers()
            handler.wfile.write(data)
            handler.close_connection = True
        elif act[0] == "dribble":
            handler.send_response(200)
            handler.send_header("content-length", "100000")
            handler.end_headers()
            end = time.monotonic() + act[1]
            while time.monotonic() < end:
                try:
                    handler.wfile.write(b" ")
                    handler.wfile.flush()
                except OSError:
                    break
                time.sleep(0.02)
            handler.close_connection = True


def send(handler: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
    """A whole response."""
    try:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)
    except OSError:
        handler.close_connection = True


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """A good answer, with usage."""
    said = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
    words = {"prompt_tokens": len(said), "completion_tokens": len(said)}
    if "prompt" in body:
        return {"choices": [{"text": said.upper(), "finish_reason": "stop"}], "usage": words}
    message = {"role": "assistant", "content": said.upper()}
    return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": words}


def _error(said: Any) -> Any:
    return said if isinstance(said, dict) else {"message": said}
