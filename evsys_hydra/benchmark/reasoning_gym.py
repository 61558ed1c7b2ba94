"""Tasks of reasoning-gym's procedural datasets, scored by the datasets themselves (the `reasoning-gym` extra).

A task's verifier carries the dataset's whole entry as data, so an answer can be scored anywhere, at any time. Some
datasets go through sets while they draw, so entries are made in a process of its own with a fixed hash seed: the same
settings give the same tasks in every process and on every node.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import Field

from ..config import KindConfig
from ..errors import ConfigError
from ..registry import register_benchmark, register_verifier
from .reasoning_gym_entries import dataset_of, restored

MISSING = "reasoning-gym is not installed: pip install 'evsys_hydra[reasoning-gym]'"


class ReasoningGym(KindConfig):
    """Tasks of reasoning-gym datasets (needs the `reasoning-gym` extra)."""

    kind: Literal["reasoning_gym"] = "reasoning_gym"
    names: str | list[str] = Field(min_length=1)
    """A dataset, or several that take turns: chain_sum, leg_counting, ..."""
    n: int = Field(100, ge=1)
    """Tasks in all."""
    seed: int = Field(0, ge=0)
    """Which tasks."""
    config: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of a dataset, by its name: {chain_sum: {max_terms: 3}}."""


@register_benchmark("reasoning_gym", config=ReasoningGym)
def reasoning_gym_tasks(config: ReasoningGym) -> list[dict[str, Any]]:
    """The tasks; metadata: `dataset`, `category`, and `difficulty` by the dataset's own names.

    Raises:
        ConfigError: no reasoning-gym, an unknown dataset, settings that a dataset refuses.
    """
    names = [config.names] if isinstance(config.names, str) else config.names
    if without := sorted(set(config.config) - set(names)):
        raise ConfigError(f"benchmark.generate.config: {', '.join(without)} is not among names ({', '.join(names)})")
    if importlib.util.find_spec("reasoning_gym") is None:
        raise ConfigError(f"benchmark.generate.kind=reasoning_gym: {MISSING}")
    asked = {"names": names, "n": config.n, "seed": config.seed, "config": config.config}
    return [_task(number, entry) for number, entry in enumerate(_entries(orjson.dumps(asked)))]


@register_verifier("reasoning_gym")
def reasoning_gym(output: str, expected: Any, params: dict[str, Any]) -> float:
    """The dataset's own score of what is in the last <answer>...</answer>, or of the whole answer without such tags."""
    entry = restored(params["entry"])
    return float(_dataset(params["dataset"], orjson.dumps(params["config"])).score_answer(_answer_in(output), entry))


def _answer_in(output: str) -> str:
    _, opened, rest = output.rpartition("<answer>")
    return (rest.partition("</answer>")[0] if opened else output).strip()


@functools.cache
def _dataset(name: str, config: bytes) -> Any:
    return dataset_of(name, orjson.loads(config))


@functools.lru_cache(maxsize=8)
def _entries(asked: bytes) -> list[dict[str, Any]]:
    package = str(Path(__file__).resolve().parents[2])
    path = [*(entry or os.getcwd() for entry in sys.path), package]
    code = f"import sys; sys.path[:] = {path!r}; from evsys_hydra.benchmark.reasoning_gym_entries import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], input=asked, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    if done.returncode != 0:
        last = (done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise ConfigError(f"benchmark.generate: reasoning-gym could not make the tasks: {last}")
    answer = orjson.loads(done.stdout)
    if "error" in answer:
        raise ConfigError(f"benchmark.generate.{answer['error']}")
    made: list[dict[str, Any]] = answer["entries"]
    return made


def _task(number: int, made: dict[str, Any]) -> dict[str, Any]:
    entry = made["entry"]
    params = {"dataset": made["dataset"], "config": made["config"], "entry": entry}
    return {
        "task_id": f"{made['dataset']}-{number:04d}",
        "instruction": entry["question"],
        "verifier": {
            "kind": "in_process",
            "fn_name": "reasoning_gym",
            "expected": entry["answer"],
            "params": params,
        },
        "metadata": {"dataset": made["dataset"], "category": made["category"], "difficulty": made["difficulty"]},
    }
