"""Settings of supervised fine-tuning, typed; importing them needs no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..config import Direction, KindConfig, Strict
from .chat import LossOn
from .encoding import EncodingOptions, Render, TooLong
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


class SFTConfig(KindConfig):
    """Supervised fine-tuning: cross-entropy on what the assistant says, averaged over the tokens of a step."""

    kind: Literal["sft"] = "sft"
    lr: float = Field(gt=0)
    """Peak learning rate."""
    epochs: float = Field(1.0, gt=0)
    """How often every example is seen, unless max_steps is set."""
    max_steps: int | None = Field(None, ge=1)
    """Optimizer steps, over as many epochs as that takes; null: `epochs` decides."""
    batch_size: int = Field(16, ge=1)
    """Examples an optimizer step."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Most examples in a forward pass; null: batch_size. A step is cut into passes of similar length anyway, its
    gradients accumulated; this bounds the memory, and is halved when memory runs out."""
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
    loss_on: LossOn = "all"
    """Train on all assistant turns of a chat or on its last."""
    render: Render = "auto"
    """How prompt/completion rows are rendered: through the chat template, as plain text, or auto: chat if there is a
    template."""
    max_length: int | None = Field(None, ge=2)
    """Longest sequence in tokens; null: what the model can take."""
    too_long: TooLong = "drop"
    """Longer sequences are dropped, cut at the end or start, or an error. Counted in the metrics."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    log_every: int = Field(10, ge=1)
    """Steps between two records of metrics."""
    save_every_steps: int | None = Field(None, ge=1)
    """Steps between two resumable checkpoints; null: only by time."""
    save_every_minutes: float | None = Field(10.0, gt=0)
    """Minutes between two resumable checkpoints; null: only by steps."""
    keep_last: int = Field(1, ge=1)
    """Resumable checkpoints kept. When training is done they stay only if save_every_steps is set."""
    early_stopping: EarlyStopping | None = None
    """Stop early, or keep the best checkpoint, by an in-loop metric."""

    def encoding(self, longest: int | None = None) -> EncodingOptions:
        """How rows are encoded; `longest` is what the model can take."""
        return EncodingOptions(self.loss_on, self.render, self.max_length or longest, self.too_long)
