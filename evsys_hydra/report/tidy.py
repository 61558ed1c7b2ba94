"""Records as pages can rely on them: any client may write any JSON into a record's free fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from ..store.protocol import Record


class Estimate(BaseModel):
    """A group's estimate and interval."""

    estimate: float
    ci: tuple[float, float] | None = None
    n_seeds: int = 1


class Difference(BaseModel):
    """A group's difference to the highest."""

    diff: float | None = None
    p_eff: float | None = None


class Ranking(BaseModel):
    """What pages use of a verdict, as store/sync/fields.py sends it."""

    verdict: str
    winner: str | None = None
    best_arm: str | None = None
    best_set: list[str] = []
    n_best: int | None = None
    n_groups: int | None = None
    ranking: list[str] = []
    arms: dict[str, Estimate] = {}
    references: dict[str, Estimate] = {}
    differences: dict[str, Difference] = {}
    baseline: str | None = None
    metric: str | None = None
    n_common_tasks: int = 0
    alpha: float = 0.05


def tidy_experiment(record: Record) -> Record:
    """An experiment with its free fields in their proper shape; what has another shape is left out."""
    kept = {**record, "metadata": mapping(record.get("metadata")), "ranking": _ranking(record.get("ranking"))}
    for key in ("name", "hypothesis", "conclusion", "status", "error_message"):
        kept[key] = None if record.get(key) is None else str(record[key])
    tags = record.get("tags")
    kept["tags"] = [str(tag) for tag in tags] if isinstance(tags, list) else []
    return kept


def tidy_run(run: Record) -> Record:
    """A run with its free fields in their proper shape."""
    free = {key: mapping(run.get(key)) for key in ("summary", "swept", "run_config")}
    if not isinstance(free["summary"].get("log"), list):
        free["summary"] = {key: value for key, value in free["summary"].items() if key != "log"}
    return {**run, **free, "error_message": str(run.get("error_message") or "")}


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _ranking(value: Any) -> dict[str, Any]:
    try:
        return Ranking.model_validate(value).model_dump()
    except ValidationError:
        return {}
