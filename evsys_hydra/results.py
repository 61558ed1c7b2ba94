"""What runs, evals, arms and experiments give back.

Plain dataclasses: an arm's process fills them, the record stores them as JSON, `conclude` reads them back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .config import Direction, RunConfig

RunStatus = Literal["completed", "failed", "cancelled"]
LOSS = re.compile(r"(^|[._])(loss|nll|perplexity|ppl|error_rate|n_errors)$")


def direction_of(metric: str, given: Direction | None) -> Direction:
    """The given direction; else minimize for known losses, and maximize for all else."""
    return given or ("minimize" if LOSS.search(metric) else "maximize")


@dataclass
class RunResult:
    """What a train_fn returns for one arm."""

    run_id: str
    """Name of the run; the arm's name."""
    status: RunStatus = "completed"
    metrics: dict[str, float] = field(default_factory=dict)
    """Training metrics, final values."""
    artifacts: dict[str, str] = field(default_factory=dict)
    """Name to path; "checkpoint" is what gets evaluated."""
    error: str | None = None
    """"<Type>: <text>" if the run did not complete."""
    extras: dict[str, Any] = field(default_factory=dict)
    """Anything else, for the caller's own use."""


@dataclass
class EvalResult:
    """One benchmark scored for one checkpoint (or one API model) at one moment."""

    name: str
    benchmark_id: str | None = None
    """The benchmark's id in the store, if the config names one."""
    benchmark_hash: str | None = None
    """sha256 of the tasks: equal hashes can be compared task by task."""
    metrics: dict[str, float] = field(default_factory=dict)
    breakdowns: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Dotted key -> value -> {n, mean_reward, pass_rate, and their standard errors}."""
    eval_seconds: float = 0.0
    step: int | None = None
    """None: after training; else the training step of an in-loop row."""
    tags: list[str] = field(default_factory=list)
    model: str | None = None
    """The API model of this row; None: the arm's own checkpoint."""
    error: str | None = None
    """Why the benchmark could not be scored, or not completely."""
    facts: dict[str, Any] = field(default_factory=dict)
    """How it was scored: dtype, device, batch size, tokens and cost of an API."""


@dataclass
class ArmResult:
    """One arm of the experiment."""

    name: str
    run_config: RunConfig | None
    """None where it cannot be typed: a plugin or a variable of the environment is missing in this process."""
    status: Literal["completed", "failed", "running", "pending"]
    metrics: dict[str, float] = field(default_factory=dict)
    """Training metrics."""
    eval_metrics: dict[str, float] = field(default_factory=dict)
    """Mirror of the primary eval's metrics."""
    eval_breakdowns: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    evals: list[EvalResult] = field(default_factory=list)
    run_id: str | None = None
    error: str | None = None
    """"<Type>: <text>" of a failed arm."""
    cause: str | None = None
    """user_error, out_of_memory, timeout, preempted, node_failure, cancelled, killed or never_started."""
    train_seconds: float | None = None
    eval_seconds: float | None = None
    run_result: RunResult | None = None
    group_id: str | None = None
    group_name: str | None = None

    @property
    def primary(self) -> EvalResult | None:
        """The checkpoint's first post-training eval tagged `test`, else its first post-training one."""
        own = [row for row in self.evals if row.step is None and row.model is None]
        return next((row for row in own if "test" in row.tags), own[0] if own else None)

    def eval(self, name: str, step: int | None = None) -> EvalResult | None:
        """The row of a benchmark.

        Args:
            name: the benchmark's name.
            step: None gives the post-training row, else the in-loop row with the largest step; an int gives exactly
                that step's row.

        Returns:
            None if there is no such row.
        """
        rows = [row for row in self.evals if row.name == name and row.model is None]
        if step is not None:
            return next((row for row in rows if row.step == step), None)
        after = next((row for row in rows if row.step is None), None)
        return after or max(rows, key=lambda row: row.step or 0, default=None)

    def score(self, metric: str) -> float | None:
        """The value of a metric: `bench.metric` reads that benchmark, a bare name the primary eval, then training.

        A known benchmark's name is matched first, so that names with dots work.
        """
        for name in sorted({row.name for row in self.evals}, key=len, reverse=True):
            if metric.startswith(f"{name}.") and (row := self.eval(name)) is not None:
                key = metric[len(name) + 1 :]
                if key in row.metrics:
                    return row.metrics[key]
        if metric in self.eval_metrics:
            return self.eval_metrics[metric]
        return self.metrics.get(metric)


@dataclass
class ExperimentResult:
    """What `Experiment.run` and `conclude` return."""

    name: str
    status: Literal["completed", "failed"]
    arms: list[ArmResult]
    best_arm: ArmResult | None
    best_score: float | None
    conclusion: str
    experiment_id: str | None = None
    hypothesis: str | None = None
    ranking: dict[str, Any] = field(default_factory=dict)
    """The verdict of evsys_hydra.ranking.rank."""
    stages: list[ArmResult] = field(default_factory=list)
    """The stages before the last of each chain; the last ones are arms."""
