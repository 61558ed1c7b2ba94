"""An arm runs inside Hydra's run_job where that makes a difference, and without loading Hydra elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evsys_hydra.hydra_job import CONCLUDE, asks_of_hydra, imports_hydra

from .conftest import PARTS, Run

PLAIN: dict[str, Any] = {
    "callbacks": {"conclude": {"_target_": CONCLUDE}},
    "job": {"env_set": {}, "chdir": None},
    "output_subdir": None,
    "verbose": False,
    "job_logging": {"version": 1, "root": {"level": "INFO"}},
}


def test_the_settings_as_shipped_ask_nothing() -> None:
    assert not asks_of_hydra(PLAIN)


@pytest.mark.parametrize(
    "more",
    [
        {"job": {"env_set": {"A": "1"}}},
        {"job": {"chdir": True}},
        {"output_subdir": ".hydra"},
        {"verbose": True},
        {"callbacks": {**PLAIN["callbacks"], "mine": {"_target_": "my.Callback"}}},
        {"callbacks": None},
        {"job_logging": {"handlers": {"file": {"filename": "${hydra.runtime.output_dir}/x.log"}}}},
        {"job_logging": None},
    ],
)
def test_anything_else_does(more: dict[str, Any]) -> None:
    assert asks_of_hydra({**PLAIN, **more})


def test_plugins_that_import_hydra_are_known(tmp_path: Path) -> None:
    own, other = tmp_path / "own.py", tmp_path / "other.py"
    own.write_text("from evsys_hydra import register_algorithm\n")
    other.write_text("def train():\n    from hydra.core.hydra_config import HydraConfig\n")
    assert not imports_hydra(str(own)) and imports_hydra(str(other))
    assert imports_hydra("evsys_hydra.slurm") and imports_hydra(str(tmp_path / "absent.py"))


PLUGIN = """
import os
from evsys_hydra import KindConfig, RunResult, register_algorithm

class Config(KindConfig):
    lr: float = 1.0
    do: str = ""
    seconds: float = 0.0
    skill: float = 0.0

@register_algorithm("asks", config=Config)
def train(config, context):
    {body}
    return RunResult(context.run.name, metrics={{"loss": config.lr}})
"""
HYDRA = "from hydra.core.hydra_config import HydraConfig; print('num', HydraConfig.get().job.num)"
ENVIRONMENT = "print('told', os.environ['TOLD'])"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "word", "said"), [(HYDRA, "seed=0", "num 0"), (ENVIRONMENT, "+hydra.job.env_set.TOLD=yes", "told yes")]
)
def test_hydra_is_there_for_who_asks(body: str, word: str, said: str, sweep: Run, tmp_path: Path) -> None:
    plugin = tmp_path / "asks.py"
    plugin.write_text(PLUGIN.format(body=body))
    plugins = f"plugins=[{PARTS},{plugin}]"
    ended = sweep("algorithm.kind=asks", plugins, "metadata.benchmark=null", "lr=1", word)
    logs = list((tmp_path / "exp" / "arms").glob("*/arm.log"))
    assert logs and said in logs[0].read_text(), ended.stderr


@pytest.mark.slow
def test_a_short_arm_loads_no_hydra(sweep: Run, tmp_path: Path) -> None:
    sweep("metadata.benchmark=null", "lr=1,2", check=True)
    arm = tmp_path / "exp" / "arms" / "lr=1"
    code = (
        "import sys; from pathlib import Path; from evsys_hydra.arm import run_arm\n"
        f"run_arm(Path({str(arm)!r}))\n"
        "print(sorted({'hydra', 'omegaconf', 'torch'} & set(sys.modules)))"
    )
    for name in ("status.json", "trained.json"):
        (arm / name).unlink()
    environment = {"PYDANTIC_DISABLE_PLUGINS": "__all__", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
