"""Settings of reinforcement learning with verifiers, typed; importing them needs no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ..config import SandboxLimits, check_sandbox
from .loop_config import LOOP_FIGURES, LoopConfig
from .rl.prompts import task_problem
from .schedule import ScheduleName


class GRPOConfig(LoopConfig):
    """Group-relative policy optimization: the model answers tasks, verifiers reward it, better answers become
    likelier."""

    in_processes: ClassVar[bool] = True
    in_shards: ClassVar[bool] = False
    samples: ClassVar[bool] = True
    figures: ClassVar[tuple[str, ...]] = (
        *LOOP_FIGURES,
        "reward",
        "reward_std",
        "equal_groups",
        "answer_tokens",
        "cut_fraction",
        "errored_rewards",
        "clip_fraction",
        "kl",
    )
    kind: Literal["grpo"] = "grpo"
    batch_size: int = Field(8, ge=1)
    """Prompts a step; each is answered num_generations times."""
    num_generations: int = Field(8, ge=2)
    """Answers to a prompt: the group that an answer's reward is compared with."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Most answers in a forward pass; null: all of a step. Halved when memory runs out."""
    num_iterations: int = Field(1, ge=1)
    """Updates with the answers of one step."""
    max_tokens: int = Field(256, ge=1)
    """Longest answer, in tokens."""
    temperature: float = Field(1.0, gt=0)
    """Of the sampling; probabilities in the loss have the same temperature."""
    beta: float = Field(0.0, ge=0)
    """Weight of the distance (KL) from where training started; 0: none, and no second model in memory."""
    epsilon: float = Field(0.2, gt=0)
    """The probability ratio is clipped at 1 - epsilon ..."""
    epsilon_high: float | None = Field(None, gt=0)
    """... and at 1 + epsilon_high; null: 1 + epsilon."""
    scale_rewards: bool = True
    """Advantages are divided by their group's standard deviation; false: not (Dr. GRPO)."""
    loss_type: Literal["dapo", "grpo", "dr_grpo"] = "dapo"
    """What the loss is a mean over: all tokens of the step (dapo), answers, each of them a mean over its tokens (grpo),
    or answers as if each had max_tokens (dr_grpo)."""
    schedule: ScheduleName = "constant"
    """constant, linear or cosine, after the warmup."""
    warmup: float = Field(0.0, ge=0)
    """Linear warmup: below 1 a share of all steps, else a number of steps."""
    verifier_timeout: float = Field(10.0, gt=0)
    """Seconds that verifying one answer may take."""
    sandbox: Literal["bubblewrap"] | None = None
    """Allows verifiers that run code (python_tests, kind e2b), in a sandbox; null: they are refused."""
    sandbox_limits: SandboxLimits = Field(default_factory=SandboxLimits)
    """What one sandboxed program may use."""
    record_rollouts: Annotated[int, Field(ge=0)] | Literal["all"] = "all"
    """Answers of a step that are written to predictions/rollouts.jsonl: a number, or all."""

    @model_validator(mode="after")
    def _sandboxed(self) -> GRPOConfig:
        if self.sandbox is not None:
            check_sandbox(self.sandbox_limits, self.verifier_timeout)
        return self

    def row_problem(self, row: object) -> str | None:
        """What keeps a row from being a task with a verifier that may run; None: nothing."""
        return task_problem(row, sandbox=self.sandbox is not None)
