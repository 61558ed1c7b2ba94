"""What a running training says: metrics every few steps, progress once a second, and the final figures.

Its state is part of every checkpoint, so that a resumed training ends with the figures of an uninterrupted one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .context import Recorder
from .stepping import StepResult

PROGRESS_SECONDS = 1.0
FINAL_SHARE = 10
"""The final train_loss is the mean over the last 1/FINAL_SHARE of the steps."""


@dataclass
class Telemetry:
    """Collects the steps of a training.

    Args:
        record: where facts go.
        total: all steps.
        log_every: steps between two records of metrics.
    """

    record: Recorder
    total: int
    log_every: int
    tokens: int = 0
    seconds: float = 0.0
    """In steps: without in-loop evals and checkpoints."""
    loss_sum: float = 0.0
    weight: int = 0
    _last: deque[tuple[float, int, Mapping[str, float]]] = field(init=False)
    _since: list[StepResult] = field(default_factory=list, init=False)
    _since_seconds: float = field(default=0.0, init=False)
    _shown: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._last = deque(maxlen=max(1, self.total // FINAL_SHARE))

    def add(self, done: int, result: StepResult, lr: float, seconds: float) -> None:
        """Note a step.

        Args:
            done: steps done, this one included.
            seconds: how long it took.
        """
        self.tokens += result.tokens
        self.seconds += seconds
        self.loss_sum += result.loss_sum
        self.weight += result.weight
        self._last.append((result.loss_sum, result.weight, result.figures))
        self._since.append(result)
        self._since_seconds += seconds
        if done % self.log_every == 0 or done == self.total:
            self._log(done, lr)
        if time.monotonic() - self._shown >= PROGRESS_SECONDS or done == self.total:
            self._shown = time.monotonic()
            self.record.progress("train", done, self.total, loss=result.loss_sum / result.weight, lr=lr)

    def _log(self, done: int, lr: float) -> None:
        tokens = sum(result.tokens for result in self._since)
        values = {
            "loss": sum(result.loss_sum for result in self._since) / sum(result.weight for result in self._since),
            "lr": lr,
            "grad_norm": self._since[-1].grad_norm,
            "tokens": float(self.tokens),
            "tokens_per_s": tokens / max(self._since_seconds, 1e-9),
            **mean_figures([result.figures for result in self._since]),
        }
        self.record.metrics(done, values)
        self._since.clear()
        self._since_seconds = 0.0

    def final(self) -> dict[str, float]:
        """The run's figures: train_loss (token mean of the last tenth), train_loss_mean (of all steps), tokens, ..."""
        return {
            "train_loss": sum(loss for loss, _, _ in self._last) / max(1, sum(weight for _, weight, _ in self._last)),
            "train_loss_mean": self.loss_sum / max(1, self.weight),
            "tokens": float(self.tokens),
            "train_seconds": self.seconds,
            "tokens_per_s": self.tokens / max(self.seconds, 1e-9),
            **mean_figures([figures for _, _, figures in self._last]),
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "tokens": self.tokens,
            "seconds": self.seconds,
            "loss_sum": self.loss_sum,
            "weight": self.weight,
            "last": list(self._last),
            "since": [[r.loss_sum, r.weight, r.tokens, r.grad_norm, dict(r.figures)] for r in self._since],
            "since_seconds": self._since_seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.tokens, self.seconds = state["tokens"], state["seconds"]
        self.loss_sum, self.weight = state["loss_sum"], state["weight"]
        self._last.extend((loss, weight, figures) for loss, weight, figures in state["last"])
        self._since = [StepResult(*values) for values in state["since"]]
        self._since_seconds = state["since_seconds"]


def mean_figures(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every figure over the steps that have it."""
    names = dict.fromkeys(name for figures in steps for name in figures)
    found = {name: [figures[name] for figures in steps if name in figures] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}
