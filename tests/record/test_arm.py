"""One arm's directory as its writer writes it and as everybody reads it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evsys_hydra.errors import RecordError
from evsys_hydra.record import ArmRecord, ArmView, is_running
from evsys_hydra.record.files import write_json


def test_a_life_from_pending_to_completed(tmp_path: Path) -> None:
    assert ArmView(tmp_path).state == "pending"
    record = ArmRecord(tmp_path)
    record.start()
    assert ArmView(tmp_path).state == "running" and is_running(tmp_path)
    record.metrics(1, {"loss": 0.5})
    record.prediction("bench", {"task_id": "a", "reward": 1.0})
    record.complete({"metrics": {"loss": 0.5}})
    view = ArmView(tmp_path)
    assert view.state == "completed" and view.cause is None and view.result["metrics"] == {"loss": 0.5}
    assert [event["values"] for event in view.events("metrics")] == [{"loss": 0.5}]
    assert [row["task_id"] for row in view.predictions("bench")] == ["a"]
    assert not is_running(tmp_path)


def test_a_second_process_cannot_run_an_arm_that_runs(tmp_path: Path) -> None:
    record = ArmRecord(tmp_path)
    record.start()
    with pytest.raises(BlockingIOError):
        ArmRecord(tmp_path).start()


def test_a_killed_arm_is_failed_and_its_next_attempt_keeps_what_the_first_left(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from evsys_hydra.record import ArmRecord\n"
        "r = ArmRecord(Path(sys.argv[1])); r.start(); r.metrics(1, {'loss': 1.0}); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    while not list(ArmView(tmp_path).events("metrics")):
        time.sleep(0.02)
    assert ArmView(tmp_path).state == "running"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    view = ArmView(tmp_path)
    assert (view.state, view.cause) == ("failed", "killed")
    record = ArmRecord(tmp_path)
    record.start()
    record.metrics(1, {"loss": 2.0})
    record.complete({})
    view = ArmView(tmp_path)
    assert view.attempt == 2 and view.state == "completed"
    assert (tmp_path / "attempts" / "1" / "status.json").exists()
    ids = [event["id"] for event in view.events()]
    assert len(ids) == len(set(ids)) == 4


def test_the_launchers_word_counts_only_for_its_own_attempt(tmp_path: Path) -> None:
    record = ArmRecord(tmp_path)
    record.start()
    record.fail("user_error", "ValueError: x")
    write_json(tmp_path / "exit.json", {"attempt": 1, "cause": "timeout", "error": "Timeout"})
    assert ArmView(tmp_path).cause == "user_error"  # the arm spoke for itself
    again = ArmRecord(tmp_path)
    again.start()
    again._release()
    write_json(tmp_path / "exit.json", {"attempt": 2, "cause": "timeout", "error": "Timeout"})
    assert ArmView(tmp_path).cause == "timeout"


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    record = ArmRecord(tmp_path)
    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(RecordError, match=r"without locks .*hydra\.sweep\.dir"):
        record.start()
    assert not is_running(tmp_path)
