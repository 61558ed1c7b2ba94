"""An arm's predictions, filtered; or beside another arm's, the tasks that flipped first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..report.arms import Arm, read_arms
from ..report.evals import primary
from ..report.tidy import mapping, tidy_experiment, tidy_run
from ..store.pages import Outcome, Pages, Wanted
from ..store.protocol import Record
from .arm_page import other_arm, other_names

PAGE = 25
PASSED: dict[str, bool | str] = {"yes": True, "no": False, "error": "error"}


@dataclass(frozen=True)
class PredictionQuery:
    """Which predictions; `passed` one of PASSED, `slice` "key:value" of a breakdown, `against` an arm's name or id."""

    eval: str = ""
    passed: str = ""
    task: str = ""
    slice: str = ""
    against: str = ""
    page: int = 1

    @property
    def wanted(self) -> Wanted:
        """For the store."""
        key, _, value = self.slice.partition(":")
        return Wanted(PASSED.get(self.passed), self.task or None, key or None, value if key else None)


@dataclass(frozen=True)
class Sample:
    """A prediction, and the other arm's of the same task and sample."""

    mine: Record
    theirs: Record | None = None

    @property
    def flipped(self) -> bool:
        """Whether one passes and the other does not."""
        return self.theirs is not None and passes(self.mine.get("reward")) != passes(self.theirs.get("reward"))


@dataclass(frozen=True)
class PredictionPage:
    """What the page shows; `flips` counts the tasks that flipped, of those both arms were scored on."""

    experiment: Record
    run: Record
    arm: Arm
    evals: Sequence[Record]
    eval: Record | None
    slices: Sequence[str]
    against: Arm | None
    offered: Sequence[str]
    samples: Sequence[Sample]
    total: int
    pages: int
    page: int
    query: PredictionQuery
    flips: int = 0
    problems: Sequence[str] = field(default_factory=list)


def prediction_page(pages: Pages, run: Record, query: PredictionQuery) -> PredictionPage:
    """The page that a query asks for."""
    run = tidy_run(run)
    experiment = tidy_experiment(pages.experiment(run["experiment_id"]) or {"id": run["experiment_id"]})
    evals = pages.evals([run["id"]])[run["id"]]
    chosen = next((row for row in evals if row["id"] == query.eval), _first(run, evals))
    other = other_arm(pages, run, query.against)
    problems = [f"There is no other arm named {query.against}."] if query.against and other is None else []
    samples: list[Sample] = []
    total = flips = 0
    if chosen is not None and other is not None:
        twin = _twin(pages.evals([other.id])[other.id], chosen)
        if twin is None:
            problems.append(f"{other.name} was not scored on {chosen['benchmark']}.")
        else:
            samples, total, flips = _pairs(pages, (run["id"], chosen["id"]), (other.id, twin["id"]), query)
    elif chosen is not None:
        rows, total = pages.predictions(run["id"], chosen["id"], query.wanted, PAGE, (max(query.page, 1) - 1) * PAGE)
        samples = [Sample(row) for row in rows]
    return PredictionPage(
        experiment=experiment,
        run=run,
        arm=read_arms(pages, [run], {}, None)[0],
        evals=evals,
        eval=chosen,
        slices=_slices(chosen),
        against=other,
        offered=other_names(pages, run),
        samples=samples,
        total=total,
        pages=max(1, -(-total // PAGE)),
        page=max(query.page, 1),
        query=query,
        flips=flips,
        problems=problems,
    )


def passes(reward: float | None) -> bool | None:
    """Whether a reward is a pass; None if there is none."""
    return None if reward is None else reward >= 1


def _pairs(
    pages: Pages, mine: tuple[str, str], theirs: tuple[str, str], query: PredictionQuery
) -> tuple[list[Sample], int, int]:
    """A page of the samples of both arms, flipped ones first; how many there are, and how many flipped."""
    others = {(row.task, row.sample): row for row in pages.outcomes(*theirs)}
    pairs = [(row, others.get((row.task, row.sample))) for row in pages.outcomes(*mine)]
    wanted = query.wanted
    if wanted.key is not None:
        kept, _ = pages.predictions(*mine, Wanted(key=wanted.key, value=wanted.value), 10**9, 0)
        ids = {row["id"] for row in kept}
        pairs = [pair for pair in pairs if pair[0].id in ids]
    pairs = [pair for pair in pairs if _is_wanted(pair[0], wanted)]
    ordered = sorted(pairs, key=lambda pair: (_rank(*pair), pair[0].task, pair[0].sample))
    shown = ordered[(max(query.page, 1) - 1) * PAGE :][:PAGE]
    first = pages.by_id(mine[0], [row.id for row, _ in shown])
    second = pages.by_id(theirs[0], [row.id for _, row in shown if row is not None])
    samples = [Sample(first[row.id], second.get(other.id) if other else None) for row, other in shown]
    return samples, len(ordered), sum(_rank(*pair) < 2 for pair in ordered)


def _rank(mine: Outcome, theirs: Outcome | None) -> int:
    """0: this arm lost the task, 1: it won it, 2: no change, 3: not scored by both."""
    if theirs is None or mine.reward is None or theirs.reward is None:
        return 3
    if passes(mine.reward) == passes(theirs.reward):
        return 2
    return int(bool(passes(mine.reward)))


def _is_wanted(row: Outcome, wanted: Wanted) -> bool:
    if wanted.task and wanted.task.lower() not in row.task.lower():
        return False
    if wanted.passed == "error":
        return row.reward is None
    return wanted.passed is None or passes(row.reward) == wanted.passed


def _first(run: Record, evals: Sequence[Record]) -> Record | None:
    return primary(evals, run["summary"].get("primary")) or (evals[-1] if evals else None)


def _twin(evals: Sequence[Record], mine: Record) -> Record | None:
    """The other arm's eval of the same benchmark at the same moment."""
    same = [row for row in evals if row["benchmark"] == mine["benchmark"] and row.get("step") == mine.get("step")]
    return same[-1] if same else None


def _slices(chosen: Record | None) -> list[str]:
    breakdowns = mapping((chosen or {}).get("breakdowns"))
    return [f"{key}:{value}" for key, values in breakdowns.items() for value in mapping(values)]
