"""Which GPU a task takes of those it sees."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import submitit.helpers

from evsys_hydra.errors import ConfigError
from evsys_hydra.slurm.ranks import set_up_distributed


@pytest.mark.parametrize(
    ("visible", "taken"),
    [("4,5", "5"), ("4,5,6,7", "5"), ("4", "4"), ("", "")],
    ids=["one each", "more than tasks", "its own only", "none"],
)
def test_a_task_takes_its_gpu(monkeypatch: pytest.MonkeyPatch, visible: str, taken: str) -> None:
    second_task_of(monkeypatch, visible, 2)
    set_up_distributed()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == taken


def test_fewer_gpus_than_tasks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    second_task_of(monkeypatch, "4,5", 3)
    with pytest.raises(ConfigError, match=r"3 tasks on a node with 2 GPUs \(4, 5\): set hydra.launcher.tasks_per_node"):
        set_up_distributed()


def second_task_of(monkeypatch: pytest.MonkeyPatch, visible: str, n: int) -> None:
    """What the second task on a node of n tasks is told by submitit."""
    told = SimpleNamespace(local_world_size=n, local_rank=1)
    exports = SimpleNamespace(export=lambda **_: told)
    monkeypatch.setattr(submitit.helpers, "TorchDistributedEnvironment", lambda: exports)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
