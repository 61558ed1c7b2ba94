"""The `mlflow` tracker: an MLflow server, or a database file, through MLflow's client."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..config import KindConfig
from ..registry import register_tracker
from .protocol import ArmFacts, Point, Tracker, Value

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")
MOST_METRICS = 1000
MOST_PARAMS = 100
"""MLflow's limits for one request."""
FORBIDDEN = re.compile(r"[^\w\-. /:]")


class MlflowConfig(KindConfig):
    """An MLflow server or database."""

    kind: Literal["mlflow"] = "mlflow"
    uri: str | None = None
    """Tracking URI, for example sqlite:///mlflow.db; null: MLFLOW_TRACKING_URI, else MLflow's own default."""
    experiment: str | None = None
    """MLflow experiment; null: the experiment's name."""


class MlflowRun:
    """One arm as an MLflow run."""

    def __init__(self, client: MlflowClient, id: str) -> None:
        self.id = id
        self._client = client

    def log(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(FORBIDDEN.sub("_", name), value, int(point.time * 1000), point.step)
            for point in points
            for name, value in point.values.items()
        ]
        for some in _parts(metrics, MOST_METRICS):
            self._client.log_batch(self.id, metrics=some)

    def end(self, state: Literal["completed", "failed"], facts: Mapping[str, Value]) -> None:
        figures = {name: value for name, value in facts.items() if isinstance(value, float)}
        self.log([Point(0, figures, time.time())])
        for name, value in facts.items():
            if name not in figures:
                self._client.set_tag(self.id, f"evsys.{name}", str(value))
        self._client.set_terminated(self.id, "FINISHED" if state == "completed" else "FAILED")


class MlflowTracker:
    """Talks to one tracking URI."""

    def __init__(self, uri: str | None, experiment: str | None) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        self._experiment = experiment

    def open(self, arm: ArmFacts, known: str | None) -> MlflowRun:
        if known is not None:
            self._client.update_run(known, status="RUNNING")
            return MlflowRun(self._client, known)
        tags = {"evsys.arm": arm.id, "evsys.group": arm.group, "evsys.experiment": arm.experiment_id}
        tags.update({f"evsys.tag.{tag}": "true" for tag in arm.tags})
        if arm.hypothesis:
            tags["mlflow.note.content"] = arm.hypothesis
        run = self._client.create_run(self._experiment_id(arm), run_name=arm.name, tags=tags)
        for some in _parts(list(_params(arm.config)), MOST_PARAMS):
            self._client.log_batch(run.info.run_id, params=some)
        return MlflowRun(self._client, run.info.run_id)

    def _experiment_id(self, arm: ArmFacts) -> str:
        name = self._experiment or arm.experiment
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found is not None else self._client.create_experiment(name))


@register_tracker("mlflow", config=MlflowConfig)
def open_mlflow(config: MlflowConfig, experiment: Path) -> Tracker:
    """The tracker that the settings name."""
    return MlflowTracker(config.uri, config.experiment)


def _params(config: Mapping[str, Value]) -> Iterator[Any]:
    from mlflow.entities import Param

    return (Param(FORBIDDEN.sub("_", name), str(value)) for name, value in config.items())


def _parts(items: Sequence[T], size: int) -> list[list[T]]:
    return [list(items[start : start + size]) for start in range(0, len(items), size)]
