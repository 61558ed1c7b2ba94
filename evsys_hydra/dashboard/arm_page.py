"""One arm's page: its config beside another arm's, scores, checkpoints, log, and the command that runs it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..report.arms import Arm, read_arms
from ..report.curves import Chart, arm_chart
from ..report.html import flat, shown
from ..report.tidy import mapping, tidy_experiment, tidy_run
from ..report.verdict import OVER
from ..store.pages import Pages
from ..store.protocol import Record

OFFERED = 200
SHOWN_CURVES = 12


@dataclass(frozen=True)
class Setting:
    """A field of the config in this arm and, if there is one, the other; None: not there."""

    key: str
    mine: str | None
    theirs: str | None

    @property
    def differs(self) -> bool:
        """Whether the two are not the same."""
        return self.mine != self.theirs


@dataclass(frozen=True)
class ArmPage:
    """What the page of an arm shows."""

    experiment: Record
    run: Record
    arm: Arm
    metric: str | None
    summary: Mapping[str, Any]
    settings: Sequence[Setting]
    against: Arm | None
    asked: str
    offered: Sequence[str]
    evals: Sequence[Record]
    checkpoints: Sequence[Record]
    curves: Sequence[tuple[str, str]]
    command: str | None
    running: bool


def arm_page(pages: Pages, run: Record, asked: str) -> ArmPage:
    """The page of a run.

    Args:
        asked: name or id of the arm that the config is compared with; "" for none.
    """
    run = tidy_run(run)
    experiment = tidy_experiment(pages.experiment(run["experiment_id"]) or {"id": run["experiment_id"]})
    metric = experiment["metadata"].get("success_metric")
    other = other_arm(pages, run, asked)
    theirs = pages.arm(other.id) if other else None
    return ArmPage(
        experiment=experiment,
        run=run,
        arm=read_arms(pages, [run], {}, metric)[0],
        metric=metric,
        summary=run["summary"],
        settings=_settings(run, theirs),
        against=other,
        asked=asked,
        offered=other_names(pages, run),
        evals=pages.evals([run["id"]])[run["id"]],
        checkpoints=pages.checkpoints(run["id"]),
        curves=pages.curve_names([run["id"]])[:SHOWN_CURVES],
        command=f"evsys-hydra rerun {shlex.quote(str(run['directory']))}" if run.get("directory") else None,
        running=run.get("status") not in OVER,
    )


def other_arm(pages: Pages, run: Record, asked: str) -> Arm | None:
    """The arm of the same experiment that is asked for by name or id; None for the run itself."""
    found = pages.find_arm(run["experiment_id"], asked) if asked else None
    return read_arms(pages, [found], {}, None)[0] if found and found["id"] != run["id"] else None


def other_names(pages: Pages, run: Record) -> list[str]:
    """Names that a form offers: the first of the experiment's arms."""
    return [name for name in pages.arm_names(run["experiment_id"], OFFERED) if name != run.get("name")]


def arm_charts(pages: Pages, run: str) -> dict[str, Chart]:
    """ "name/split" -> the chart of one curve of an arm."""
    charts = {}
    for name, split in pages.curve_names([run])[:SHOWN_CURVES]:
        curve = next(iter(pages.curves([run], name, split)), None)
        charts[f"{name}/{split}"] = arm_chart({name: curve} if curve else {})
    return charts


def _settings(run: Record, other: Record | None) -> list[Setting]:
    """Every field of both configs, those that differ first."""
    mine, theirs = _fields(run), _fields(other) if other is not None else None
    keys = dict.fromkeys([*mine, *(theirs or {})])
    made = [Setting(key, mine.get(key), theirs.get(key) if theirs is not None else None) for key in keys]
    return made if theirs is None else sorted(made, key=lambda setting: not setting.differs)


def _fields(run: Record) -> dict[str, str]:
    return {key: shown(value) for key, value in flat(mapping(run.get("run_config"))).items()}
