"""The server, driven as an EvSys SDK drives it: one plain POST after another, and all that must be refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from evsys_hydra.dashboard.keys import Member, add_key, hash_key, load_keys, member_of, new_key, remove_key
from evsys_hydra.dashboard.open import serve_store
from evsys_hydra.dashboard.server import create_app
from evsys_hydra.errors import ConfigError
from evsys_hydra.store.local import LocalStore

from .servers import serving

PATH = "/api/dashboard/api/sdk/data/"
Post = Callable[..., tuple[int, Any]]


@pytest.fixture
def post(local: LocalStore) -> Iterator[Post]:
    """One POST by a client that knows nothing but the contract; a new connection each time, as the SDK does."""
    fresh = httpx.Limits(max_keepalive_connections=0)
    with serving(create_app(local)) as url, httpx.Client(limits=fresh) as client:

        def ask(op: str, **args: Any) -> tuple[int, Any]:
            response = client.post(f"{url}{PATH}", json={"op": op, "args": args}, headers={"Authorization": "Bearer x"})
            return response.status_code, response.json()

        yield ask


def test_an_sdk_client_takes_an_experiment_through_its_life(post: Post) -> None:
    def ok(op: str, **args: Any) -> Any:
        status, answer = post(op, **args)
        assert (status, list(answer)) == (200, ["result"]), (op, answer)
        return answer["result"]

    project = ok("create_project", name="p")["id"]
    goal = ok("set_goal", project_id=project, goal="be right")
    experiment = ok(
        "create_experiment",
        project_id=project,
        experiment_name="lr sweep",
        hypothesis="higher",
        project_goal_id=goal["id"],
        tags=[],
        config_path="",
        n_repeats=2,
    )["id"]
    group = ok("create_group", experiment_id=experiment, name="lr=1e-5")["id"]
    benchmark = ok("create_benchmark", project_id=project, name="b", format="jsonl", version=1, metadata={})["id"]
    assert ok("add_benchmark_rows", benchmark_id=benchmark, rows=[{"q": 1}, {"q": 2}], start_idx=0) is not None
    dataset = ok("create_dataset", project_id=project, name="d", format="sft", source_kind="file")["id"]
    runs = []
    for seed in (0, 1):
        run = ok(
            "create_run", experiment_id=experiment, group_id=group, dataset_id=dataset, seed=seed, recipe_kind="sft",
            run_config={"lr": 1e-5}, status="running",
        )["id"]  # fmt: skip
        for step in range(3):
            ok("log_metrics", run_id=run, step=step, metrics={"loss": 1.0 / (step + 1), "lr": 1e-5}, split="train")
        ok("log_metric", run_id=run, step=2, name="loss", value=0.9, split="val")
        checkpoint = ok("add_checkpoint", run_id=run, uri="s3://c", label="final", step=2, is_final=True)["id"]
        evaluation = ok(
            "create_eval", run_id=run, benchmark_id=benchmark, checkpoint_id=checkpoint, metrics={"mean_reward": seed},
            breakdowns={}, sdk_version="0.1",
        )["id"]  # fmt: skip
        for task in range(2):
            ok(
                "add_prediction", run_id=run, kind="eval", eval_id=evaluation, task_id=str(task), instruction="q",
                expected="1", reward=float(seed), sample_idx=0, metadata={"latency_s": 0.1},
            )  # fmt: skip
        ok("update_run", run_id=run, patch={"status": "completed", "summary": {"loss": 0.3}})
        runs.append(run)
    failed = ok("create_run", experiment_id=experiment, status="running")["id"]
    ok("update_run", run_id=failed, patch={"status": "failed", "error_message": "ValueError: no"})
    ok("update_experiment", experiment_id=experiment, patch={"status": "completed", "best_score": 1.0})
    ok("update_experiment", experiment_id=experiment, patch={"conclusion": "Best arm: a at mean_reward=1.0000."})

    detail = ok("experiment_detail", experiment_id=experiment, include_metrics=True)
    assert detail["experiment"]["conclusion"] == "Best arm: a at mean_reward=1.0000."
    first, loose = detail["groups"]
    assert [len(run["metrics"]) for run in first["runs"]] == [7, 7]
    assert [run["evals"][0]["metrics"]["mean_reward"] for run in first["runs"]] == [0, 1]
    assert loose["runs"][0]["error_message"] == "ValueError: no"
    assert set(ok("get_metrics", run_id=runs[0], name="loss", split="val")[0]) == {"step", "name", "value", "split"}
    assert [row["payload"] for row in ok("get_benchmark_rows", benchmark_id=benchmark)] == [{"q": 1}, {"q": 2}]
    assert len(ok("list_predictions", run_id=runs[1], kind="eval")) == 2
    assert ok("list_experiments", project_id=project, valid_only=True)[0]["id"] == experiment
    assert ok("current_goal", project_id=project)["version"] == 1
    assert ok("get_run", run_id="nope") is None


def test_what_is_wrong_is_said(post: Post, local: LocalStore) -> None:
    experiment = local.create_experiment("e")["id"]
    for status, op, args in (
        (422, "drop_tables", {}),
        (422, "__init__", {}),
        (422, "close", {}),
        (422, "add_predictions", {"rows": []}),
        (422, "create_run", {}),
        (422, "create_run", {"experiment_id": experiment, "status": "done"}),
        (422, "create_run", {"experiment_id": experiment, "id": "mine"}),
        (422, "update_run", {"run_id": "r", "patch": {"status": "finished"}}),
        (422, "update_experiment", {"experiment_id": experiment, "patch": {"project_id": "other"}}),
        (422, "log_metrics", {"run_id": "r", "step": "one", "metrics": {}}),
        (422, "list_evals", {"run_id": "r", "unknown": 1}),
        (404, "update_run", {"run_id": "nope", "patch": {}}),
        (404, "create_run", {"experiment_id": "nope"}),
        (404, "experiment_detail", {"experiment_id": "nope"}),
        (404, "log_metric", {"run_id": "nope", "step": 1, "name": "x", "value": 1.0}),
    ):
        found, answer = post(op, **args)
        assert (found, list(answer)) == (status, ["error"]), (op, args, answer)
        assert str(local.db.path) not in answer["error"]


def test_requests_that_are_none(local: LocalStore) -> None:
    with serving(create_app(local, max_body=2000)) as url, httpx.Client(base_url=url) as client:
        kind = {"Content-Type": "application/json"}
        for status, body, headers in (
            (422, b"{", kind),
            (422, b"[]", kind),
            (422, b'{"op": "list_runs", "args": []}', kind),
            (422, b'{"op": ["list_runs"]}', kind),
            (422, b"[" * 1900, kind),
            (422, b'{"op": "list_runs", "args": {}}', {"Content-Type": "text/plain"}),
            (413, b" " * 2001, kind),
            (200, b'{"op": "list_runs"}', kind),
        ):
            response = client.post(PATH, content=body, headers=headers)
            assert response.status_code == status, (body[:50], response.text)
            assert list(response.json()) == (["result"] if status == 200 else ["error"])
        chunked = client.post(PATH, content=iter([b" " * 1500, b" " * 1500]), headers=kind)
        assert chunked.status_code == 413
        assert client.get(PATH).status_code == 405
        assert client.post("/elsewhere").status_code == 404
        rebound = client.post(PATH, content=b'{"op": "list_runs"}', headers={**kind, "Host": "evil.example"})
        assert rebound.status_code == 400


def test_numbers_that_json_does_not_have(local: LocalStore) -> None:
    run = local.create_run(local.create_experiment("e")["id"])["id"]
    body = json.dumps({"op": "log_metrics", "args": {"run_id": run, "step": 1, "metrics": {"loss": float("nan")}}})
    with serving(create_app(local)) as url:
        answer = httpx.post(f"{url}{PATH}", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert local.get_metrics(run)[0]["value"] is None


def test_json_that_cannot_be_stored_is_no_fault_of_the_servers(local: LocalStore) -> None:
    experiment = local.create_experiment("e")["id"]
    run = local.create_run(experiment)["id"]
    deep = "[" * 300 + "]" * 300
    half = chr(92) + "ud83d"  # what a cut emoji is written as
    with serving(create_app(local)) as url, httpx.Client(base_url=url) as client:
        for status, op, args in (
            (200, "add_prediction", f'{{"run_id": "{run}", "kind": "eval", "metadata": {{"note": "cut {half}"}}}}'),
            (200, "update_run", f'{{"run_id": "{run}", "patch": {{"summary": {{"x": NaN, "n": {2**70}}}}}}}'),
            (422, "update_run", f'{{"run_id": "{run}", "patch": {{"summary": {deep}}}}}'),
            (422, "create_experiment", '{"experiment_name": "e", "project_id": ["p"]}'),
            (200, "update_run", f'{{"run_id": "{run}", "patch": {{"summary": {{"log": 5}}}}}}'),
        ):
            body = f'{{"op": "{op}", "args": {args}}}'
            answer = client.post(PATH, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == status, (op, args[:60], answer.text)
        assert client.get(f"/arms/{run}").status_code == 200
    assert local.list_predictions(run)[0]["metadata"]["note"] == "cut \N{REPLACEMENT CHARACTER}"


def test_keys(local: LocalStore) -> None:
    everything, mine = new_key(), new_key()
    ours, theirs = (local.create_project(name)["id"] for name in ("ours", "theirs"))
    keys = {hash_key(everything): None, hash_key(mine): frozenset({ours})}
    foreign = local.create_experiment("foreign", project_id=theirs)["id"]
    foreign_run = local.create_run(foreign)["id"]
    foreign_group = local.create_group(foreign, "g")["id"]
    with serving(create_app(local, keys)) as url, httpx.Client() as client:

        def ask(key: str | None, op: str, **args: Any) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
            response = client.post(f"{url}{PATH}", json={"op": op, "args": args}, headers=headers)
            return response.status_code, response.json().get("result")

        for wrong in (None, "x", hash_key(mine), f"{mine}x", mine[:-1]):
            assert ask(wrong, "list_experiments")[0] == 401
        assert ask(everything, "get_experiment", experiment_id=foreign)[1]["id"] == foreign
        status, made = ask(mine, "create_experiment", experiment_name="e")
        assert (status, made["project_id"]) == (200, ours)
        assert [row["id"] for row in ask(mine, "list_experiments")[1]] == [made["id"]]
        run = ask(mine, "create_run", experiment_id=made["id"])[1]["id"]
        odd = ask(everything, "create_experiment", experiment_name="o", project_id=theirs, run_id="nothing")[1]["id"]
        assert ask(mine, "log_metric", run_id=run, step=1, name="x", value=1.0)[0] == 200
        for op, args in (
            ("list_experiments", {"project_id": theirs}),
            ("get_experiment", {"experiment_id": foreign}),
            ("get_experiment", {"experiment_id": odd}),
            ("delete_experiment", {"experiment_id": odd}),
            ("delete_experiment", {"experiment_id": foreign}),
            ("update_run", {"run_id": foreign_run, "patch": {}}),
            ("log_metric", {"run_id": foreign_run, "step": 1, "name": "x", "value": 1.0}),
            ("list_runs", {"group_id": foreign_group}),
            ("update_run", {"run_id": run, "patch": {"group_id": foreign_group}}),
            ("create_project", {"name": "x"}),
            ("delete_project", {"project_id": theirs}),
        ):
            assert ask(mine, op, **args)[0] == 403, (op, args)
        assert ask(mine, "list_runs")[0] == 422
    assert local.get_metrics(foreign_run) == []


def test_only_hashes_of_keys_are_compared() -> None:
    key = new_key()
    assert len(key) > 40 and new_key() != key
    assert member_of({hash_key(key): None}, f"Bearer {key}") is not None
    assert member_of({hash_key(key): None}, f"bearer {key}") is not None
    assert member_of({hash_key(key): None}, f"Basic {key}") is None
    assert member_of({}, f"Bearer {key}") is None


def test_the_world_needs_keys(local: LocalStore) -> None:
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 can be reached from other machines"):
        serve_store(local, host="0.0.0.0")
    with pytest.raises(ConfigError):
        serve_store(local, host="192.168.1.5", keys={})


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys, evsys_hydra.store.sync, evsys_hydra.store.local, evsys_hydra.store.auto\n"
        "print([name for name in ('torch', 'transformers', 'starlette', 'httpx', 'hydra', 'scipy') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, cwd=tmp_path)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_file_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "home" / "keys.json"
    assert load_keys(path) == {}
    team, all_of_it = add_key(path, "team", ["p1"]), add_key(path, "admin", None)
    assert member_of(load_keys(path), f"Bearer {team}") == Member(frozenset({"p1"}))
    assert member_of(load_keys(path), f"Bearer {all_of_it}") == Member(None)
    assert team not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="a key named 'team' already"):
        add_key(path, "team", None)
    remove_key(path, "team")
    assert member_of(load_keys(path), f"Bearer {team}") is None
    with pytest.raises(ConfigError, match="no key named 'team'; keys: admin"):
        remove_key(path, "team")
    path.write_text("{broken")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_keys(path)
