"""`evsys-hydra dashboard`, its keys and `report`, as they are typed."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from evsys_hydra.dashboard.keys import load_keys

from ..store import making


def verb(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evsys_hydra.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=check)


@pytest.mark.slow
def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    store = str(tmp_path / "evsys.db")
    assert verb("dashboard", "keys", "list", "--store", store).stdout == "no keys\n"
    key = verb("dashboard", "keys", "create", "ada", "--project", "p1", "--project", "p2", "--store", store).stdout
    path = tmp_path / "keys.json"
    assert key.startswith("evsys_") and key.strip() not in path.read_text()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert list(load_keys(path).values()) == [frozenset({"p1", "p2"})]
    listed = json.loads(verb("dashboard", "keys", "list", "--json", "--store", store).stdout)
    assert [(row["name"], row["projects"]) for row in listed] == [("ada", ["p1", "p2"])]
    again = verb("dashboard", "keys", "create", "ada", "--store", store, check=False)
    assert again.returncode == 1 and "already" in again.stderr
    verb("dashboard", "keys", "revoke", "ada", "--store", store)
    assert load_keys(path) == {}
    assert "no key named 'ada'" in verb("dashboard", "keys", "revoke", "ada", "--store", store, check=False).stderr


@pytest.mark.slow
def test_an_open_address_wants_keys(tmp_path: Path) -> None:
    refused = verb("dashboard", "--host", "0.0.0.0", "--store", str(tmp_path / "evsys.db"), check=False)
    assert refused.returncode == 1
    assert "evsys-hydra dashboard keys create" in refused.stderr


@pytest.mark.slow
def test_report_is_written_by_hand(tmp_path: Path) -> None:
    record = making.sweep(tmp_path / "exp")
    assert verb("report", str(record.directory)).stdout.strip() == str(record.directory / "report.html")
    assert "Best arm: a" in (record.directory / "report.html").read_text()
