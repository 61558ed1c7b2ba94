"""An experiment's page: everything its template shows, made from records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..results import direction_of
from ..store.protocol import Record
from .arms import FALLBACK, Arm, ArmQuery, ArmTable, arm_table, read_arms, sort_keys
from .curves import Chart, group_chart
from .evals import primary
from .forest import Forest, forest
from .heatmap import HeatMap, heat_maps
from .parallel import Parallel, parallel
from .records import Records
from .tidy import mapping, tidy_experiment
from .verdict import OVER, Headline, headline, provisional

CURVE_GROUPS = 8
CURVE_SEEDS = 4
CURVE_POINTS = 240
SHOWN_CURVES = 6
HEAT_GROUPS = 24
TELLING_LITTLE = ("lr", "tokens", "tokens_per_s", "epoch")


@dataclass(frozen=True)
class ExperimentPage:
    """What the page of an experiment shows.

    Attributes:
        paragraphs: the conclusion.
        counts: how many arms are in which state; `planned` how many there are to be.
        provisional: the forest plot shows scores so far, not a verdict.
        curves: (name, split) of the charts; `curve_groups` are drawn, of all groups.
    """

    record: Record
    headline: Headline
    paragraphs: list[str]
    metric: str | None
    minimize: bool
    counts: Mapping[str, int]
    planned: int
    ranking: Mapping[str, Any]
    provisional: bool
    forest: Forest | None
    table: ArmTable
    parallel: Parallel | None
    heat: list[HeatMap]
    curves: list[tuple[str, str]]
    curve_groups: Mapping[str, list[Arm]] = field(default_factory=dict)
    groups: int = 0

    @property
    def running(self) -> bool:
        """Whether the page will change by itself."""
        return str(self.record.get("status")) not in OVER

    @property
    def forest_note(self) -> str:
        """What the forest plot's bars are."""
        if self.provisional:
            why = "the experiment is running" if self.running else "no ranking was recorded"
            return f"Scores only, without intervals: {why}."
        level = 100 * (1 - float(self.ranking.get("alpha") or 0.05))
        return f"Bars are {level:.4g}% intervals of each group alone; blue groups may be the best, by paired tests."

    @property
    def interval_of(self) -> Mapping[str, Any]:
        """group -> its interval, where there is one."""
        rows = {**(self.ranking.get("arms") or {}), **(self.ranking.get("references") or {})}
        return {group: row.get("ci") for group, row in rows.items()}


def experiment_page(
    records: Records,
    record: Record,
    query: ArmQuery | None = None,
    *,
    groups: Mapping[str, str] | None = None,
    rows: int = 100,
) -> ExperimentPage:
    """The page of an experiment.

    Args:
        record: the experiment.
        query: which arms of the table, in which order.
        groups: group id -> name.
        rows: arms a page of the table.
    """
    record = tidy_experiment(record)
    metric, minimize, arms = _arms(records, record, groups or {})
    ranking, so_far = _ranking(record, arms, metric, minimize)
    order = list(ranking.get("ranking") or [])
    query = query or ArmQuery()
    query = query if query.sort in sort_keys(arms) else ArmQuery(state=query.state, text=query.text, page=query.page)
    table = arm_table(arms, order, query, minimize=minimize, page=rows)
    scored = [(arm.name, arm.swept, arm.score) for arm in arms if arm.role == "arm" and arm.score is not None]
    chosen = curve_groups(arms, order)
    return ExperimentPage(
        record=record,
        headline=headline(record),
        paragraphs=[text for text in (record["conclusion"] or "").split("\n\n") if text.strip()],
        metric=metric,
        minimize=minimize,
        counts=Counter(arm.state for arm in arms if arm.role == "arm"),
        planned=max(_planned(record), len(arms)),
        ranking=ranking,
        provisional=so_far,
        forest=forest(ranking),
        table=table,
        parallel=parallel(scored, list(table.columns), metric or "score", minimize=minimize),
        heat=_heat(records, arms, order, metric or ""),
        curves=_curve_names(records, chosen),
        curve_groups=chosen,
        groups=len({arm.group for arm in arms if arm.role == "arm"}),
    )


def curves_page(records: Records, record: Record, *, groups: Mapping[str, str] | None = None) -> dict[str, Chart]:
    """The charts of an experiment's page."""
    record = tidy_experiment(record)
    metric, minimize, arms = _arms(records, record, groups or {})
    ranking, _ = _ranking(record, arms, metric, minimize)
    chosen = curve_groups(arms, list(ranking.get("ranking") or []))
    return experiment_charts(records, chosen, _curve_names(records, chosen))


def experiment_charts(
    records: Records, groups: Mapping[str, Sequence[Arm]], names: Sequence[tuple[str, str]]
) -> dict[str, Chart]:
    """ "name/split" -> the chart of that curve, by group."""
    runs = [arm.id for arms in groups.values() for arm in arms]
    charts = {}
    for name, split in names:
        found = {curve.run: curve for curve in records.curves(runs, name, split, CURVE_POINTS)}
        by_group = {group: [found[arm.id] for arm in arms if arm.id in found] for group, arms in groups.items()}
        charts[f"{name}/{split}"] = group_chart(by_group)
    return charts


def curve_groups(arms: Sequence[Arm], order: Sequence[str]) -> dict[str, list[Arm]]:
    """The groups whose curves are drawn, best first: the first CURVE_GROUPS with CURVE_SEEDS arms each."""
    found: dict[str, list[Arm]] = {}
    for arm in arms:
        if arm.role == "arm":
            found.setdefault(arm.group, []).append(arm)
    known = dict.fromkeys([*(group for group in order if group in found), *found])
    return {group: found[group][:CURVE_SEEDS] for group in list(known)[:CURVE_GROUPS]}


def _planned(record: Record) -> int:
    planned = record["metadata"].get("n_arms")
    return planned if isinstance(planned, int) else 0


def _arms(records: Records, record: Record, groups: Mapping[str, str]) -> tuple[str | None, bool, list[Arm]]:
    """Success metric, whether less is better, and the arms."""
    runs = records.arms(record["id"])
    metric, minimize = _metric(records, record, runs)
    return metric, minimize, read_arms(records, runs, groups, metric)


def _metric(records: Records, record: Record, runs: Sequence[Record]) -> tuple[str | None, bool]:
    """The success metric, and whether less is better; for a client that names none: mean_reward if there is one."""
    metadata = record["metadata"]
    metric = metadata.get("success_metric") or record["ranking"].get("metric")
    if not metric:
        first = [run["id"] for run in runs if run.get("status") == "completed"][:1]
        rows = records.evals(first).get(first[0], []) if first else []
        metric = next((name for row in rows for name in FALLBACK if name in mapping(row.get("metrics"))), None)
    if not metric:
        return None, False
    return str(metric), direction_of(str(metric), metadata.get("direction")) == "minimize"


def _ranking(record: Record, arms: Sequence[Arm], metric: str | None, minimize: bool) -> tuple[Mapping[str, Any], bool]:
    if record["ranking"].get("arms") and record["status"] in OVER:
        return record["ranking"], False
    return provisional(arms, metric or "", minimize=minimize), True


def _heat(records: Records, arms: Sequence[Arm], order: Sequence[str], metric: str) -> list[HeatMap]:
    """Of the highest groups and the references, the breakdowns on the benchmark that the arms are judged by."""
    first = set(order[:HEAT_GROUPS])
    chosen = [arm for arm in arms if arm.group in first or arm.role != "arm"]
    evals = records.evals([arm.id for arm in chosen])
    places = {group: place for place, group in enumerate(order)}
    ordered = sorted(chosen, key=lambda arm: places.get(arm.group, len(places)))
    known = {str(row["benchmark"]) for rows in evals.values() for row in rows}
    named = next((name for name in sorted(known, key=len, reverse=True) if metric.startswith(f"{name}.")), None)
    judged_by = named or next((arm.primary for arm in ordered if arm.primary), None)
    found: dict[str, list[Mapping[str, Any]]] = {}
    for arm in ordered:
        row = primary(evals.get(arm.id, []), judged_by)
        if row is None or (judged_by is not None and row["benchmark"] != judged_by):
            continue
        if mapping(row.get("breakdowns")):
            found.setdefault(arm.group, []).append(row["breakdowns"])
    return heat_maps(found, metric, judged_by if len(known) > 1 else None)


def _curve_names(records: Records, groups: Mapping[str, Sequence[Arm]]) -> list[tuple[str, str]]:
    names = records.curve_names([arm.id for arms in groups.values() for arm in arms])
    return sorted(names, key=lambda key: ("loss" not in key[0], "reward" not in key[0], key[0] in TELLING_LITTLE))[
        :SHOWN_CURVES
    ]
