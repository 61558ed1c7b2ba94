"""An arm's end as its supervisor sees it where SLURM is slow to say why: what a real cluster does only now and then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LIFE = """
import json, os, sys, time
from pathlib import Path
from evsys_hydra.slurm.supervisor import Supervisor

def body(directory):
    (directory / "status.json").write_text(json.dumps({"state": "running", "attempt": 1, "pid": os.getpid()}))
    time.sleep(60)
    return 0

sys.exit(Supervisor(Path(sys.argv[1]), body=body).run())
"""
SCONTROL = """#!/bin/sh
echo "$@" >> {calls}
case "$1" in requeue) exit 0 ;; esac
if [ "$(wc -l < {calls})" -le 2 ]; then {early}; fi
echo "JobId=7 ArrayJobId=7 ArrayTaskId=0 JobState=RUNNING PreemptTime=2026-01-01T00:00:00 Requeue=1 Restarts=0"
"""


@pytest.mark.parametrize("early", ["echo 'JobId=7 JobState=RUNNING PreemptTime=None'; exit 0", "exit 1"])
def test_an_arm_that_listens_is_run_again_when_slurm_says_it_late(early: str, tmp_path: Path) -> None:
    """The arm dies at SIGTERM, and what SLURM says of it at first does not explain it."""
    programs, arm, calls = tmp_path / "bin", tmp_path / "arm", tmp_path / "calls"
    programs.mkdir()
    arm.mkdir()
    (programs / "scontrol").write_text(SCONTROL.format(calls=calls, early=early))
    (programs / "scontrol").chmod(0o755)
    job = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0", "PATH": f"{programs}:{os.environ['PATH']}"}
    supervisor = subprocess.Popen([sys.executable, "-c", LIFE, str(arm)], env={**os.environ, **job})
    try:
        wait_for(arm / "status.json")
        os.kill(supervisor.pid, signal.SIGTERM)
        wait_for(calls, "requeue 7_0")
        said = json.loads((arm / "exit.json").read_text())
        assert (said["cause"], said["again"], said["job"]) == ("preempted", True, "7_0")
    finally:
        supervisor.kill()
        supervisor.wait()


def wait_for(path: Path, text: str = "", seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline, f"waited for {text or path}"
        time.sleep(0.05)
