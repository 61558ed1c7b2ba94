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
    whose = f"task {chosen[0]}" + (f" and {len(chosen) - 1} more" if len(chosen) > 1 else "")
    needs = f"{whose} have choices, which need log-likelihoods of given texts"
    problems = []
    if entry.num_samples > 1:
        problems.append(
            f"benchmark.num_samples={entry.num_samples}: {whose} have choices, which are not drawn: every sample would "
            "be the same. Set it to 1; tasks that generate can have a benchmark of their own"
        )
    if inference is not None and not getattr(inference, "scores_choices", True):
        problems.append(f"inference.kind={inference.kind} gives none, and {needs}: use inference=local or vllm")
    if models := list(dict.fromkeys([*([entry.model] if entry.model else []), *entry.models])):
        problems.append(
            f"benchmark.models: {', '.join(models)}: API models give none, and {needs}: leave them out here"
        )
    return problems
