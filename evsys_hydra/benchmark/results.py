"""What scoring a benchmark gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PredictionRow = dict[str, Any]
"""kind "eval", task_id, sample_idx, instruction, expected, reward, output, error, metadata."""


@dataclass
class BenchmarkScore:
    """One benchmark scored for one client.

    Args:
        metrics: mean_reward, pass_rate (absent if nothing was scored), n_tasks, n_errors and the wished ones.
        breakdowns: dotted key -> value -> {n, mean_reward, pass_rate and their standard errors}.
        predictions: one row a sample, in the order of tasks and samples.
        benchmark_hash: sha256 of the tasks.
        eval_seconds: wall time of this call; samples found in the file took none of it.
        resumed: how many samples were found in the file.
        error: why it could not be scored completely; None: it was.
        facts: what the client says about itself (dtype, device, batch size, ...).
    """

    name: str
    metrics: dict[str, float] = field(default_factory=dict)
    breakdowns: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    predictions: list[PredictionRow] = field(default_factory=list)
    benchmark_hash: str = ""
    eval_seconds: float = 0.0
    resumed: int = 0
    error: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def per_task(self) -> dict[str, list[float | None]]:
        """task_id -> rewards in sample order; None: an errored prediction."""
        rewards: dict[str, list[float | None]] = {}
        for row in self.predictions:
            rewards.setdefault(row["task_id"], []).append(row["reward"])
        return rewards
