"""What each stage of a chain scored on each benchmark, and what a later stage forgot of it.

Forgetting is the best score of the stages before the last, minus the last one's (Chaudhry et al. 2018, Riemannian walk
for incremental learning, eq. 3); for a metric that is minimized, the other way round. Shown, never ranked.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from ..record import ArmView, ExperimentRecord
from ..results import ArmResult, direction_of


def chain_facts(
    record: ExperimentRecord, views: Sequence[ArmView], results: Sequence[ArmResult]
) -> list[dict[str, Any]]:
    """For each chain's group: {group, metric, stages, scores, forgetting}.

    scores: benchmark -> one mean over the seeds for each stage, None where no seed has completed it.
    forgetting: benchmark -> its loss from the best earlier stage to the last; negative: the last is better.
    """
    metadata = record.facts.get("metadata") or {}
    metric = metadata.get("success_metric")
    last = {view.facts["stage"]["of"]: view for view in views if view.facts.get("stage") and view.role == "arm"}
    if not metric or not last:
        return []
    groups: dict[str, dict[str, list[ArmResult]]] = {}
    for view, result in zip(views, results, strict=True):
        chain = last.get((view.facts.get("stage") or {}).get("of", ""))
        if chain is not None:
            stages = groups.setdefault(chain.group, {})
            stages.setdefault(view.facts["stage"]["label"], []).append(result)
    sign = -1.0 if direction_of(metric, metadata.get("direction")) == "minimize" else 1.0
    return [_facts(group, metric, stages, sign) for group, stages in groups.items()]


def chains_text(chains: Sequence[dict[str, Any]]) -> str:
    """The facts as a section of conclusion.md; "" without chains."""
    if not chains:
        return ""
    lines = ["", "## Stages", ""]
    for chain in chains:
        head = [f"{chain['group']} ({chain['metric']})", *chain["stages"], "forgetting"]
        lines += [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
        for benchmark, scores in chain["scores"].items():
            cells = [*scores, chain["forgetting"].get(benchmark)]
            lines.append(f"| {benchmark} | {' | '.join(_cell(value) for value in cells)} |")
        lines.append("")
    note = "Means over seeds. Forgetting: the best score before the last stage minus the last stage's."
    return "\n".join([*lines, note, ""])


def _facts(group: str, metric: str, stages: dict[str, list[ArmResult]], sign: float) -> dict[str, Any]:
    arms = [arm for found in stages.values() for arm in found]
    benchmarks = dict.fromkeys(row.name for arm in arms for row in arm.evals if row.step is None and row.model is None)
    scores: dict[str, list[float | None]] = {}
    for benchmark in benchmarks:
        name = metric.removeprefix(f"{benchmark}.") if metric.startswith(f"{benchmark}.") else metric.rsplit(".", 1)[-1]
        scores[benchmark] = [_mean(found, benchmark, name) for found in stages.values()]
    if not benchmarks:
        scores[metric] = [_mean(found, None, metric) for found in stages.values()]
    forgetting: dict[str, float] = {}
    for benchmark, (*earlier, end) in scores.items():
        known = [sign * score for score in earlier if score is not None]
        if known and end is not None:
            forgetting[benchmark] = max(known) - sign * end
    return {"group": group, "metric": metric, "stages": list(stages), "scores": scores, "forgetting": forgetting}


def _mean(arms: Sequence[ArmResult], benchmark: str | None, metric: str) -> float | None:
    found = []
    for arm in arms:
        row = arm.eval(benchmark) if benchmark is not None else None
        values = arm.metrics if benchmark is None else row.metrics if row is not None else {}
        if arm.status == "completed" and metric in values:
            found.append(values[metric])
    return fmean(found) if found else None


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
