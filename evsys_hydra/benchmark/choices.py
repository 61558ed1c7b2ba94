"""What tasks with choices cannot be combined with, said before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import BenchmarkConfig, KindConfig
from .task import Task


def choice_problems(tasks: Sequence[Task], entry: BenchmarkConfig, inference: KindConfig | None = None) -> list[str]:
    """Why tasks with choices cannot be scored so: one line a reason; empty: they can, or there are none.

    Args:
        inference: what will answer; None: not known.
    """
    chosen = [task.task_id for task in tasks if task.choices is not None]
    if not chosen:
        return []
    whose = f"tasks with choices ({chosen[0]}" + (f" and {len(chosen) - 1} more)" if len(chosen) > 1 else ")")
    need = f"{whose} need log-likelihoods of given texts, which"
    problems = []
    if entry.num_samples > 1:
        problems.append(
            f"benchmark.num_samples={entry.num_samples}: {whose} are not drawn, every sample would be the same; "
            "set it to 1, and give tasks that generate a benchmark of their own"
        )
    if inference is not None and not getattr(inference, "scores_choices", True):
        problems.append(f"inference.kind={inference.kind}: {need} it does not give; use inference=local or vllm")
    if models := list(dict.fromkeys([*([entry.model] if entry.model else []), *entry.models])):
        problems.append(f"benchmark.models: {need} API models ({', '.join(models)}) do not give; leave them out here")
    return problems
