"""Experiments on disk for the tests of the store, written by the real record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from evsys_hydra.record import ArmRecord, ExperimentRecord
from evsys_hydra.record.files import write_json

HASH = "ab" * 32


def experiment(directory: Path, *, name: str = "demo") -> ExperimentRecord:
    metadata = {"hypothesis": "a higher lr is better", "tags": ["t1"], "success_metric": "mean_reward"}
    return ExperimentRecord.create(directory, name=name, metadata=metadata)


def add_arm(record: ExperimentRecord, name: str, *, group: str | None = None, seed: int = 0, **config: Any) -> Path:
    directory = record.arm_directory(name)
    directory.mkdir(parents=True)
    composed = {
        "name": record.name,
        "arm": name,
        "lr": 1e-5,
        "model": {"name": "demo"},
        "algorithm": {"kind": "sft", "lr": "${lr}"},
        **config,
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(composed))
    facts = {"name": name, "group": group or name, "seed": seed, "role": "arm", "swept": {"lr": 1e-5}, "overrides": []}
    write_json(directory / "arm.json", facts)
    record.add_arms([name])
    return directory


def prediction(task: int, sample: int = 0, *, reward: float | None = 1.0) -> dict[str, Any]:
    return {
        "kind": "eval",
        "task_id": f"task-{task}",
        "sample_idx": sample,
        "instruction": f"what is {task}?",
        "expected": str(task),
        "reward": reward,
        "output": f"it is {task}",
        "error": None if reward is not None else "Timeout: no answer",
        "metadata": {"latency_s": 0.5, "prompt_tokens": 3},
    }


def train(arm: ArmRecord, *, steps: int = 5, tasks: int = 3) -> None:
    """What an arm records between start and end: curves, a checkpoint, an eval with its predictions."""
    for step in range(1, steps + 1):
        arm.metrics(step, {"loss": 1 / step, "lr": 1e-5})
        arm.progress("train", step, steps)
    (arm.directory / "checkpoints" / "final").mkdir(parents=True, exist_ok=True)
    arm.checkpoint(arm.directory / "checkpoints" / "final", steps, final=True)
    for task in range(tasks):
        arm.prediction("bench", prediction(task, reward=None if task == 2 else 1.0))
    evaluate(arm)


def evaluate(arm: ArmRecord, name: str = "bench", **facts: Any) -> None:
    base = {
        "name": name,
        "benchmark_id": HASH,
        "benchmark_hash": HASH,
        "metrics": {"mean_reward": 0.75, "n_tasks": 3},
        "breakdowns": {"level": {"easy": {"n": 3, "mean_reward": 0.75}}},
        "eval_seconds": 1.5,
        "step": None,
        "tags": ["test"],
        "model": None,
        "error": None,
        "predictions": f"predictions/{name}.jsonl",
    }
    arm.event("eval", **{**base, **facts})


def run_arm(directory: Path, *, steps: int = 5, tasks: int = 3, fail: str | None = None) -> None:
    arm = ArmRecord(directory)
    arm.start()
    train(arm, steps=steps, tasks=tasks)
    if fail:
        arm.fail("user_error", fail)
    else:
        arm.complete({"status": "completed", "metrics": {"loss": 1 / steps}, "artifacts": {}, "train_seconds": 2.0})


def conclude(record: ExperimentRecord, text: str = "Best arm: a at mean_reward=0.7500.") -> None:
    facts = {
        "experiment_id": record.id,
        "generation": record.facts["generation"],
        "status": "completed",
        "conclusion": text,
        "best_score": 0.75,
    }
    write_json(record.directory / "conclusion.json", facts)


def sweep(directory: Path, *, steps: int = 5, tasks: int = 3) -> ExperimentRecord:
    """A finished experiment: two seeds of one group, one failed arm of another, a conclusion."""
    record = experiment(directory)
    for seed in (0, 1):
        run_arm(add_arm(record, f"a-s{seed}", group="a", seed=seed), steps=steps, tasks=tasks)
    run_arm(add_arm(record, "b", group="b"), steps=steps, tasks=tasks, fail="ValueError: it broke")
    conclude(record)
    return record
