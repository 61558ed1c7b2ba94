"""The pages without a browser: what they hold, how they are asked for, who may see them."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from evsys_hydra.dashboard.keys import KeyFile, add_key, remove_key
from evsys_hydra.dashboard.server import create_app
from evsys_hydra.record import ExperimentRecord
from evsys_hydra.report.html import seconds
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.pages import Pages, Wanted, pages_of
from evsys_hydra.store.protocol import MetricPoint
from evsys_hydra.store.sync import sync

from ..store import making
from .evil import ATTACKS


def text_of(client: TestClient, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
    return answer.text


def run_named(store: LocalStore, name: str) -> str:
    return next(str(run["id"]) for run in store.list_runs() if run["name"] == name)


def test_the_list_is_filtered_and_sorted_without_javascript(client: TestClient, local: LocalStore) -> None:
    for number, name in enumerate(("alpha", "beta", "gamma")):
        made = local.create_experiment(name, hypothesis=f"idea {number}", tags=["x"] if number else [])
        local.update_experiment(made["id"], {"status": "completed", "best_score": (0.5, 0.9, 0.1)[number]})
    assert re.findall(r">(alpha|beta|gamma)<", text_of(client, "/?sort=best&desc=1")) == ["beta", "alpha", "gamma"]
    assert re.findall(r">(alpha|beta|gamma)<", text_of(client, "/?sort=name")) == ["alpha", "beta", "gamma"]
    assert re.findall(r">(alpha|beta|gamma)<", text_of(client, "/?q=idea+2")) == ["gamma"]
    assert "No experiment is like that" in text_of(client, "/?status=failed")
    for nonsense in ("/?sort=;drop&page=-3", "/?page=99999999999999999999", "/?desc=x&q=%00%ff"):
        text_of(client, nonsense)


def test_the_list_shows_the_experiments_age_not_the_stores(client: TestClient, local: LocalStore) -> None:
    day = 86_400
    for name, created in (("old", time.time() - 40 * day), ("new", time.time() - day), ("none", None)):
        local.create_experiment(name, metadata={} if created is None else {"created": created})
    page = text_of(client, "/?sort=created&desc=1")
    assert re.findall(r">(old|new|none)<", page) == ["none", "new", "old"]
    at = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 40 * day))
    assert page.count(f'<time datetime="{at}') == 2  # beside the name on a phone


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (4.24, "4.2 s"),
        (9.97, "10 s"),
        (59.7, "1 min"),
        (3599.7, "1 h 00 min"),
        (7199, "2 h 00 min"),
        (3900, "1 h 05 min"),
    ],
)
def test_durations_are_rounded_once(value: float, shown: str) -> None:
    assert seconds(value) == shown


def test_the_list_has_pages(client: TestClient, local: LocalStore) -> None:
    for number in range(60):
        local.create_experiment(f"exp-{number:02}")
    assert len(re.findall(r">exp-\d\d<", text_of(client, "/?sort=name"))) == 50
    assert len(re.findall(r">exp-\d\d<", text_of(client, "/?sort=name&page=2"))) == 10


def test_an_experiment_shows_what_it_found(client: TestClient, finished: ExperimentRecord) -> None:
    page = text_of(client, f"/experiments/{finished.id}")
    for expected in (
        "a higher lr is better",
        "Best arm: a at mean_reward=0.7500.",
        "ValueError: it broke",
        "user error",
    ):
        assert expected in page, expected
    assert page.index("Best arm: a") < page.index(">Arms<")
    arms = re.findall(r'<a href="/arms/[0-9a-f]+">([^<]+)</a>', page)
    assert arms == ["a-s0", "a-s1", "b"]
    assert re.findall(
        r'<a href="/arms/[0-9a-f]+">([^<]+)</a>', text_of(client, f"/experiments/{finished.id}?state=failed")
    ) == ["b"]
    assert "No arm is like that" in text_of(client, f"/experiments/{finished.id}?q=nothing")
    assert re.findall(r"<th[^>]*>.*?>(lr)<", page), "the swept column is there"
    for sort in ("name", "score", "lr", "state", "seconds", "attempt", "nonsense"):
        text_of(client, f"/experiments/{finished.id}?sort={sort}&desc=1")


def test_curves_are_given_by_group(client: TestClient, finished: ExperimentRecord) -> None:
    charts = client.get(f"/experiments/{finished.id}/curves").json()
    loss = charts["loss/train"]
    assert loss["x"] == list(range(1, 31))
    by_label = {series["label"]: series for series in loss["series"]}
    assert by_label["a"]["seeds"] == 2 and by_label["a"]["low"] == by_label["a"]["high"] == by_label["a"]["y"]
    assert by_label["b"]["y"][1] == 0.5 and "low" not in by_label["b"]


def test_an_arm_and_its_config_beside_another(
    client: TestClient, local: LocalStore, finished: ExperimentRecord
) -> None:
    run = run_named(local, "a-s0")
    page = text_of(client, f"/arms/{run}?against=b")
    differing = page[page.index("Fields that differ") : page.index("fields are the same")]
    assert re.findall(r'<th scope="row">([^<]+)</th>', differing) == ["arm"]
    assert f"evsys-hydra rerun {finished.arm_directory('a-s0')}" in page
    assert "checkpoints/final" in page
    assert "There is no other arm named nobody" in text_of(client, f"/arms/{run}?against=nobody")
    assert "ValueError: it broke" in text_of(client, f"/arms/{run_named(local, 'b')}")


def test_predictions_are_filtered_and_in_pages(
    client: TestClient, local: LocalStore, finished: ExperimentRecord
) -> None:
    run = run_named(local, "a-s0")

    def tasks(query: str) -> list[str]:
        return re.findall(r"<h3>(task-\d+)", text_of(client, f"/arms/{run}/predictions?{query}"))

    assert tasks("") == [f"task-{number}" for number in range(25)]
    assert tasks("page=3") == [f"task-{number}" for number in range(50, 60)]
    assert tasks("passed=error") == ["task-2"]
    assert tasks("passed=no") == []
    assert tasks("task=sk-3&passed=yes")[:2] == ["task-3", "task-30"]
    assert tasks("slice=family:none") == []
    assert "60 predictions; 0 flipped" in text_of(client, f"/arms/{run}/predictions?against=b")


def test_flipped_tasks_come_first(client: TestClient, local: LocalStore) -> None:
    experiment = local.create_experiment("e")["id"]
    for name, rewards in (("one", (1, 1, 0, 0)), ("two", (1, 0, 0, 1))):
        run = local.create_run(experiment, name=name)["id"]
        evaluation = local.create_eval(run, metrics={"mean_reward": 0.5})["id"]
        for task, reward in enumerate(rewards):
            local.add_prediction(run, "eval", eval_id=evaluation, task_id=f"t{task}", reward=float(reward))
    page = text_of(client, f"/arms/{run_named(local, 'one')}/predictions?against=two")
    assert re.findall(r"<h3>(t\d)", page) == ["t3", "t1", "t0", "t2"]
    assert "2 flipped, shown first" in page


def test_records_of_a_plain_sdk_client_are_shown(client: TestClient, local: LocalStore) -> None:
    experiment = local.create_experiment("sdk")["id"]
    group = local.create_group(experiment, "lr=1")["id"]
    for seed, reward in ((0, 0.25), (1, 0.75)):
        run = local.create_run(experiment, group_id=group, seed=seed, run_config={"lr": 1}, status="running")["id"]
        local.log_metrics(run, 1, {"loss": 1.0})
        local.create_eval(run, metrics={"mean_reward": reward})
        local.update_run(run, {"status": "completed", "summary": {"loss": 0.3}})
    local.update_experiment(experiment, {"status": "completed", "conclusion": "Done.", "summary": None})
    page = text_of(client, f"/experiments/{experiment}")
    assert "Groups by mean_reward" in page and "no ranking was recorded" in page
    assert "0.500" in page
    for odd in ({"summary": [1], "status": "failed"}, {"swept": "x", "role": 3}, {"run_config": None}):
        local.update_run(run, odd)
        text_of(client, f"/experiments/{experiment}")
        text_of(client, f"/arms/{run}")
    local.update_experiment(experiment, {"ranking": "odd", "tags": None, "hypothesis": 3, "metadata": {"git": {}}})
    text_of(client, f"/experiments/{experiment}")
    text_of(client, "/")


def test_nothing_becomes_markup(client: TestClient, local: LocalStore, evil: ExperimentRecord) -> None:
    runs = [run["id"] for run in local.list_runs()]
    paths = ["/", f"/experiments/{evil.id}"]
    paths += [f"/arms/{run}{rest}" for run in runs for rest in ("", "/predictions", f"?against={runs[0]}")]
    paths += [f"/arms/{runs[1]}/predictions?against={runs[0]}", "/experiments/<script>alert(1)</script>"]
    from urllib.parse import quote

    for attack in ATTACKS:
        paths += [f"/?q={quote(attack)}", f"/arms/{runs[0]}?against={quote(attack)}"]
        paths += [f"/experiments/{evil.id}?q={quote(attack)}&sort={quote(attack)}&state={quote(attack)}"]
        paths += [f"/arms/{runs[0]}/predictions?task={quote(attack)}&slice={quote(attack)}&eval={quote(attack)}"]
    for path in paths:
        page = client.get(path).text
        for tag in re.findall(r"<[a-zA-Z][^>]*>", page):
            assert not re.search(r"\son\w+\s*=", re.sub(r'"[^"]*"', '""', tag)), (path, tag)
        assert "<script>" not in page and "<img" not in page and "<svg onload" not in page, path
        assert not re.search(r"(?<![\w-])1337(?![\w-])", page), path  # computed; an id may hold these digits
    charts = client.get(f"/experiments/{evil.id}/curves")
    assert (
        charts.headers["content-type"] == "application/json" and "nosniff" in charts.headers["x-content-type-options"]
    )
    json.loads(charts.text)


def test_a_page_that_has_not_changed_costs_nothing(client: TestClient, finished: ExperimentRecord) -> None:
    for path in ("/", f"/experiments/{finished.id}", f"/experiments/{finished.id}/curves"):
        first = client.get(path)
        again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b""), path


def test_other_sites_are_refused(client: TestClient, finished: ExperimentRecord) -> None:
    path = f"/experiments/{finished.id}"
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1"):
        assert client.get(path, headers={"Host": host}).status_code == 400, host
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"):
        assert client.get(path, headers={"Host": host}).status_code == 200, host
    body = b'{"op": "list_runs"}'
    kind = {"Content-Type": "application/json"}
    contract = "/api/dashboard/api/sdk/data/"
    assert client.post(contract, content=body, headers={**kind, "Origin": "http://evil.example"}).status_code == 403
    assert client.post(contract, content=body, headers={**kind, "Origin": "null"}).status_code == 403
    assert client.post(contract, content=body, headers={**kind, "Origin": "http://127.0.0.1:8000"}).status_code == 200
    policy = client.get(path).headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy


def test_static_files_are_those_of_the_package(client: TestClient) -> None:
    assert client.get("/static/app.css").status_code == 200
    assert client.get("/static/uplot/LICENSE").text.startswith("The MIT License")
    for path in ("/static/../html.py", "/static/%2e%2e/html.py", "/static//etc/passwd", "/static/"):
        assert client.get(path).status_code == 404, path


def test_unknown_ids(client: TestClient) -> None:
    for path in ("/experiments/nope", "/experiments/nope/curves", "/arms/nope", "/arms/nope/predictions", "/nope"):
        assert client.get(path).status_code == 404, path


def test_pages_behind_keys(local: LocalStore, tmp_path: Path) -> None:
    ours, theirs = (local.create_project(name)["id"] for name in ("ours", "theirs"))
    seen, hidden = (
        local.create_experiment("seen", project_id=ours)["id"],
        local.create_experiment("hid", project_id=theirs)["id"],
    )
    run = local.create_run(hidden, name="secret")["id"]
    path = tmp_path / "keys.json"
    key = add_key(path, "me", [ours])
    app = create_app(local, KeyFile(path))
    with TestClient(app, base_url="http://dashboard.example", follow_redirects=False) as client:
        for page in ("/", f"/experiments/{seen}", f"/arms/{run}"):
            answer = client.get(page)
            assert (answer.status_code, answer.headers["Location"]) == (303, "/login"), page
        assert client.post("/login", data={"key": "wrong"}).status_code == 401
        assert client.post("/login", data={"key": key}, headers={"Origin": "http://evil.example"}).status_code == 403
        assert client.post("/login", content=b"key=" + b"x" * 9000).status_code == 401
        answer = client.post("/login", data={"key": key})
        cookie = answer.headers["Set-Cookie"].lower()
        assert answer.status_code == 303 and "httponly" in cookie and "samesite=strict" in cookie and key not in cookie
        assert ">seen<" in client.get("/").text and ">hid<" not in client.get("/").text
        assert client.get(f"/experiments/{seen}").status_code == 200
        for page in (f"/experiments/{hidden}", f"/experiments/{hidden}/curves", f"/arms/{run}", f"/arms/{run}/curves"):
            assert client.get(page).status_code == 404, page
        kept = client.cookies["evsys_session"]
        client.post("/logout")
        client.cookies.set("evsys_session", kept)
        assert client.get("/").status_code == 303, "the session is over, whoever kept the cookie"
        client.post("/login", data={"key": key})
        assert client.get("/").status_code == 200
        remove_key(path, "me")
        assert client.get("/").status_code == 303, "a revoked key ends its sessions"


def test_queries_agree_with_the_plain_operations(local: LocalStore, finished: ExperimentRecord) -> None:
    fast, plain = pages_of(local), Pages(local)
    runs = [run["id"] for run in local.list_runs()]
    evaluation = local.list_evals(runs[0])[0]["id"]
    assert type(fast) is not Pages
    for ask in (
        lambda pages: pages.experiments()[0]["name"],
        lambda pages: pages.arms(finished.id),
        lambda pages: pages.evals(runs),
        lambda pages: sorted(pages.curve_names(runs)),
        lambda pages: [curve.run for curve in pages.curves(runs, "loss", "train", 10)],
        lambda pages: [(c.run, c.values.tolist()) for c in pages.curves(runs, "loss", "train")],
        lambda pages: pages.outcomes(runs[0], evaluation),
        lambda pages: pages.arm_names(finished.id, 2),
        lambda pages: pages.find_arm(finished.id, "b"),
        lambda pages: pages.find_arm(finished.id, "nobody"),
        *(
            lambda pages, wanted=wanted: pages.predictions(runs[0], evaluation, wanted, 7, 5)
            for wanted in (
                Wanted(),
                Wanted(passed=True),
                Wanted(passed="error"),
                Wanted(task="SK-1"),
                Wanted(key="a.b", value="__missing__"),
            )
        ),
    ):
        assert ask(fast) == ask(plain)


def test_changes_of_runs_reach_the_pages(local: LocalStore) -> None:
    experiment = local.create_experiment("e")["id"]
    before = local.create_run(experiment, name="before")["id"]
    pages = pages_of(local)
    after = local.create_run(experiment, name="after", run_config={"long": 1})["id"]
    local.update_run(before, {"status": "completed"})
    assert [(run["id"], run["status"], "run_config" in run) for run in pages.arms(experiment)] == [
        (before, "completed", False),
        (after, "pending", False),
    ]
    local.delete_experiment(experiment)
    assert pages.arms(experiment) == []


def test_a_long_curve_is_thinned_and_keeps_its_spike(client: TestClient, local: LocalStore) -> None:
    run = local.create_run(local.create_experiment("e")["id"], name="a")["id"]
    local.log_many(
        run, [MetricPoint(step, {"loss": 100.0 if step == 54_321 else step % 7 / 7}) for step in range(100_000)]
    )
    started = time.monotonic()
    chart = client.get(f"/arms/{run}/curves").json()["loss/train"]
    assert 200 < len(chart["x"]) < 2000
    assert max(chart["series"][0]["y"]) == 100.0
    assert (chart["x"][0], chart["x"][-1]) == (0, 99_999)
    overview = client.get(f"/experiments/{local.list_experiments()[0]['id']}/curves").json()["loss/train"]
    assert len(overview["x"]) <= 260
    assert time.monotonic() - started < 10, "a long curve is not read step by step"


def test_a_running_sweep_says_that_it_is_live(client: TestClient, local: LocalStore, tmp_path: Path) -> None:
    from evsys_hydra.record import ArmRecord

    record = making.experiment(tmp_path / "live")
    making.add_arm(record, "a")
    arm = ArmRecord(record.arm_directory("a"))
    arm.start()
    arm.metrics(1, {"loss": 0.5})
    sync(record.directory, local, live=True)
    assert 'id="main" tabindex="-1" data-live' in text_of(client, f"/experiments/{record.id}")
    making.train(arm)
    arm.complete({"status": "completed", "metrics": {}, "artifacts": {}})
    making.conclude(record)
    sync(record.directory, local)
    assert "data-live" not in text_of(client, f"/experiments/{record.id}")
