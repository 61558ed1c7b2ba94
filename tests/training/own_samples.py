"""Rows for the algorithms beside sft, on the words of parts.py."""

from __future__ import annotations

from typing import Any

from evsys_hydra.training.context import Row

from .parts import WORDS

PAIRS: list[Row] = [
    {"prompt": f"Say {word}.", "chosen": f"<a>{word}</a>", "rejected": f"It is {word}."} for word in WORDS
]
TASKS: list[Row] = [
    {
        "task_id": f"t-{word}",
        "instruction": f"Say {word}.",
        "verifier": {"kind": "in_process", "fn_name": "regex_match", "expected": "[A-Za-z]"},
    }
    for word in WORDS
]
DEMONSTRATED: list[Row] = [{"prompt": f"Say {word}.", "completion": word} for word in WORDS]
KINDS: dict[str, tuple[list[Row], dict[str, Any]]] = {
    "dpo": (PAIRS, {"batch_size": 4}),
    "grpo": (TASKS, {"batch_size": 3, "num_generations": 4, "max_tokens": 6, "beta": 0.05, "num_iterations": 2}),
    "sdft": (DEMONSTRATED, {"batch_size": 3, "max_tokens": 6, "teacher_prompt": "{prompt} {demonstration}"}),
}
"""kind -> rows and settings of a short training."""
