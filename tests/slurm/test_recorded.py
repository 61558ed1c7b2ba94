"""What cannot be made here for real (a kernel that kills for memory in a cgroup): SLURM's recorded words about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evsys_hydra.record import ArmView, ExperimentRecord
from evsys_hydra.slurm.client import QueuedJob, accounted, environment
from evsys_hydra.slurm.memory import cgroup_oom_kills
from evsys_hydra.slurm.settle import settle
from evsys_hydra.slurm.states import ending_of
from evsys_hydra.slurm.stuck import advice
from evsys_hydra.slurm.submission import Chunk, Submission

SACCT = """\
811_0|OUT_OF_MEMORY|0:125|01:00:00
811_1|NODE_FAIL|1:0|01:00:00
811_2|CANCELLED by 1000|0:0|01:00:00
811_3|TIMEOUT|0:0|01:00:00
811_4|PREEMPTED|0:0|01:00:00
811_5|BOOT_FAIL|0:0|01:00:00
811_6|DEADLINE|0:0|01:00:00
"""
CAUSES = ["out_of_memory", "node_failure", "cancelled", "timeout", "preempted", "node_failure", "timeout"]


@pytest.fixture
def only_sacct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster whose controller has forgotten the job, and whose database remembers it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    answers = {
        "sacct": f"cat <<'END'\n{SACCT}END",
        "scontrol": "echo 'slurm_load_jobs error: Invalid job id' >&2; exit 1",
    }
    for name, answer in answers.items():
        (programs / name).write_text(f"#!/bin/sh\n{answer}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")


def test_states_of_the_database(only_sacct: None) -> None:
    found = accounted("811")
    assert [facts["ArrayTaskId"] for facts in found] == [str(number) for number in range(7)]
    endings = [ending_of(facts) for facts in found]
    assert [ending.cause if ending else None for ending in endings] == CAUSES


def test_they_become_the_arms_causes(only_sacct: None, tmp_path: Path) -> None:
    record = ExperimentRecord.create(tmp_path / "exp", name="oom", metadata={})
    names = [f"arm{number}" for number in range(7)]
    record.add_arms(names)
    for name in names:
        directory = record.arm_directory(name)
        directory.mkdir(parents=True)
        (directory / "status.json").write_text(json.dumps({"state": "running", "attempt": 1, "started": 1.0}))
    tasks, chunks = [[name] for name in names], [Chunk(0, 7, "811")]
    Submission(record.directory, record.id, 1, tasks, chunks, complete=True).save()
    settle(record.directory, set())
    views = [ArmView(record.arm_directory(name)) for name in names]
    assert [view.cause for view in views] == CAUSES
    assert "OUT_OF_MEMORY" in str(views[0].error)


def test_an_earlier_jobs_end_does_not_speak_for_the_last_one(only_sacct: None, tmp_path: Path) -> None:
    record = ExperimentRecord.create(tmp_path / "exp", name="again", metadata={})
    record.add_arms(["a"])
    directory = record.arm_directory("a")
    directory.mkdir(parents=True)
    failed = {"state": "failed", "attempt": 1, "cause": "user_error", "error": "ValueError: first", "job": "700_0"}
    (directory / "status.json").write_text(json.dumps(failed))
    Submission(record.directory, record.id, 1, [["a"]], [Chunk(0, 1, "700")], complete=True).save()
    settle(record.directory, set())
    assert not (directory / "exit.json").exists()
    Submission(record.directory, record.id, 2, [["a"]], [Chunk(0, 1, "900")], complete=True).save()
    settle(record.directory, set(), only=["another"])
    assert not (directory / "exit.json").exists()
    settle(record.directory, set())
    view = ArmView(directory)
    assert view.cause == "out_of_memory"  # what the database says of the last job, not the ValueError of the first
    settle(record.directory, set())
    assert json.loads((directory / "exit.json").read_text())["attempt"] == 2


@pytest.mark.parametrize("state", ["RUNNING", "SIGNALING", "COMPLETING", "PENDING"])
def test_a_preempted_job_is_known_in_every_state_it_passes(state: str) -> None:
    """SIGNALING: a node has not yet said that it took the SIGCONT that comes before SIGTERM."""
    ending = ending_of({"JobState": state, "PreemptTime": "2026-01-01T00:00:00", "Requeue": "1", "Restarts": "0"})
    assert ending is not None and ending.cause == "preempted" and ending.again


def test_a_users_filters_do_not_hide_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SQUEUE_STATES", "SACCT_FORMAT", "SLURM_JOB_ID", "SLURM_TIME_FORMAT"):
        monkeypatch.setenv(name, "relative")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    given = environment()
    assert given["SLURM_CONF"] == "/etc/slurm.conf" and given["SLURM_TIME_FORMAT"] == "standard"
    assert not {"SQUEUE_STATES", "SACCT_FORMAT", "SLURM_JOB_ID"} & set(given)


@pytest.mark.parametrize(
    ("line", "file", "text"),
    [
        ("0::/system.slice/job_811/step_0", "system.slice/job_811/step_0/memory.events", "low 0\noom 1\noom_kill 2\n"),
        ("4:memory:/slurm/job_811", "memory/slurm/job_811/memory.oom_control", "under_oom 0\noom_kill 2\n"),
    ],
)
def test_a_cgroup_counts_what_the_kernel_killed(line: str, file: str, text: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    (tmp_path / "cgroup").write_text(f"1:name=systemd:/\n{line}\n")
    assert cgroup_oom_kills(tmp_path / "cgroup", tmp_path) == 2
    assert cgroup_oom_kills(tmp_path / "none", tmp_path) is None


@pytest.mark.parametrize(
    ("reason", "part"),
    [
        ("launch failed requeued held", "scontrol release 7_1"),
        ("launch_failed_requeued_held", "scontrol release 7_1"),
        ("JobHeldAdmin", "administrator"),
        ("BadConstraints", "no node"),
        ("PartitionTimeLimit", "timeout_min"),
        ("QOSMaxJobsPerUserLimit", "QOS"),
        ("AssocGrpGRESMinutes", "account"),
    ],
)
def test_reasons_that_last_are_explained(reason: str, part: str) -> None:
    assert part in str(advice(QueuedJob("7", "7", 1, "PENDING", reason, "")))


@pytest.mark.parametrize("reason", ["Resources", "Priority", "None", "BeginTime", "Dependency"])
def test_reasons_that_pass_are_not(reason: str) -> None:
    assert advice(QueuedJob("7", "7", 1, "PENDING", reason, "")) is None
