"""The table that is ranked: arms, their scores, and how they are compared.

`read_table` turns plain JSON into a `Table`, or raises one `TableError` that names every problem it found: the arm, the
field, the value and what would be valid. A missing score is an absent task id, never a NaN or a null.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .folding import ScoreProblem, read_scores

DIRECTIONS = ("maximize", "minimize")
KINDS = ("per_task", "scalar")
STATUSES = ("ok", "failed")
TABLE_FIELDS = ("metric", "arms", "clusters", "baseline", "hypothesis", "min_effect", "alpha", "rng_seed")
METRIC_FIELDS = ("name", "direction", "kind", "bounds", "pass_at_k")
ARM_FIELDS = ("name", "group", "seed", "status", "ranked", "lost_to", "per_task", "scalar")


class TableError(ValueError):
    """A table that cannot be ranked; its text lists every problem, one a line."""


@dataclass(frozen=True)
class Metric:
    """What is measured. `bounds` are the smallest and largest possible reward; `pass_at_k` folds samples to pass@k."""

    name: str
    direction: str
    kind: str
    bounds: tuple[float, float] | None
    pass_at_k: int | None

    @property
    def sign(self) -> float:
        """1 to maximize, -1 to minimize: sign * reward is always better when larger."""
        return 1.0 if self.direction == "maximize" else -1.0


@dataclass(frozen=True)
class Arm:
    """One run. `scores` maps task id to folded reward; `ranked=False` marks a reference that can never win;
    `lost_to` is the group that this one's was shown to be worse than before all tasks were scored."""

    name: str
    group: str
    seed: int | str | None
    status: str
    ranked: bool
    lost_to: str | None
    scores: Mapping[str, float]
    scalar: float | None


@dataclass(frozen=True)
class Table:
    """A validated table; arms are sorted by group, seed and name, so that their order never matters."""

    metric: Metric
    arms: tuple[Arm, ...]
    clusters: Mapping[str, str] | None
    baseline: str | None
    hypothesis: tuple[str, str] | None
    min_effect: float | None
    alpha: float
    rng_seed: int


def read_table(raw: object) -> Table:
    """Validate a table (plain JSON, see docs/ranking.md).

    Raises:
        TableError: naming every malformed field at once.
    """
    problems: list[str] = []
    if not isinstance(raw, Mapping):
        raise TableError(f"the table is {_show(raw)}; it must be a mapping with the fields {', '.join(TABLE_FIELDS)}")
    _unknown_fields(raw, TABLE_FIELDS, "table", problems)
    metric = _metric(raw.get("metric"), problems)
    arms = _arms(raw.get("arms"), metric, problems)
    table = Table(
        metric=metric,
        arms=tuple(sorted(arms, key=lambda arm: (arm.group, str(arm.seed), arm.name))),
        clusters=_clusters(raw.get("clusters"), arms, problems),
        baseline=_group(raw.get("baseline"), "baseline", arms, problems),
        hypothesis=_hypothesis(raw.get("hypothesis"), arms, problems),
        min_effect=_min_effect(raw.get("min_effect"), problems),
        alpha=_alpha(raw.get("alpha", 0.05), problems),
        rng_seed=_rng_seed(raw.get("rng_seed", 0), problems),
    )
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise TableError(f"{count} in the table:\n" + "\n".join(f"- {problem}" for problem in problems))
    return table


def _metric(raw: object, problems: list[str]) -> Metric:
    fallback = Metric("metric", "maximize", "per_task", None, None)
    if not isinstance(raw, Mapping):
        problems.append(f"metric is {_show(raw)}; it must be a mapping with name, direction, kind and bounds")
        return fallback
    _unknown_fields(raw, METRIC_FIELDS, "metric", problems)
    name, pass_at_k = raw.get("name"), raw.get("pass_at_k")
    if not isinstance(name, str) or not name:
        problems.append(f"metric.name is {_show(name)}; it must be a non-empty string")
    direction = _choice(raw.get("direction"), DIRECTIONS, "metric.direction", problems)
    kind = _choice(raw.get("kind"), KINDS, "metric.kind", problems)
    bounds = _bounds(raw.get("bounds"), problems)
    if pass_at_k is not None and (not _is_int(pass_at_k) or pass_at_k < 1):
        problems.append(f"metric.pass_at_k is {_show(pass_at_k)}; it must be a whole number from 1, or null")
        pass_at_k = None
    if pass_at_k is not None and (kind != "per_task" or direction != "maximize"):
        problems.append(f"metric.pass_at_k is {pass_at_k}; it needs kind 'per_task' and direction 'maximize'")
    return Metric(str(name), direction, kind, bounds, pass_at_k)


def _bounds(raw: object, problems: list[str]) -> tuple[float, float] | None:
    if raw is None:
        return None
    if isinstance(raw, (list, tuple)) and len(raw) == 2 and all(_is_number(end) for end in raw) and raw[0] < raw[1]:
        return float(raw[0]), float(raw[1])
    problems.append(f"metric.bounds is {_show(raw)}; it must be [lowest, highest] with two finite numbers, or null")
    return None


def _arms(raw: object, metric: Metric, problems: list[str]) -> list[Arm]:
    if not isinstance(raw, (list, tuple)) or not raw:
        problems.append(f"arms is {_show(raw)}; it must be a list with at least one arm")
        return []
    arms = [arm for index, entry in enumerate(raw) if (arm := _arm(entry, index, metric, problems)) is not None]
    _duplicates(arms, lambda arm: f"arm name {arm.name!r}", problems)
    _duplicates(arms, lambda arm: f"group {arm.group!r} with seed {arm.seed!r}", problems)
    ranked: dict[str, bool] = {}
    for arm in arms:
        if ranked.setdefault(arm.group, arm.ranked) != arm.ranked:
            problems.append(f"arm {arm.name!r}: ranked is {arm.ranked} but another arm of group {arm.group!r} differs")
    return arms


def _arm(raw: object, index: int, metric: Metric, problems: list[str]) -> Arm | None:
    if not isinstance(raw, Mapping):
        problems.append(f"arms[{index}] is {_show(raw)}; it must be a mapping with {', '.join(ARM_FIELDS)}")
        return None
    name = raw.get("name")
    label = f"arm {name!r}" if isinstance(name, str) and name else f"arms[{index}]"
    _unknown_fields(raw, ARM_FIELDS, label, problems)
    for field in ("name", "group"):
        if not isinstance(raw.get(field), str) or not raw.get(field):
            problems.append(f"{label}: {field} is {_show(raw.get(field))}; it must be a non-empty string")
    seed, ranked = raw.get("seed"), raw.get("ranked", True)
    if seed is not None and not _is_int(seed) and not isinstance(seed, str):
        problems.append(f"{label}: seed is {_show(seed)}; it must be a whole number, a string or null")
        seed = str(seed)
    if not isinstance(ranked, bool):
        problems.append(f"{label}: ranked is {_show(ranked)}; it must be true or false")
    lost_to = raw.get("lost_to")
    if lost_to is not None and (not isinstance(lost_to, str) or lost_to == raw.get("group")):
        problems.append(f"{label}: lost_to is {_show(lost_to)}; it must be the name of another group, or null")
    status = _choice(raw.get("status", "ok"), STATUSES, f"{label}: status", problems)
    ok = status == "ok"
    scores = _per_task(raw.get("per_task"), metric, label, problems) if ok else {}
    scalar = _scalar(raw.get("scalar"), metric, label, problems) if ok else None
    return Arm(
        str(name),
        str(raw.get("group")),
        seed,
        status,
        ranked is not False,
        lost_to if isinstance(lost_to, str) else None,
        scores,
        scalar,
    )


def _per_task(raw: object, metric: Metric, label: str, problems: list[str]) -> Mapping[str, float]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        problems.append(f"{label}: per_task is {_show(raw)}; it must map task ids to rewards, or be null")
        return {}
    if raw and metric.kind == "scalar":
        problems.append(f"{label}: per_task has {len(raw)} tasks but metric.kind is 'scalar'; it must be null")
        return {}
    try:
        return read_scores(raw, metric.bounds, metric.pass_at_k)
    except ScoreProblem as error:
        problems.extend(f"{label}: {line}" for line in str(error).splitlines())
        return {}


def _scalar(raw: object, metric: Metric, label: str, problems: list[str]) -> float | None:
    if raw is None:
        return None
    if not _is_number(raw):
        problems.append(f"{label}: scalar is {_show(raw)}; it must be a finite number or null")
        return None
    value = float(raw)  # type: ignore[arg-type]
    if metric.kind == "scalar" and metric.bounds and not metric.bounds[0] <= value <= metric.bounds[1]:
        problems.append(f"{label}: scalar is {value}; it must lie within the metric's bounds {list(metric.bounds)}")
    return value


def _clusters(raw: object, arms: list[Arm], problems: list[str]) -> Mapping[str, str] | None:
    if raw is None:
        return None
    if not isinstance(raw, Mapping):
        problems.append(f"clusters is {_show(raw)}; it must map task ids to cluster names, or be null")
        return None
    for task, cluster in raw.items():
        if not isinstance(cluster, (str, int)):
            problems.append(f"clusters[{task!r}] is {_show(cluster)}; it must be a string or a whole number")
    for arm in arms:
        lost = sorted(task for task in arm.scores if task not in raw)
        if lost:
            problems.append(f"arm {arm.name!r}: clusters has no entry for task {lost[0]!r}" + _and_more(len(lost) - 1))
    return {str(task): str(cluster) for task, cluster in raw.items()}


def _group(raw: object, field: str, arms: list[Arm], problems: list[str]) -> str | None:
    if raw is None:
        return None
    known = sorted({arm.group for arm in arms})
    if isinstance(raw, str) and raw in known:
        return raw
    problems.append(f"{field} is {_show(raw)}; it must be one of the groups {known}, or null")
    return None


def _hypothesis(raw: object, arms: list[Arm], problems: list[str]) -> tuple[str, str] | None:
    if raw is None:
        return None
    if not isinstance(raw, Mapping) or set(raw) != {"better", "than"}:
        problems.append(f"hypothesis is {_show(raw)}; it must be {{'better': group, 'than': group}} or null")
        return None
    better = _group(raw["better"], "hypothesis.better", arms, problems)
    than = _group(raw["than"], "hypothesis.than", arms, problems)
    if better is not None and better == than:
        problems.append(f"hypothesis compares group {better!r} with itself; 'better' and 'than' must differ")
    return None if better is None or than is None else (better, than)


def _min_effect(raw: object, problems: list[str]) -> float | None:
    if raw is None:
        return None
    if _is_number(raw) and raw >= 0:  # type: ignore[operator]
        return float(raw)  # type: ignore[arg-type]
    problems.append(f"min_effect is {_show(raw)}; it must be a number from 0, in the metric's units, or null")
    return None


def _alpha(raw: object, problems: list[str]) -> float:
    if _is_number(raw) and 0 < raw <= 0.5:  # type: ignore[operator]
        return float(raw)  # type: ignore[arg-type]
    problems.append(f"alpha is {_show(raw)}; it must be a number above 0 and at most 0.5")
    return 0.05


def _rng_seed(raw: object, problems: list[str]) -> int:
    if _is_int(raw) and raw >= 0:  # type: ignore[operator]
        return int(raw)  # type: ignore[call-overload, no-any-return]
    problems.append(f"rng_seed is {_show(raw)}; it must be a whole number from 0")
    return 0


def _choice(raw: object, options: tuple[str, ...], field: str, problems: list[str]) -> str:
    if isinstance(raw, str) and raw in options:
        return raw
    problems.append(f"{field} is {_show(raw)}; it must be one of {', '.join(map(repr, options))}")
    return options[0]


def _unknown_fields(raw: Mapping[str, object], known: tuple[str, ...], label: str, problems: list[str]) -> None:
    for field in raw:
        if field not in known:
            problems.append(f"{label}: unknown field {field!r}; the fields are {', '.join(known)}")


def _duplicates(arms: list[Arm], describe: Callable[[Arm], str], problems: list[str]) -> None:
    seen: dict[str, str] = {}
    for arm in arms:
        key = describe(arm)
        if key in seen:
            problems.append(f"arm {arm.name!r}: {key} is already that of arm {seen[key]!r}; it must be unique")
        seen.setdefault(key, arm.name)


def _is_int(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _and_more(count: int) -> str:
    return f" and {count:,} more" if count > 0 else ""


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
