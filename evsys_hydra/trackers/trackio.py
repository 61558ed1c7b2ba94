"""The `trackio` tracker: local files by default (`trackio show`), or a Hugging Face Space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..config import KindConfig
from ..registry import register_tracker
from .protocol import ArmFacts, Point, Tracker, Value


class TrackioConfig(KindConfig):
    """Trackio: its files are in TRACKIO_DIR (default ~/.cache/huggingface/trackio)."""

    kind: Literal["trackio"] = "trackio"
    project: str | None = None
    """Trackio project; null: the experiment's name."""
    space_id: str | None = None
    """Hugging Face Space to send to; null: only files on this machine. The token is read from HF_TOKEN."""


class TrackioRun:
    """One arm as a Trackio run, known by its name: the arm's, and the experiment's so that repetitions stay apart.

    Trackio sends from a thread and says so only when a run is finished, so each batch is a run taken up and finished.
    """

    def __init__(self, arm: ArmFacts, config: TrackioConfig) -> None:
        self.id = f"{arm.name}-{arm.experiment_id[:8]}"
        self._arm, self._settings = arm, config

    def log(self, points: Sequence[Point]) -> None:
        self._send([(dict(point.values), point.step) for point in points])

    def end(self, state: Literal["completed", "failed"], facts: Mapping[str, Value]) -> None:
        self._send([(dict(facts), None)])

    def _send(self, many: Sequence[tuple[dict[str, Any], int | None]]) -> None:
        import trackio

        run: Any = trackio.init(
            project=self._settings.project or self._arm.experiment,
            name=self.id,
            group=self._arm.group,
            space_id=self._settings.space_id,
            config=dict(self._arm.config),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        for values, step in many:
            run.log(values, step=step)
        run.finish()


class TrackioTracker:
    """Opens runs of one project."""

    def __init__(self, config: TrackioConfig) -> None:
        import trackio  # noqa: F401  (missing: said before the first arm)

        self._config = config

    def open(self, arm: ArmFacts, known: str | None) -> TrackioRun:
        return TrackioRun(arm, self._config)


@register_tracker("trackio", config=TrackioConfig)
def open_trackio(config: TrackioConfig, experiment: Path) -> Tracker:
    """The tracker that the settings name."""
    return TrackioTracker(config)
