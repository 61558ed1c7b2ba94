"""Trains by an algorithm in a forked process that kills itself, resumes, and compares; run as a script.

    python -m tests.training.killed KIND MODEL_DIR WORK_DIR full|lora

Prints a JSON object: hashes of the weights and of the rollouts, uninterrupted and resumed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from evsys_hydra.config import LoraConfig
from tests.training.killer import in_child, kill_at_step
from tests.training.own_samples import KINDS
from tests.training.parts import events, run_kind, weights_hash


def main() -> None:
    """Train whole, train killed and resumed."""
    import peft  # noqa: F401  imported once, before the forks
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    torch.set_num_threads(1)
    kind, model, work = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    lora = LoraConfig(r=2, dropout=0.1) if sys.argv[4] == "lora" else None
    rows, settings = KINDS[kind]

    def train(directory: Path) -> None:
        run_kind(kind, directory, model, {**settings, "save_every_steps": 2}, rows=rows, lora=lora)

    def die() -> None:
        kill_at_step(9 if kind == "grpo" else 4)  # grpo makes two updates a step
        train(work / "killed")

    in_child(lambda: train(work / "whole"))
    assert in_child(die) == 9
    in_child(lambda: train(work / "killed"))
    print(json.dumps({"from": [line["step"] for line in events(work / "killed", "resumed")], **{
        name: state(work / name) for name in ("whole", "killed")
    }}))  # fmt: skip


def state(directory: Path) -> dict[str, Any]:
    """What must not depend on a kill."""
    rollouts = directory / "predictions" / "rollouts.jsonl"
    return {
        "weights": weights_hash(directory / "checkpoints" / "final"),
        "rollouts": hashlib.sha256(rollouts.read_bytes()).hexdigest() if rollouts.exists() else None,
        "loss": events(directory, "metrics")[-1]["values"]["loss"],
    }


if __name__ == "__main__":
    main()
