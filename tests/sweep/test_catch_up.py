"""An experiment whose driver is gone reaches its own store; `evsys-hydra sync` does the same by hand."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.store.local import LocalStore
from evsys_hydra.sweep.catch_up import catch_up, send_all
from tests.store import making


def finished(directory: Path, **config: Any) -> None:
    record = making.experiment(directory)
    making.run_arm(making.add_arm(record, "a", **config))
    making.conclude(record)


def test_it_goes_to_the_store_of_its_config(tmp_path: Path) -> None:
    finished(tmp_path / "exp", store={"kind": "local", "path": f"{tmp_path}/${{name}}.db"})
    (said,) = catch_up(tmp_path / "exp", budget_s=20)
    assert said == "store local: 14 records sent."
    store = LocalStore(tmp_path / "demo.db")
    assert store.list_experiments()[0]["status"] == "completed"
    (report,) = send_all([tmp_path / "exp"])
    assert (report.store.sent, report.failed) == (0, False)


def test_a_dashboard_that_cannot_be_reached_is_given_up_quickly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVSYS_API_KEY", "k" * 20)
    finished(tmp_path / "exp", store={"kind": "gateway", "url": "http://127.0.0.1:9"})
    started = time.monotonic()
    (said,) = catch_up(tmp_path / "exp", budget_s=1)
    assert time.monotonic() - started < 5
    assert "cannot be reached" in said
    assert "wait on disk" in said
    assert json.loads((tmp_path / "exp" / "conclusion.json").read_text())["records_waiting"] == 14
    send_all([tmp_path / "exp"], file=tmp_path / "x.db")
    assert json.loads((tmp_path / "exp" / "conclusion.json").read_text())["records_waiting"] == 0


@pytest.mark.parametrize("store", [{"kind": "nonsense"}, {"kind": "local", "path": "${oc.env:NOT_SET_HERE}"}])
def test_a_store_that_cannot_be_opened_is_only_said(tmp_path: Path, store: dict[str, str]) -> None:
    finished(tmp_path / "exp", store=store)
    (said,) = catch_up(tmp_path / "exp", budget_s=1)
    assert said.startswith("store: ")


@pytest.mark.slow
def test_the_verb_says_what_went(tmp_path: Path) -> None:
    finished(tmp_path / "exp", store={"kind": "none"})
    words = ["evsys-hydra", "sync", str(tmp_path / "exp"), "--path", str(tmp_path / "x.db")]
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, check=True)
    (report,) = json.loads(done.stdout)
    assert (report["sent"], report["waiting"], report["trackers"]) == (14, 0, {})
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "0 records sent." in again.stdout
    wrong = subprocess.run([*words[:3], "--store", "lokal"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, "Did you mean 'local'" in wrong.stderr) == (1, True)
