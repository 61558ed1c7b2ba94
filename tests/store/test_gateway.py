"""The gateway's client: what it sends, what it repeats, what it says, and what it never says."""

from __future__ import annotations

import pickle
import time
from email.utils import formatdate
from typing import Any

import pytest

from evsys_hydra.dashboard.keys import hash_key
from evsys_hydra.dashboard.server import create_app
from evsys_hydra.errors import StoreError
from evsys_hydra.store import BadRequest, NotAllowed, Unclear, Unreachable, open_store
from evsys_hydra.store.auto import AutoStoreConfig, chosen_kind
from evsys_hydra.store.gateway import GatewayStore, GatewayStoreConfig
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.none import NoneStore, NoneStoreConfig
from evsys_hydra.store.recall import alike
from evsys_hydra.store.wire import retry_after

from .servers import KEY, Misbehaving, serving


class Listening:
    """An ASGI app that keeps what it was sent and answers each request with {"id": ...}."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.peers: set[Any] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        import json

        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.requests.append((scope["path"], headers, json.loads(body)))
        self.peers.add(tuple(scope["client"]))
        answer = b'{"result": {"id": "x"}}'
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"23")]})
        await send({"type": "http.response.body", "body": answer})


def test_what_goes_over_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Listening()
    with serving(app) as url:
        monkeypatch.setenv("EVSYS_API_URL", f"{url}/")
        monkeypatch.setenv("EVSYS_API_KEY", KEY)
        monkeypatch.setenv("EVSYS_PROJECT_ID", "p1")
        store = GatewayStore()
        store.create_eval("r", step=0, metrics={}, breakdowns={}, model_ref="")
        store.get_project()
        store.get_run("r")
        store.create_experiment("e", record_id="r1", flag=False)
        store.invalidate_experiment("e")
        store.log_metrics("r", 1, {"loss": None, "lr": 0.0})
        store.log_metrics("r", 1, {"loss": None})
    path, headers, first = app.requests[0]
    assert path == "/api/dashboard/api/sdk/data/"
    assert (headers["authorization"], headers["content-type"]) == (f"Bearer {KEY}", "application/json")
    assert [body for _, _, body in app.requests] == [
        {"op": "create_eval", "args": {"run_id": "r", "step": 0, "metrics": {}, "breakdowns": {}, "model_ref": ""}},
        {"op": "get_project", "args": {"project_id": "p1"}},
        {"op": "get_run", "args": {"run_id": "r"}},
        {
            "op": "create_experiment",
            "args": {"project_id": "p1", "experiment_name": "e", "record_id": "r1", "flag": False},
        },
        {"op": "update_experiment", "args": {"experiment_id": "e", "patch": {"is_valid": False}}},
        {"op": "log_metrics", "args": {"run_id": "r", "step": 1, "metrics": {"lr": 0.0}, "split": "train"}},
    ]
    assert first["op"] == "create_eval"
    assert len(app.peers) == 1  # one connection for them all


def test_without_a_key_nothing_is_even_tried() -> None:
    with pytest.raises(StoreError, match="set EVSYS_API_KEY, or choose store=local"):
        GatewayStore("http://localhost:1")


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(StoreError, match="address of the EvSys gateway"):
        GatewayStore(url, "key")


def test_the_key_is_never_said(local: LocalStore) -> None:
    with pytest.raises(StoreError) as broken:
        GatewayStore("http://localhost", f"{KEY}\n")
    texts = [str(broken.value)]
    with serving(create_app(local, {hash_key("another"): None})) as url:
        store = GatewayStore(f"http://user:{KEY}@{url[7:]}", KEY)
        with pytest.raises(NotAllowed, match=r"answered 401: .*bad key") as refused:
            store.list_experiments()
    dead = GatewayStore(f"http://{KEY}@127.0.0.1:9", KEY, budget_s=0.1)
    with pytest.raises(Unreachable) as down:
        dead.create_run("e")
    for error in (refused.value, down.value):
        texts += [str(error), repr(error), repr(error.__cause__), pickle.dumps(error).decode(errors="replace")]
    texts += [repr(store), repr(dead), repr(store._wire), store.store_id, repr(GatewayStoreConfig())]
    assert not [text for text in texts if KEY in text]


def test_a_server_that_repeats_the_key_is_clipped_and_cleaned() -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        text = dict(scope["headers"])[b"authorization"] + b" is bad. " * 100
        await send({"type": "http.response.start", "status": 422, "headers": []})
        await send({"type": "http.response.body", "body": text})

    with serving(echo) as url, pytest.raises(BadRequest) as error:
        GatewayStore(url, KEY).create_run("e")
    assert "create_run" in str(error.value) and "422" in str(error.value) and "Bearer *** is bad" in str(error.value)
    assert len(str(error.value)) < 400


def test_passing_troubles_are_waited_out(local: LocalStore) -> None:
    server = Misbehaving(create_app(local), lambda op, before: ["429", "500", "not json", "ok"][min(before, 3)])
    with serving(server) as url:
        store = GatewayStore(url, "key")
        assert store.list_experiments() == []
        assert store.create_experiment("e")["name"] == "e"
    assert [row["name"] for row in local.list_experiments()] == ["e"]


@pytest.mark.parametrize("way", ["404", "422"])
def test_what_is_refused_is_not_repeated(local: LocalStore, way: str) -> None:
    server = Misbehaving(create_app(local), lambda op, before: way)
    with serving(server) as url, pytest.raises(StoreError, match=f"create_run: .* answered {way}: .*as planned"):
        GatewayStore(url, "key").create_run("e")
    assert server.ops == ["create_run"]


def test_what_cannot_be_looked_for_is_not_repeated(local: LocalStore) -> None:
    server = Misbehaving(create_app(local), lambda op, before: "done, 500")
    with serving(server) as url, pytest.raises(Unclear):
        GatewayStore(url, "key").create_project("p")
    assert server.ops == ["create_project"]


def test_two_that_look_the_same_are_two(local: LocalStore) -> None:
    """A lost answer is not mistaken for an older record that looks the same."""
    with serving(Misbehaving(create_app(local), lambda op, n: "done, 500" if n in (1, 3) else "ok")) as url:
        store = GatewayStore(url, "key")
        ids = {store.create_experiment("same")["id"] for _ in range(3)}
        assert len(ids) == len(local.list_experiments()) == 3
        runs = {store.create_run(next(iter(ids)))["id"] for _ in range(3)}
        assert len(runs) == len(local.list_runs()) == 3


def test_an_answer_that_never_ends_is_given_up() -> None:
    async def drip(scope: Any, receive: Any, send: Any) -> None:
        import asyncio

        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.sleep(0.05)

    started = time.monotonic()
    with serving(drip) as url, pytest.raises(Unclear, match=r"did not finish its answer|broke off"):
        GatewayStore(url, "key", timeout_s=0.2, budget_s=0.5).list_experiments()
    assert time.monotonic() - started < 2


def test_a_redirect_is_not_followed() -> None:
    async def redirect(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 302, "headers": [(b"location", b"http://elsewhere/")]})
        await send({"type": "http.response.body", "body": b""})

    with serving(redirect) as url, pytest.raises(StoreError, match="answered 302"):
        GatewayStore(url, "key").list_experiments()


def test_retry_after() -> None:
    assert retry_after("3") == 3.0
    assert retry_after(formatdate(time.time() + 60, usegmt=True)) == pytest.approx(60, abs=2)
    assert retry_after("soon") is retry_after(None) is None


def test_alike() -> None:
    assert alike({"a": 1, "b": None}, {"a": 1.0, "c": 5})
    assert alike(0.1, 0.1 + 1e-12) and alike([], None) and alike("x", "x")
    assert not alike({"a": 1}, {"a": 2}) and not alike(0, None) and not alike(True, 1.5) and not alike([1], [1, 2])


def test_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_store(AutoStoreConfig()), LocalStore)
    monkeypatch.setenv("EVSYS_API_KEY", KEY)
    assert isinstance(open_store(AutoStoreConfig()), GatewayStore)
    assert isinstance(open_store(GatewayStoreConfig(url="http://localhost:1")), GatewayStore)
    for value, kind in (("1", "local"), ("true", "local"), ("0", "gateway"), ("", "gateway")):
        monkeypatch.setenv("EVSYS_OFFLINE", value)
        assert chosen_kind() == kind
    assert isinstance(open_store(NoneStoreConfig()), NoneStore)
