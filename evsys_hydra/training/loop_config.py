"""Settings that every algorithm of the training loop has, typed; importing them needs no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ..config import Direction, KindConfig, Strict
from .schedule import ScheduleName


class EarlyStopping(Strict):
    """Watches a metric of the in-loop evals (a benchmark with `run_every`)."""

    metric: str
    """"<benchmark>.<metric>", for example "val.pass_rate"."""
    direction: Direction = "maximize"
    """Which way is better."""
    patience: int | None = Field(3, ge=1)
    """Stop after so many evals without a better value; null: never stop, only keep the best."""
    min_delta: float = Field(0.0, ge=0)
    """A value is better only if it is better by more than this."""
    keep_best: bool = True
    """The arm's checkpoint is the one with the best value; false: the last one."""


LOOP_FIGURES = (
    "train_loss",
    "train_loss_mean",
    "tokens",
    "train_seconds",
    "tokens_per_s",
    "steps",
    "n_examples",
    "n_dropped",
)
"""Metrics that every run of the training loop has in the end."""


class LoopConfig(KindConfig):
    """Steps, learning rate, memory, checkpoints and an early end."""

    samples: ClassVar[bool] = False
    """Whether the model answers prompts in training."""
    lr: float = Field(gt=0)
    """Peak learning rate."""
    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps, over as many epochs as that takes; null: `epochs` decides."""
    epochs: float = Field(1.0, gt=0)
    """How often every example is seen, unless max_steps is set."""
    batch_size: int = Field(16, ge=1)
    """Examples an optimizer step."""
    micro_batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    """Most examples in a forward pass; null: batch_size; auto: as many as fit into memory, measured before the first
    step. A step is cut into passes of similar length anyway, its gradients accumulated; this bounds the memory, and is
    halved when memory runs out."""
    schedule: ScheduleName = "linear"
    """constant, linear or cosine, after the warmup."""
    warmup: float = Field(0.05, ge=0)
    """Linear warmup: below 1 a share of all steps, else a number of steps."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decay of the weight matrices (not of biases and norms)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the two moments."""
    max_grad_norm: float | None = Field(1.0, gt=0)
    """Gradients are scaled down to this norm; null: not."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    log_every: int = Field(10, ge=1)
    """Steps between two records of metrics."""
    save_every_steps: int | None = Field(None, ge=1)
    """Steps between two resumable checkpoints; null: only by time."""
    save_every_minutes: float | None = Field(10.0, gt=0)
    """Minutes between two resumable checkpoints; null: only by steps."""
    save_at: list[Annotated[float, Field(gt=0, lt=1)]] = Field([])
    """Shares of all steps after which a resumable checkpoint is saved too, for example [0.25, 0.5]."""
    keep_last: int = Field(1, ge=1)
    """Resumable checkpoints kept. When training is done they stay only if save_every_steps or save_at is set."""
    early_stopping: EarlyStopping | None = None
    """Stop early, or keep the best checkpoint, by an in-loop metric."""

    @property
    def largest_pass(self) -> int:
        """Examples in a forward pass at most, as far as the config says it."""
        asked = self.micro_batch_size if isinstance(self.micro_batch_size, int) else self.batch_size
        return min(asked, self.batch_size)
