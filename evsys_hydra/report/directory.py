"""The records of one experiment straight from its directory: what a report is made from.

In the words of the store's records, by the functions with which the sync makes them, so that report and dashboard
show the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ..record import ArmView, ExperimentRecord
from ..record.files import read_json
from ..store.pages import curve_of
from ..store.protocol import Record
from ..store.sync import fields
from .records import Curve, lean, spread


class DirectoryRecords:
    """`Records` of the experiment in a directory; an arm's id is its name.

    Args:
        directory: the experiment's.

    Raises:
        RecordError: there is none.
    """

    def __init__(self, directory: Path) -> None:
        self.record = ExperimentRecord.load(directory)
        self._metrics: dict[str, dict[tuple[str, str], list[tuple[int, Any]]]] = {}

    @cached_property
    def concluded(self) -> dict[str, Any]:
        """conclusion.json, if no arm ran since; else {}."""
        found = read_json(self.record.directory / "conclusion.json") or {}
        return found if found.get("generation") == self.record.facts["generation"] else {}

    def experiment(self, experiment_id: str | None = None) -> Record:
        made = fields.experiment_fields(self.record.facts, self._secrets())
        outcome = {key: self.concluded.get(key) for key in ("status", "conclusion", "best_score")}
        known = {key: value for key, value in outcome.items() if value is not None}
        ranking = fields.ranking_fields(self.concluded)
        return {**made, "name": made.get("experiment_name"), "id": self.record.id, **known, **ranking}

    def arms(self, experiment_id: str | None = None) -> list[Record]:
        return [lean(self._run(name)) for name in self.record.arm_names]

    def evals(self, runs: Sequence[str]) -> dict[str, list[Record]]:
        return {run: [self._eval(run, event) for event in self._view(run).events("eval")] for run in runs}

    def curve_names(self, runs: Sequence[str]) -> list[tuple[str, str]]:
        return list(dict.fromkeys(key for run in runs for key in self._curves_of(run)))

    def curves(self, runs: Sequence[str], name: str, split: str, points: int | None = None) -> list[Curve]:
        made = [curve_of(run, self._curves_of(run).get((name, split), [])) for run in runs]
        return [spread(curve, points) for curve in made if len(curve.steps)]

    def _secrets(self) -> list[str]:
        first = self.record.arm_names[:1]
        return [
            secret for name in first for secret in fields.secrets_named_in(self._view(name).directory / "config.yaml")
        ]

    def _view(self, run: str) -> ArmView:
        return ArmView(self.record.arm_directory(run))

    def _run(self, name: str) -> Record:
        view = self._view(name)
        metric = (self.record.facts.get("metadata") or {}).get("success_metric")
        secrets = fields.secrets_named_in(view.directory / "config.yaml")
        state = view.state
        outcome: dict[str, Any] = {"status": state}
        if state in ("completed", "failed"):
            outcome = fields.outcome_fields(view, state, secrets, metric)
        return {**fields.run_fields(view, {}, name), "id": name, **outcome}

    def _eval(self, run: str, event: dict[str, Any]) -> Record:
        return {**fields.eval_fields(event, run, {}), "run_id": run, "benchmark": event.get("name") or "benchmark"}

    def _curves_of(self, run: str) -> dict[tuple[str, str], list[tuple[int, Any]]]:
        if run not in self._metrics:
            found: dict[tuple[str, str], dict[int, Any]] = {}
            for event in self._view(run).events("metrics"):
                point = fields.metric_point(event)
                for name, value in point.metrics.items() if point else ():
                    found.setdefault((name, point.split if point else ""), {})[point.step if point else 0] = value
            self._metrics[run] = {key: sorted(rows.items()) for key, rows in found.items()}
        return self._metrics[run]
