"""A real browser: Debian's Chromium, driven by Playwright. Missing, the tests are skipped, but never in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evsys_hydra.dashboard.server import create_app
from evsys_hydra.store.local import LocalStore

from ..store.servers import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Closed before other modules' tests: while it is open, Playwright keeps this thread's event loop running."""
    missing = None if shutil.which(CHROMIUM) else f"{CHROMIUM} is not installed"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "the playwright package is not installed"
    if missing:
        if os.environ.get("CI"):
            pytest.fail(f"the browser tests cannot run: {missing}")
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages; at the end none of them has said an error or run an attack's script."""
    pages: list[Page] = []
    said: list[str] = []

    def make(**settings: Any) -> Page:
        page = chromium.new_context(**{"viewport": {"width": 1200, "height": 900}, **settings}).new_page()
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        pages.append(page)
        return page

    yield make
    hacked = [page.url for page in pages if page.evaluate("'hacked' in window")]
    for page in pages:
        page.context.close()
    assert said == [] and hacked == []


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path / "evsys_home" / "evsys.db")
    yield store
    store.close()


@pytest.fixture
def site(local: LocalStore) -> Iterator[str]:
    """The address of a dashboard over the user's store."""
    with serving(create_app(local)) as url:
        yield url


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command; whatever still runs at the end is ended."""
    running: list[subprocess.Popen[str]] = []

    def run(command: list[str], **settings: Any) -> subprocess.Popen[str]:
        running.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **settings)
        )
        return running[-1]

    yield run
    for process in running:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def evsys_hydra(*words: str) -> list[str]:
    """A verb's command."""
    return [sys.executable, "-m", "evsys_hydra.cli", *words]


def until(found: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")
