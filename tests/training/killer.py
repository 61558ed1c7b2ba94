"""Trains in forked processes that kill themselves at chosen moments; run by test_checkpoint.py as a script.

    python -m tests.training.killer MODEL_DIR WORK_DIR full|lora

Prints a JSON object: the hash of an uninterrupted training's weights, and for each moment the hash after resuming.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evsys_hydra.config import LoraConfig

SETTINGS = {"max_steps": 10, "batch_size": 2, "save_every_steps": 3, "log_every": 4, "keep_last": 2}
DISK_CALLS = ("fsync", "replace", "mkdir", "rename")


def in_child(work: Callable[[], object]) -> int:
    """Run in a forked process; the signal that ended it, or 0."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(99)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) > 0:
        raise SystemExit("the training failed")
    return -os.waitstatus_to_exitcode(status)


def kill_at_disk_call(number: int) -> None:
    """From now on, the number-th call that changes the disk is this process's last."""
    left = [number]

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counted

    for name in DISK_CALLS:
        setattr(os, name, wrap(getattr(os, name)))


def kill_at_step(number: int) -> None:
    """This process dies before it makes the number-th step."""
    from evsys_hydra.training.stepping import Stepper

    plain, left = Stepper.step, [number]

    def step(self: Stepper, members: Any, lr: float) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, members, lr)

    Stepper.step = step  # type: ignore[method-assign]


def main() -> None:
    """Kill, resume and compare at every moment."""
    import peft  # noqa: F401  imported once, before the forks
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    from evsys_hydra.training.saving import clear
    from tests.training.parts import events, run_sft, sft_config, weights_hash

    torch.set_num_threads(1)
    model, work = Path(sys.argv[1]), Path(sys.argv[2])
    lora = LoraConfig(r=2, dropout=0.1) if sys.argv[3] == "lora" else None

    def train(directory: Path) -> None:
        result = run_sft(directory, model, SETTINGS, lora=lora)
        clear(sft_config(**SETTINGS), directory, Path(result.artifacts["checkpoint"]))

    whole = work / "whole"
    in_child(lambda: train(whole))
    found: dict[str, Any] = {"whole": weights_hash(whole / "checkpoints" / "final"), "resumed": {}}

    def attempt(name: str, arm_to_die: Callable[[], None]) -> bool:
        directory = work / name

        def die() -> None:
            arm_to_die()
            train(directory)

        if in_child(die) == 0:  # there was no such moment
            return False
        in_child(lambda: train(directory))
        steps = [line["step"] for line in events(directory, "resumed")]
        left = sorted(path.name for path in (directory / "checkpoints").iterdir())
        found["resumed"][name] = {
            "hash": weights_hash(directory / "checkpoints" / "final"),
            "from": steps,
            "left": left,
            "metrics": [line["values"]["loss"] for line in events(directory, "metrics")][-1],
        }
        shutil.rmtree(directory)
        return True

    for step in (2, 5, 8, 10):
        attempt(f"step-{step}", lambda step=step: kill_at_step(step))  # type: ignore[misc]
    stride = int(sys.argv[4])
    number = 1
    while attempt(f"disk-{number}", lambda number=number: kill_at_disk_call(number)):  # type: ignore[misc]
        number += stride
    found["whole_metrics"] = [line["values"]["loss"] for line in events(whole, "metrics")][-1]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
