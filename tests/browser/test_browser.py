"""The pages in a real browser: a finished sweep, one that runs, attacks in every text, keyboard, phone, dark."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evsys_hydra.dashboard.keys import add_key, load_keys
from evsys_hydra.dashboard.server import create_app
from evsys_hydra.report import write_report
from evsys_hydra.store.local import LocalStore
from evsys_hydra.store.sync import sync
from tests.conftest import Run, command_line

from ..dashboard.evil import evil_experiment
from ..store import making
from ..store.servers import serving
from .conftest import evsys_hydra, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.xdist_group("browser")]
Open = Callable[..., "Page"]
WIDTHS = "document.documentElement.scrollWidth <= window.innerWidth"
SWEEP = ("algorithm.skill=0.3,0.9", "seed=0,1", "benchmark.breakdown_keys=[parity]", "store=local")


def test_a_real_finished_sweep(sweep: Run, tmp_path: Path, local: LocalStore, site: str, open_page: Open) -> None:
    sweep(*SWEEP, check=True)
    assert (tmp_path / "exp" / "report.html").exists(), "the conclusion writes the report"
    page = open_page()
    page.goto(site)
    page.get_by_role("link", name="demo").click()
    assert "skill=0.9" in page.get_by_role("heading", level=2).first.inner_text()
    rows = page.locator("table.forest tbody tr")
    assert [text.split()[0] for text in rows.locator("th").all_inner_texts()] == ["skill=0.9", "skill=0.3", "base"]
    assert rows.first.locator("line.bar").bounding_box() is not None
    assert page.locator("table.heat caption").inner_text() == "pass_rate by parity"
    assert page.locator(".parallel polyline").count() == 4
    page.get_by_role("button", name="skill=0.9").first.wait_for()
    page.get_by_role("link", name="skill=0.9,seed=1").click()
    assert "evsys-hydra rerun" in page.locator("#rerun").inner_text()
    page.get_by_label("Compare with").fill("skill=0.3,seed=1")
    page.get_by_role("button", name="Compare").click()
    assert page.get_by_role("row", name="algorithm.skill").inner_text().split() == ["algorithm.skill", "0.9", "0.3"]
    page.get_by_role("link", name="The predictions side by side").click()
    assert "flipped, shown first" in page.locator("#count").inner_text()
    assert "flipped" in page.locator(".sample").first.inner_text()
    page.get_by_label("Outcome").select_option("passed")
    page.get_by_role("button", name="Show").click()
    assert page.locator(".sample").count() > 0 and "passed=yes" in page.url


def test_a_running_sweep_updates_itself(
    tmp_path: Path, noop_words: list[str], site: str, open_page: Open, start: Callable[..., subprocess.Popen[str]]
) -> None:
    words = [*noop_words, "store=local", "algorithm.seconds=2,9", "hydra.launcher.n_jobs=1"]
    start(command_line(*words, f"hydra.sweep.dir={tmp_path / 'exp'}"), cwd=tmp_path)
    page = open_page()
    page.goto(site)
    until(lambda: page.reload() and page.get_by_role("link", name="demo").count(), "the sweep is listed")
    page.get_by_role("link", name="demo").click()
    page.evaluate("window.kept = 'the page was never loaded again'")
    page.get_by_text("Live", exact=True).wait_for(timeout=20_000)
    page.locator("td .state.running").first.wait_for(timeout=40_000)
    page.locator("table.arms td .state").first.click()  # the focus is in the table now: it must go on changing
    assert page.evaluate("document.activeElement.className") == "scroll"
    page.locator("td .state.completed").nth(1).wait_for(timeout=60_000)
    page.get_by_text("Best arm:").wait_for(state="attached", timeout=90_000)
    until(lambda: page.wait_for_timeout(200) or not page.locator("td .state.running").count(), "the last state")
    assert page.evaluate("document.activeElement.className") == "scroll"
    assert page.evaluate("window.kept") == "the page was never loaded again"
    assert page.locator("#live-status").inner_text() in ("", "Live")


def test_a_hidden_tab_does_not_ask(local: LocalStore, site: str, open_page: Open) -> None:
    experiment = local.create_experiment("e")["id"]
    local.update_experiment(experiment, {"status": "running"})
    page = open_page()
    page.add_init_script("Object.defineProperty(document, 'hidden', {get: () => window.isHidden === true})")
    page.goto(f"{site}/experiments/{experiment}")
    page.get_by_text("Live", exact=True).wait_for(timeout=20_000)
    page.evaluate("window.isHidden = true")
    page.wait_for_timeout(3500)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(3500)
    assert asked == []
    page.evaluate("window.isHidden = false")
    until(lambda: page.wait_for_timeout(200) or asked, "a tab that is seen again asks")


def test_attacks_stay_texts(tmp_path: Path, local: LocalStore, site: str, open_page: Open) -> None:
    record = evil_experiment(tmp_path / "evil")
    sync(record.directory, local)
    runs = [run["id"] for run in local.list_runs()]
    page = open_page()
    paths = ["", f"/experiments/{record.id}", f"/arms/{runs[2]}", f"/arms/{runs[0]}?against={runs[1]}"]
    paths += [f"/arms/{runs[0]}/predictions", f"/arms/{runs[0]}/predictions?against={runs[1]}"]
    addresses = [*(f"{site}{path}" for path in paths), f"file://{write_report(record.directory)}"]
    for address in addresses:
        page.goto(address)
        page.wait_for_timeout(400)
        assert page.evaluate("'hacked' in window") is False, address
        assert page.locator("img, [onload], [onerror], [onfocus]").count() == 0, address
        assert page.locator("script:not([src]):not([type='application/json'])").count() == (address[:4] == "file")
        assert "<script>window.hacked=1</script>" in page.locator("main").inner_text(), address
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate(WIDTHS), address
        page.set_viewport_size({"width": 1200, "height": 900})


def test_the_keyboard_reaches_everything(tmp_path: Path, local: LocalStore, site: str, open_page: Open) -> None:
    record = making.sweep(tmp_path / "exp", steps=20)
    sync(record.directory, local)
    page = open_page()
    page.goto(f"{site}/experiments/{record.id}")
    page.locator("figure.chart canvas").first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("(({name, id, textContent}) => name || id || textContent.trim())(document.activeElement)")
        )
        shown = page.evaluate(
            "document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle"
        )
        assert shown in (True, "solid", "auto"), page.evaluate("document.activeElement.outerHTML")
    assert {"q", "state", "smoothing", "log-scale", "a-s0"} <= reached
    legend = page.locator(".legend button").first
    legend.focus()
    page.keyboard.press("Enter")
    assert legend.get_attribute("aria-pressed") == "false"
    page.locator("#smoothing").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    page.locator("#log-scale").press("Space")
    assert (
        page.locator("figure.chart .plot[role=img]")
        .first.get_attribute("aria-label")
        .startswith("loss (train) by step")
    )
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input:not([type=hidden]), select')].filter((one) => !one.labels.length).length"
    )
    assert unnamed == 0
    assert page.evaluate("[...document.querySelectorAll('table')].every((one) => one.caption)")
    assert page.evaluate("[...document.querySelectorAll('th')].every((one) => one.scope)")


def test_phone_and_dark(tmp_path: Path, local: LocalStore, site: str, open_page: Open) -> None:
    record = making.sweep(tmp_path / "exp", steps=20)
    sync(record.directory, local)
    run = local.list_runs()[0]["id"]
    phone = open_page(
        viewport={"width": 360, "height": 740}, device_scale_factor=2, is_mobile=True, color_scheme="dark"
    )
    report = f"file://{write_report(record.directory)}"
    paths = [f"{site}{path}" for path in ("", f"/experiments/{record.id}", f"/arms/{run}", f"/arms/{run}/predictions")]
    for address in (*paths, report):
        phone.goto(address)
        phone.wait_for_timeout(300)
        assert phone.evaluate(WIDTHS), address
        red, green, blue = phone.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert max(red, green, blue) < 60, "dark"


def test_a_report_asks_no_network(tmp_path: Path, open_page: Open) -> None:
    record = making.sweep(tmp_path / "exp", steps=20)
    path = write_report(record.directory)
    page = open_page(offline=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if not request.url.startswith("data:") else None)
    page.goto(f"file://{path}")
    page.locator("figure.chart canvas").first.wait_for()
    assert asked == [f"file://{path}"]
    assert "Best arm: a" in page.locator("main").inner_text()


def test_the_login_form(tmp_path: Path, local: LocalStore, open_page: Open) -> None:
    keys = tmp_path / "keys.json"
    key = add_key(keys, "me", None)
    with serving(create_app(local, load_keys(keys))) as url:
        page = open_page()
        page.goto(url)
        assert page.evaluate("document.activeElement.id") == "key"
        page.keyboard.type(key)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Experiments").wait_for()
        assert page.evaluate("document.cookie") == "", "scripts cannot read the session"
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("heading", name="Log in").wait_for()


def test_the_verb_serves_directories(
    tmp_path: Path, open_page: Open, start: Callable[..., subprocess.Popen[str]]
) -> None:
    record = making.sweep(tmp_path / "exp", steps=20)
    server = start(evsys_hydra("dashboard", str(record.directory), "--port", "0", "--store", str(tmp_path / "own.db")))
    assert server.stdout is not None
    url = server.stdout.readline().split()[0]
    page = open_page()
    page.goto(url)
    page.get_by_role("link", name="demo").click()
    page.get_by_text("Best arm: a at mean_reward").wait_for()
