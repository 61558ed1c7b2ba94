"""The list of experiments: filtered, sorted, in pages."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..report.tidy import tidy_experiment
from ..report.verdict import OVER, Headline, headline
from ..store.protocol import Record

PAGE = 50
SORTS = ("created", "name", "status", "best")


@dataclass(frozen=True)
class ListQuery:
    """Which experiments, in which order."""

    text: str | None = None
    status: str | None = None
    sort: str = "created"
    descending: bool = True
    page: int = 1


@dataclass(frozen=True)
class Listed:
    """One experiment in the list."""

    id: str
    name: str
    hypothesis: str | None
    tags: Sequence[str]
    status: str
    headline: Headline
    best: float | None
    best_name: str | None
    metric: str | None
    created: float | None


@dataclass(frozen=True)
class ListPage:
    """A page of the list."""

    rows: Sequence[Listed]
    total: int
    page: int
    pages: int
    running: bool
    query: ListQuery


def list_page(records: Sequence[Record], query: ListQuery) -> ListPage:
    """The page that a query asks for."""
    found = [_listed(record) for record in map(tidy_experiment, records) if _wanted(record, query)]
    found = _sorted(found, query)
    pages = max(1, -(-len(found) // PAGE))
    at = min(max(query.page, 1), pages)
    rows = found[(at - 1) * PAGE : at * PAGE]
    return ListPage(rows, len(found), at, pages, any(row.status not in OVER for row in rows), query)


def _wanted(record: Record, query: ListQuery) -> bool:
    if query.status and record.get("status") != query.status:
        return False
    texts = [record["name"], record["hypothesis"], *record["tags"]]
    return (query.text or "").lower() in " ".join(text for text in texts if text).lower()


def _sorted(found: list[Listed], query: ListQuery) -> list[Listed]:
    def key(row: Listed) -> Any:
        if query.sort == "best":
            return row.best
        return {"name": row.name.lower(), "status": row.headline.label, "created": row.created}[query.sort]

    there = [row for row in found if key(row) is not None]
    return sorted(there, key=key, reverse=query.descending) + [row for row in found if key(row) is None]


def _created(*given: Any) -> float | None:
    """Seconds since 1970 of the first of these that is a time: the experiment's own comes before the store's."""
    for value in given:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        with contextlib.suppress(ValueError, TypeError):
            at = datetime.fromisoformat(value)
            return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    return None


def _listed(record: Record) -> Listed:
    metadata, ranking, best = record["metadata"], record["ranking"], record.get("best_score")
    first = ranking.get("best_set") or [None]
    return Listed(
        id=record["id"],
        name=record["name"] or "unnamed",
        hypothesis=record["hypothesis"],
        tags=record["tags"],
        status=str(record.get("status")),
        headline=headline(record),
        best=best if isinstance(best, int | float) and not isinstance(best, bool) else None,
        best_name=ranking.get("winner") or ranking.get("best_arm") or first[0],
        metric=metadata.get("success_metric") or ranking.get("metric"),
        created=_created(metadata.get("created"), record.get("created_at")),
    )
