"""In-loop evals of the live model, and what follows from them: stopping early, keeping the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .context import InLoopEval
from .loop_config import EarlyStopping
from .seeding import undisturbed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def run_in_loop(
    evals: Sequence[InLoopEval],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    step: int,
    autocast: Callable[[], AbstractContextManager[object]],
    scored: set[int],
) -> dict[str, float]:
    """Score the live model by the evals that are due at this step; training's random numbers stay untouched.

    Args:
        scored: places of the evals that gave values so far; added to here.

    Returns:
        "<benchmark>.<metric>" -> value; empty if none was due.
    """
    import torch

    due = [(place, each) for place, each in enumerate(evals) if step % each.every == 0]
    values: dict[str, float] = {}
    if not due:
        return values
    was_training = model.training
    model.train(False)
    try:
        with undisturbed(), torch.no_grad(), autocast():
            for place, each in due:
                found = each(model, tokenizer, step)
                if found:  # an eval that failed gives nothing, and training goes on
                    scored.add(place)
                values.update(found)
    finally:
        model.train(was_training)
    return values


@dataclass
class Watch:
    """Follows the early-stopping metric.

    Args:
        config: what is watched; None: nothing.
    """

    config: EarlyStopping | None
    best: float | None = None
    best_step: int | None = None
    worse: int = 0
    """Evals since the best one."""
    seen: set[str] = field(default_factory=set)
    """Names of all metrics scored so far."""

    def check(self, evals: Sequence[InLoopEval]) -> None:
        """Raises: ConfigError if there is something to watch and nothing is evaluated in the loop."""
        if self.config is not None and not evals:
            raise ConfigError(
                f"algorithm.early_stopping watches {self.config.metric!r}, but no benchmark is scored during training: "
                "set run_every on the benchmark"
            )

    def is_better(self, values: Mapping[str, float], step: int, *, all_scored: bool) -> bool:
        """Take in the values of an eval; whether the watched one is the best so far.

        Args:
            all_scored: every in-loop eval has given values by now.

        Raises:
            ConfigError: no eval has the watched metric; names those there are.
        """
        if self.config is None or not values:
            return False
        name = self.config.metric
        self.seen.update(values)
        if name not in self.seen and all_scored:
            raise ConfigError(
                f"algorithm.early_stopping.metric={name!r} is not among the metrics scored during training: "
                f"{', '.join(sorted(self.seen))}"
            )
        if name not in values:
            return False
        sign = 1.0 if self.config.direction == "maximize" else -1.0
        if self.best is None or sign * (values[name] - self.best) > self.config.min_delta:
            self.best, self.best_step, self.worse = values[name], step, 0
            return True
        self.worse += 1
        return False

    @property
    def is_over(self) -> bool:
        """Whether patience is at an end."""
        return self.config is not None and self.config.patience is not None and self.worse >= self.config.patience

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": self.best, "best_step": self.best_step, "worse": self.worse}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best, self.best_step, self.worse = state["best"], state["best_step"], state["worse"]
