"""Preference training and RL against TRL, on equal terms, in one run: pairs and completions a CPU-second.

python benchmarks/preference_speed.py [--steps 20] [--rounds 3]

The demo model on the demo's data, fp32, one thread, the same batch sizes, learning rate and schedule; TRL with its
defaults for speed switched to what helps it here (no bf16, no gradient checkpointing). Imports and loading are not
counted; a round runs each of the four once, the median counts.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from evsys_hydra import registry
from evsys_hydra.config import ModelConfig, RunConfig, typed
from evsys_hydra.demo.preferences import DemoPreferences, demo_preferences
from evsys_hydra.demo.training_tasks import DemoTrainingTasks, demo_training_tasks
from evsys_hydra.inference.local import LocalInference
from evsys_hydra.models import load_model
from evsys_hydra.record import ArmRecord
from evsys_hydra.training.context import TrainContext

trl: Any = importlib.import_module("trl")
Dataset: Any = importlib.import_module("datasets").Dataset
MODEL = ModelConfig(name="demo")
COMMON = {"bf16": False, "gradient_checkpointing": False, "report_to": "none", "use_cpu": True, "disable_tqdm": True,
          "save_strategy": "no", "logging_steps": 1000, "lr_scheduler_type": "constant"}  # fmt: skip


def ours(kind: str, rows: Any, **settings: Any) -> Callable[[], float]:
    """CPU-seconds of a training by the algorithm of that kind."""

    def run() -> float:
        config = typed(registry.algorithms, {"kind": kind, "schedule": "constant", "warmup": 0, **settings})
        with tempfile.TemporaryDirectory() as directory:
            arm = RunConfig.model_construct(  # type: ignore[call-arg]
                name="arm", group="arm", seed=0, model=MODEL, inference=LocalInference(), tags=[]
            )
            context = TrainContext(arm, rows, Path(directory), ArmRecord(Path(directory)))
            started = time.process_time()
            registry.algorithms.get(kind).target(config, context)
            return time.process_time() - started

    return run


def trl_dpo(rows: Any, steps: int, batch: int) -> Callable[[], float]:
    """CPU-seconds of TRL's DPO."""
    chats = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for row in rows
    ]

    def run() -> float:
        (model, tokenizer), (reference, _) = load_model(MODEL), load_model(MODEL)
        with tempfile.TemporaryDirectory() as directory:
            config = trl.DPOConfig(
                output_dir=directory, max_steps=steps, per_device_train_batch_size=batch, learning_rate=3e-5, **COMMON
            )
            started = time.process_time()
            trainer = trl.DPOTrainer(
                model, reference, config, train_dataset=Dataset.from_list(chats), processing_class=tokenizer
            )
            trainer.train()
            return time.process_time() - started

    return run


def trl_grpo(rows: Any, steps: int, prompts: int, group: int) -> Callable[[], float]:
    """CPU-seconds of TRL's GRPO, with the same reward computed in its process."""
    data = [
        {
            "prompt": [{"role": "user", "content": row["instruction"]}],
            "expected": row["verifier"]["expected"],
        }
        for row in rows
    ]

    def reward(completions: Any, expected: Any, **_: Any) -> list[float]:
        return [float(said[0]["content"].strip() == right) for said, right in zip(completions, expected, strict=True)]

    def run() -> float:
        model, tokenizer = load_model(MODEL)
        with tempfile.TemporaryDirectory() as directory:
            config = trl.GRPOConfig(
                output_dir=directory, max_steps=steps, per_device_train_batch_size=prompts * group,
                num_generations=group, max_completion_length=40, learning_rate=1e-4, beta=0.0, **COMMON,
            )  # fmt: skip
            started = time.process_time()
            trainer = trl.GRPOTrainer(
                model, reward, config, train_dataset=Dataset.from_list(data), processing_class=tokenizer
            )
            trainer.train()
            return time.process_time() - started

    return run


def main() -> None:
    """Run all, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = options.steps
    pairs: Any = demo_preferences(DemoPreferences(n=steps * 16))
    tasks: Any = demo_training_tasks(DemoTrainingTasks(n=steps * 8))
    runs = {
        "dpo": ours("dpo", pairs, lr=3e-5, max_steps=steps, batch_size=16),
        "dpo by TRL": trl_dpo(pairs, steps, 16),
        "grpo": ours("grpo", tasks, lr=1e-4, max_steps=steps, batch_size=8, num_generations=8, max_tokens=40),
        "grpo by TRL": trl_grpo(tasks, steps, 8, 8),
    }
    for name in runs:
        runs[name]()  # the first run of each pays for lazy imports
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            seconds[name].append(run())
    examples = {"dpo": steps * 16, "grpo": steps * 64}
    for kind, n in examples.items():
        own, other = (statistics.median(seconds[name]) for name in (kind, f"{kind} by TRL"))
        what = "pairs" if kind == "dpo" else "completions"
        print(f"{kind}: {n / own:.0f} {what} a CPU-second, TRL {n / other:.0f}: {other / own:.2f}x")


if __name__ == "__main__":
    main()
