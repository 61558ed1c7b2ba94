"""What all tests share: running the program as a user does, with parts that need no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ROOT / "tests" / "parts" / "noop.py"
TASKS = [
    {
        "task_id": f"t{number}",
        "instruction": f"repeat {number}",
        "verifier": {"kind": "in_process", "fn_name": "exact_match", "expected": str(number)},
        "metadata": {"parity": "odd" if number % 2 else "even"},
    }
    for number in range(40)
]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub, no dashboard, and a store of the test's own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("EVSYS_HOME", str(tmp_path / "evsys_home"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("EVSYS_API_KEY", raising=False)


@pytest.fixture
def tasks_folder(tmp_path: Path) -> Path:
    """A benchmark folder of 40 tasks whose answer is the instruction's last word."""
    import json

    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in TASKS))
    return folder


@pytest.fixture
def noop_words(tasks_folder: Path) -> list[str]:
    """Overrides for arms that train nothing and answer at once."""
    return [
        "algorithm=noop",
        "inference=skilled",
        f"plugins=[{PARTS}]",
        "store=none",
        "benchmark=folder",
        f"benchmark.path={tasks_folder}",
        "data=rows",
        "data.rows=[{prompt: a, completion: b}]",
    ]


@pytest.fixture
def sweep(tmp_path: Path, noop_words: list[str]) -> Run:
    """Runs `python -m evsys_hydra -m <no-op parts> *words` in tmp_path; the experiment is tmp_path / "exp"."""

    def run(*words: str, multirun: bool = True, check: bool = False) -> subprocess.CompletedProcess[str]:
        where = f"hydra.{'sweep' if multirun else 'run'}.dir={tmp_path / 'exp'}"
        command = command_line(*noop_words, where, *words, multirun=multirun)
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=check)

    return run


def command_line(*words: str, multirun: bool = True) -> list[str]:
    """The command of a sweep with the no-op parts' config folder."""
    flags = ["-m"] if multirun else []
    return [sys.executable, "-m", "evsys_hydra", "--config-dir", str(ROOT / "tests" / "conf"), *flags, *words]
