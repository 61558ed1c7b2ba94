"""What recording adds to a training step: python benchmarks/recording_overhead.py [steps]

The demo model is trained with its record on and off, in turns, every step logged. Whole trainings differ by no more
than the machine's noise, so the record is also measured alone: the time inside ArmRecord while the training runs.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from evsys_hydra.composed import typed_config
from evsys_hydra.config import ExperimentConfig
from evsys_hydra.record import ArmRecord
from evsys_hydra.registry import algorithms
from evsys_hydra.sweep.open import compose
from evsys_hydra.training.context import TrainContext
from evsys_hydra.training.rows import load_rows

WANTED = 0.01
REPEATS = 3


class Timed(ArmRecord):
    """A record that knows how long it took."""

    spent = 0.0

    def event(self, kind: str, **facts: Any) -> None:
        started = time.perf_counter()
        super().event(kind, **facts)
        self.spent += time.perf_counter() - started


class Silent(Timed):
    """A record that writes nothing."""

    def event(self, kind: str, **facts: Any) -> None:
        pass


def train(config: ExperimentConfig, rows: list[Any], record: Timed) -> float:
    """Seconds inside the steps of one training."""
    context = TrainContext(run=config.run, rows=rows, directory=record.directory, record=record, in_loop=[])
    result = algorithms.get(config.algorithm.kind).target(config.algorithm, context)
    return float(result.metrics["train_seconds"])


def main(steps: int) -> int:
    """Measure in turns and print; 1 if recording costs more than wanted."""
    words = [f"algorithm.max_steps={steps}", "algorithm.log_every=1"]
    _, composed = compose(words)
    config = typed_config(OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"]))
    rows = load_rows(config.data)
    seconds: dict[str, list[float]] = {"on": [], "off": []}
    shares = []
    kinds: dict[str, Callable[[Path], Timed]] = {"on": Timed, "off": Silent}
    for repeat in range(REPEATS + 1):
        for name, make in kinds.items():
            with tempfile.TemporaryDirectory() as folder:
                record = make(Path(folder))
                record.start()
                spent = train(config, rows, record)
                if repeat == 0:  # warm-up
                    continue
                seconds[name].append(spent / steps)
                if name == "on":
                    shares.append(record.spent / spent)
    for name, found in seconds.items():
        shown = ", ".join(f"{value * 1e3:.2f}" for value in found)
        print(f"recording {name:3}  {statistics.median(found) * 1e3:7.2f} ms a step   (all: {shown})")
    share = statistics.median(shares)
    step = statistics.median(seconds["on"])
    print(f"inside the record: {share * step * 1e6:.0f} us a step, {share:.2%} of it (wanted: below {WANTED:.0%})")
    ratio = statistics.median(seconds["on"]) / statistics.median(seconds["off"])
    print(f"on / off: {ratio:.3f} (with the machine's noise)")
    return int(share > WANTED)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 60))
