"""rank: from a table of scores to a verdict that holds up."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .analysis import Analysis
from .best_set import find_best_set, ranking_order
from .comparisons import NOT_TESTED, call_hypothesis, compare_with, signed_interval, versus_baseline
from .distributions import Floats
from .intervals import group_interval, standard_error
from .pairs import PairTests
from .power import POWER, Resolution, resolution
from .reading import Index
from .scores import Collected, collect
from .selection import Noise, corrected_best
from .table import Table, read_table


def rank(table: Mapping[str, object]) -> dict[str, object]:
    """Rank the groups of a table and say what may be claimed. Plain JSON in and out; see docs/ranking.md.

    Args:
        table: metric, arms, clusters, baseline, hypothesis, min_effect, alpha, rng_seed.

    Returns:
        The verdict: finite numbers, strings, lists and nulls only; the same for any order of arms and tasks.

    Raises:
        TableError: for a malformed table, naming every arm, field and value at fault.
    """
    checked = read_table(table)
    collected = collect(checked)
    verdict = _frame(checked, collected)
    if collected.scores is None or not collected.ranked:
        verdict["references"] = _references(checked, collected, None)
        return verdict
    analysis = Analysis(collected.scores.only(collected.ranked), checked.alpha, checked.rng_seed)
    verdict.update(_ranking(checked, analysis))
    wider = _with_references(checked, collected, analysis)
    verdict["references"] = _references(checked, collected, analysis)
    verdict["vs_baseline"] = _vs_baseline(checked, collected, wider)
    verdict["hypothesis"] = _hypothesis(checked, collected, wider)
    return verdict


def _frame(table: Table, collected: Collected) -> dict[str, object]:
    """The verdict of a table with nothing to rank, and what every verdict repeats of its table."""
    return {
        "verdict": "no_inference",
        "winner": None,
        "best_set": [],
        "equivalent": False,
        "scope": "none",
        "ranking": [],
        "arms": {},
        "best_score_corrected": None,
        "differences": {},
        "vs_baseline": {},
        "hypothesis": _not_tested(table, "no ranked group" if table.hypothesis else "no pair of groups was named"),
        "mde": None,
        "tasks_needed": None,
        "seeds_needed": None,
        "references": {},
        "unranked": [
            {"arm": arm.arm, "group": arm.group, "reason": arm.reason, "tasks_scored": arm.scored}
            for arm in collected.unranked
        ],
        "missing": {},
        "n_tasks": collected.n_tasks,
        "n_common_tasks": 0,
        "n_units": 0,
        "clustered": table.clusters is not None and table.metric.kind == "per_task",
        "metric": table.metric.name,
        "direction": table.metric.direction,
        "kind": table.metric.kind,
        "baseline": table.baseline,
        "min_effect": table.min_effect,
        "alpha": table.alpha,
        "power": POWER,
        "reason": _nothing_to_rank(collected),
        "notes": [],
    }


def _nothing_to_rank(collected: Collected) -> str:
    if any(arm.reason == "incomplete" for arm in collected.unranked):
        return "every arm with scores lacks more than a fifth of the tasks"
    return "no arm has a score" if collected.scores is None else "no ranked group has a score"


def _ranking(table: Table, analysis: Analysis) -> dict[str, object]:
    sign, groups, main = table.metric.sign, analysis.groups, analysis.main
    order = ranking_order(analysis)
    best = int(order[0])
    rng = np.random.default_rng(table.rng_seed)
    names = [groups[k] for k in order]
    differences = compare_with(analysis, names[0], names[1:], sign)
    p_to_best = _p_to_best(differences, groups)
    best_set = [groups[k] for k in find_best_set(analysis, order, p_to_best, Noise(main.covariance, rng).draw)]
    kind = _verdict(analysis, best_set)
    if kind == "single_arm" and _all_lost_to(groups[0], table):
        kind = "winner"
    corrected = corrected_best(main, best, rng) if kind != "no_inference" else None
    found = Resolution(None, None, None)
    if analysis.can_infer and len(order) > 1:
        found = resolution(PairTests(main, table.rng_seed), best, int(order[1]), table.alpha)
    scalar = main.scalar
    return {
        "verdict": kind,
        "winner": names[0] if kind == "winner" else None,
        "best_set": best_set,
        "equivalent": kind != "no_inference" and _equivalent(analysis, best_set, table.min_effect),
        "scope": "none" if kind == "no_inference" else "recipe" if main.seeds.replicated else "checkpoint",
        "ranking": names,
        "arms": {groups[k]: _estimate(analysis, int(k), sign) for k in order},
        "best_score_corrected": None if corrected is None else sign * corrected,
        "differences": differences,
        "mde": found.mde,
        "tasks_needed": found.tasks_needed if kind != "winner" else None,
        "seeds_needed": found.seeds_needed if kind != "winner" else None,
        "missing": _missing(analysis),
        "n_common_tasks": 0 if scalar else int(analysis.readings[0].x.shape[1]),
        "n_units": 0 if scalar else analysis.readings[0].task.n_units,
        "reason": _reason(analysis) if kind == "no_inference" else None,
        "notes": _notes(analysis),
    }


def _p_to_best(differences: dict[str, dict[str, object]], groups: tuple[str, ...]) -> Floats:
    p = [differences[group]["p_eff"] if group in differences else None for group in groups]
    return np.array([1.0 if value is None else value for value in p], dtype=float)


def _verdict(analysis: Analysis, best_set: list[str]) -> str:
    if len(analysis.groups) == 1:
        return "single_arm"
    if not analysis.can_infer:
        return "no_inference"
    if len(best_set) == 1:
        return "winner"
    return "tie_at_top" if len(best_set) < len(analysis.groups) else "inconclusive"


def _all_lost_to(last: str, table: Table) -> bool:
    """Whether groups were stopped early, each shown to be worse than the last one or than another of them."""
    lost_to = {arm.group: arm.lost_to for arm in table.arms if arm.lost_to is not None}
    return bool(lost_to) and set(lost_to.values()) <= {last, *lost_to}


def _estimate(analysis: Analysis, k: int, sign: float) -> dict[str, object]:
    """Estimate, standard error and interval (the envelope of both readings) of one group, and its number of seeds."""
    error = standard_error(analysis.main, k)
    ends = [ends for reading in analysis.readings if (ends := group_interval(reading, k, analysis.alpha)) is not None]
    envelope: list[float] | None = None
    if ends and error is not None:
        envelope = signed_interval(min(low for low, _ in ends), max(high for _, high in ends), sign)
    return {
        "estimate": sign * float(analysis.main.means[k]),
        "se": error,
        "ci": envelope,
        "n_seeds": int(analysis.main.seeds.counts[k]),
    }


def _equivalent(analysis: Analysis, best_set: list[str], min_effect: float | None) -> bool:
    """Whether every difference within the best set lies inside +-min_effect with its whole interval."""
    if min_effect is None or len(best_set) < 2:
        return False
    members = np.array([analysis.groups.index(group) for group in best_set], dtype=np.intp)
    for position, j in enumerate(members[:-1]):
        rest: Index = members[position + 1 :]
        low, high = analysis.interval(rest, np.full(len(rest), j, dtype=np.intp))
        if low.min() < -min_effect or high.max() > min_effect:
            return False
    return True


def _missing(analysis: Analysis) -> dict[str, int]:
    counts = np.bincount(analysis.scores.run_group, analysis.missing.sum(axis=1), minlength=len(analysis.groups))
    return {group: int(count) for group, count in zip(analysis.groups, counts, strict=True)}


def _reason(analysis: Analysis) -> str:
    reading = analysis.readings[0]
    if reading.scalar:
        return "too few replicate runs: the spread between seeds is unknown"
    if reading.x.shape[1] == 0:
        return "no task has a score from every ranked run"
    unit = "clusters" if reading.clustered else "tasks"
    return f"only {reading.task.n_units} independent {unit} with scores from every ranked run; at least 6 are needed"


def _notes(analysis: Analysis) -> list[str]:
    notes = []
    single = [group for group, one in zip(analysis.groups, analysis.main.seeds.pooled_single, strict=True) if one]
    if single:
        notes.append(f"one seed only, seed variance borrowed from the other groups: {', '.join(single)}")
    if analysis.missing.any():
        if analysis.scores.bounds is None:
            notes.append("the metric has no bounds: a missing score counts as the worst score seen")
        if analysis.readings[0].x.shape[1] == 0:
            notes.append("no common task: estimates count every missing score as the worst reward")
    return notes


def _with_references(table: Table, collected: Collected, analysis: Analysis) -> Analysis:
    """The analysis with the references that the baseline or the hypothesis names."""
    named = {table.baseline, *(table.hypothesis or ())}
    references = [group for group in collected.references if group in named]
    if not references or collected.scores is None:
        return analysis
    return Analysis(collected.scores.only(collected.ranked + references), table.alpha, table.rng_seed)


def _references(table: Table, collected: Collected, ranked: Analysis | None) -> dict[str, object]:
    found: dict[str, object] = {}
    for group in collected.references:
        if collected.scores is None:
            break
        groups = [group] if ranked is None else [*ranked.groups, group]
        analysis = Analysis(collected.scores.only(groups), table.alpha, table.rng_seed)
        found[group] = _estimate(analysis, analysis.groups.index(group), table.metric.sign)
    return found


def _vs_baseline(table: Table, collected: Collected, wider: Analysis) -> dict[str, dict[str, object]]:
    if table.baseline is None or table.baseline not in wider.groups:
        return {}
    return versus_baseline(wider, table.baseline, collected.ranked, table.metric.sign)


def _hypothesis(table: Table, collected: Collected, wider: Analysis) -> dict[str, object]:
    if table.hypothesis is None:
        return _not_tested(table, "no pair of groups was named")
    lost = [group for group in table.hypothesis if group not in wider.groups]
    if lost:
        return _not_tested(table, f"not ranked: {', '.join(lost)}")
    return call_hypothesis(wider, *table.hypothesis, table.metric.sign)


def _not_tested(table: Table, reason: str) -> dict[str, object]:
    better, than = table.hypothesis or (None, None)
    return {"better": better, "than": than, "diff": None, "ci": None, "p": None, "call": NOT_TESTED, "reason": reason}
