"""The training loop: steps, metrics, in-loop evals, checkpoints, an end. What is minimized is the algorithm's."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..causes import describe
from .batching import Batches
from .context import TrainContext
from .errors import TrainingDiverged
from .loop_config import LoopConfig
from .saving import Saver
from .schedule import multiplier, warmup_steps
from .sharding import brought_together
from .stepping import Stepper, StepResult, Steps
from .telemetry import Telemetry
from .validation import Watch, run_in_loop

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class Loop:
    """One training from its first step, or the one it was stopped at, to its last.

    Args:
        total: steps to make.
        autocast: the context of forward passes.
    """

    config: LoopConfig
    context: TrainContext
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    batches: Batches
    stepper: Steps
    saver: Saver
    total: int
    autocast: Callable[[], AbstractContextManager[object]]
    done: int = 0
    stopped_early: bool = False
    watch: Watch = field(init=False)
    telemetry: Telemetry = field(init=False)
    _last_saved: Path | None = field(default=None, init=False)
    _scored: set[int] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self.config.early_stopping)
        self.watch.check(self.context.in_loop)
        self.telemetry = Telemetry(self.context.record, self.total, self.config.log_every)
        self._warmup = warmup_steps(self.config.warmup, self.total)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, whose weights the model already has."""
        state = self.saver.restore(path, self.stepper.optimizer)
        self.done = state["done"]
        self.stepper.micro_batch_size = state["micro_batch_size"]
        self.telemetry.restore(state["telemetry"])
        self.watch.restore(state["watch"])
        self._last_saved = path
        self.context.record.event("resumed", step=self.done, checkpoint=path.name)

    def run(self) -> None:
        """Make the steps that are left.

        Raises:
            TrainingDiverged, TrainingOutOfMemory, ConfigError
        """
        self.model.train()
        if self.config.micro_batch_size == "auto" and self.done == 0 and isinstance(self.stepper, Stepper):
            self._fit_into_memory(self.stepper)
        while self.done < self.total and not self.stopped_early:
            started = time.perf_counter()
            lr = self.config.lr * multiplier(self.config.schedule, self.done, warmup=self._warmup, total=self.total)
            result = self.stepper.step(self.batches.at(self.done), lr)
            if not result.finite:
                raise self._diverged(result, lr)
            self.done += 1
            self.telemetry.add(self.done, result, lr, time.perf_counter() - started)
            self._validate()
            if self.done < self.total and not self.stopped_early and self.saver.is_due(self.done, self.total):
                self._save()

    def _validate(self) -> None:
        if not any(self.done % each.every == 0 for each in self.context.in_loop):
            return
        values, before = self._scores(), self.watch.state()
        better = self.watch.is_better(values, self.done, all_scored=len(self._scored) == len(self.context.in_loop))
        if better and self.watch.config is not None and self.watch.config.keep_best and not self._save_best():
            self.watch.restore(before)
        if values and self.watch.is_over:
            self.stopped_early = True
            self.context.record.event(
                "stopped_early", step=self.done, best=self.watch.best, best_step=self.watch.best_step
            )

    def _fit_into_memory(self, stepper: Stepper) -> None:
        """Passes as large as the memory allows, on the rank that has least of it."""
        from .memory import fitting_pass

        found = self.context.ranks.gathered(fitting_pass(stepper))
        stepper.micro_batch_size, facts = min(found, key=lambda pair: pair[0])
        self.context.record.event("micro_batch_size_found", micro_batch_size=stepper.micro_batch_size, **facts)

    def _scores(self) -> dict[str, float]:
        """The values of the evals that are due: the first rank scores, the others wait for its values."""
        ranks, values = self.context.ranks, dict[str, float]()
        with brought_together(self.model) if ranks.sharded else nullcontext():
            if ranks.is_first:
                values = run_in_loop(
                    self.context.in_loop, self.model, self.tokenizer, self.done, self.autocast, self._scored
                )
            values, self._scored = ranks.agreed((values, self._scored))
        return values

    def _save_best(self) -> bool:
        """Write the best checkpoint, if the disk takes it; whether it did."""
        problem = None
        try:
            path = self.saver.save_best(self.done, self.model, self.tokenizer)
        except Exception as error:  # as in _save
            problem = describe(error)
        problem = next(filter(None, self.context.ranks.gathered(problem)), None)
        if problem is not None:
            self.context.record.event("checkpoint_failed", step=self.done, error=problem)
            return False
        self.context.record.checkpoint(path, self.done, final=False, best=self.watch.best)
        return True

    def _save(self) -> None:
        """Write a resumable checkpoint; where that fails (a full disk), training goes on without it."""
        state: dict[str, Any] = {
            "done": self.done,
            "micro_batch_size": self.stepper.micro_batch_size,
            "telemetry": self.telemetry.state(),
            "watch": self.watch.state(),
        }
        try:
            self._last_saved = self.saver.save_resumable(
                self.done, self.model, self.tokenizer, self.stepper.optimizer, state
            )
        except Exception as error:  # safetensors, torch and the system each raise their own kind
            self.saver.postpone()
            self.context.record.event("checkpoint_failed", step=self.done, error=describe(error))
        else:
            self.context.record.checkpoint(self._last_saved, self.done, final=False)

    def _diverged(self, result: StepResult, lr: float) -> TrainingDiverged:
        kept = (
            f"The last good checkpoint is {self._last_saved}." if self._last_saved else "No checkpoint was saved yet."
        )
        return TrainingDiverged(
            f"step {self.done + 1} of {self.total}: loss {result.loss_sum / result.weight:g}, gradient norm "
            f"{result.grad_norm:g} at learning rate {lr:g}. {kept} A lower lr, a longer warmup or a smaller "
            "max_grad_norm may help"
        )
