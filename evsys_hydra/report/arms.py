"""The arms of an experiment as rows: what was swept, how it ended, its score; sorted, filtered, in pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from ..store.protocol import Record
from ..sweep.naming import short_keys
from .evals import latest
from .records import Records
from .tidy import mapping

PAGE = 100
FALLBACK = ("mean_reward", "pass_rate")


@dataclass(slots=True)
class Arm:
    """One run as pages show it."""

    id: str
    name: str
    group: str
    seed: int | None
    state: str
    role: str
    cause: str | None
    error: str | None
    attempt: int | None
    seconds: float | None
    score: float | None
    swept: Mapping[str, Any]
    started: str | None = None
    """When the store heard of it (ISO 8601)."""
    primary: str | None = None
    """The benchmark that it is judged by."""
    eval_errors: Mapping[str, str] = field(default_factory=dict)
    """Evaluation -> why it could not be made."""

    @property
    def label(self) -> str:
        """The state, with the cause of a failure."""
        return f"{self.state}: {self.cause.replace('_', ' ')}" if self.cause and self.state == "failed" else self.state


@dataclass(frozen=True)
class ArmQuery:
    """How the table of arms is asked for: by query parameters, so that it works without JavaScript."""

    sort: str = "rank"
    descending: bool = False
    state: str | None = None
    text: str | None = None
    page: int = 1


@dataclass(frozen=True)
class ArmTable:
    """A page of the arms; `columns` maps each swept key to its short name."""

    columns: Mapping[str, str]
    rows: Sequence[Arm]
    references: Sequence[Arm]
    total: int
    page: int
    pages: int
    query: ArmQuery = field(default_factory=ArmQuery)


def read_arms(records: Records, runs: Sequence[Record], groups: Mapping[str, str], metric: str | None) -> list[Arm]:
    """The arms of runs.

    Args:
        groups: group id -> name, for runs of clients that name no group.
        metric: the success metric; runs without a score of their own are given that of their last evaluation.
    """
    unscored = [run["id"] for run in runs if mapping(run.get("summary")).get("score") is None and _ended(run)]
    scores = _scores(records.evals(unscored), metric) if unscored and metric else {}
    return [_arm(run, groups, scores.get(run["id"])) for run in runs]


def arm_table(
    arms: Sequence[Arm], order: Sequence[str], query: ArmQuery, *, minimize: bool, page: int = PAGE
) -> ArmTable:
    """The page of the arms that a query asks for.

    Args:
        order: groups from best to worst.
        page: rows a page.
    """
    own = [arm for arm in arms if arm.role == "arm"]
    keys = short_keys(sorted({key for arm in own for key in arm.swept}))
    wanted = (query.text or "").lower()
    found = [arm for arm in own if query.state in (None, arm.state) and wanted in arm.name.lower()]
    found = _sorted(found, order, query, minimize)
    pages = max(1, -(-len(found) // page))
    at = min(max(query.page, 1), pages)
    return ArmTable(
        columns=keys,
        rows=found[(at - 1) * page : at * page],
        references=[arm for arm in arms if arm.role != "arm"],
        total=len(found),
        page=at,
        pages=pages,
        query=query,
    )


def sort_keys(arms: Sequence[Arm]) -> set[str]:
    """What the table can be sorted by."""
    return {"rank", "name", "state", "attempt", "seconds", "score", *(key for arm in arms for key in arm.swept)}


def _sorted(arms: list[Arm], order: Sequence[str], query: ArmQuery, minimize: bool) -> list[Arm]:
    sign = 1.0 if minimize else -1.0
    places = {group: place for place, group in enumerate(order)}

    def by_rank(arm: Arm) -> tuple[Any, ...]:
        score = sign * arm.score if arm.score is not None else float("inf")
        return (places.get(arm.group, len(places)), arm.score is None, score if arm.group not in places else 0)

    ranked = sorted(arms, key=lambda arm: (*by_rank(arm), arm.group, str(arm.seed), arm.name))
    if query.sort == "rank":
        return ranked[::-1] if query.descending else ranked
    there = [arm for arm in ranked if _value(arm, query.sort) is not None]
    lost = [arm for arm in ranked if _value(arm, query.sort) is None]
    return sorted(there, key=lambda arm: _comparable(_value(arm, query.sort)), reverse=query.descending) + lost


def _value(arm: Arm, key: str) -> Any:
    return getattr(arm, key) if key in ("name", "state", "attempt", "seconds", "score") else arm.swept.get(key)


def _comparable(value: Any) -> tuple[int, float, str]:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, float(value), "") if numeric else (1, 0.0, str(value))


def _arm(run: Record, groups: Mapping[str, str], score: float | None) -> Arm:
    summary = mapping(run.get("summary"))
    started, ended = summary.get("started"), summary.get("ended")
    name = str(run.get("name") or run["id"][:8])
    return Arm(
        id=run["id"],
        name=name,
        group=str(run.get("group") or groups.get(run.get("group_id") or "") or name),
        seed=run.get("seed"),
        state=str(run.get("status") or "pending"),
        role=str(run.get("role") or "arm"),
        cause=str(summary["cause"]) if summary.get("cause") else None,
        error=str(run.get("error_message") or "") or None,
        attempt=summary["attempt"] if _number(summary.get("attempt")) else None,
        seconds=ended - started if _number(started) and _number(ended) else None,
        score=summary["score"] if _number(summary.get("score")) else score,
        swept=mapping(run.get("swept")),
        started=run.get("created_at"),
        primary=str(summary["primary"]) if summary.get("primary") else None,
        eval_errors={str(name): str(text) for name, text in mapping(summary.get("eval_errors")).items()},
    )


def _scores(evals: Mapping[str, Sequence[Record]], metric: str) -> dict[str, float]:
    """run -> its metric by the records alone: of the latest evaluations after training the first that has it."""
    found: dict[str, float] = {}
    for run, rows in evals.items():
        for row in latest(rows):
            metrics, prefix = mapping(row.get("metrics")), f"{row.get('benchmark')}."
            value = metrics.get(metric.removeprefix(prefix))
            if row.get("step") is None and _number(value):
                found.setdefault(run, float(value))
    return found


def _ended(run: Record) -> bool:
    return run.get("status") == "completed"


def _number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float)  # ten thousand arms: faster than isinstance, and no bool
