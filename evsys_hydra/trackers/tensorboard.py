"""The `tensorboard` tracker: event files, written without TensorFlow or torch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..config import KindConfig
from ..registry import register_tracker
from .protocol import ArmFacts, Point, Tracker, Value

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary


class TensorboardConfig(KindConfig):
    """TensorBoard event files, with the config and the outcome in its HParams tab."""

    kind: Literal["tensorboard"] = "tensorboard"
    dir: str | None = None
    """Folder of the runs, one for each arm; null: tensorboard/ in the experiment's directory."""


class TensorboardRun:
    """One arm's folder of event files; each process that writes adds a file."""

    def __init__(self, arm: ArmFacts, folder: Path, known: bool) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.id = str(folder)
        self._writer = EventFileWriter(self.id)
        if not known:
            self._add(0, started(arm), time.time())

    def log(self, points: Sequence[Point]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        for point in points:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in point.values.items()]
            self._add(point.step, Summary(value=values), point.time)
        self._writer.flush()

    def end(self, state: Literal["completed", "failed"], facts: Mapping[str, Value]) -> None:
        from tensorboard.plugins.hparams import api_pb2

        self._add(0, ended(api_pb2.STATUS_SUCCESS if state == "completed" else api_pb2.STATUS_FAILURE), time.time())
        self._writer.close()

    def _add(self, step: int, summary: Summary, moment: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=moment, step=step, summary=summary))


class TensorboardTracker:
    """Writes below one folder."""

    def __init__(self, folder: Path) -> None:
        import tensorboard.summary.writer.event_file_writer  # noqa: F401  (missing: said before the first arm)

        self._folder = folder

    def open(self, arm: ArmFacts, known: str | None) -> TensorboardRun:
        return TensorboardRun(arm, self._folder / arm.name, known is not None)


@register_tracker("tensorboard", config=TensorboardConfig)
def open_tensorboard(config: TensorboardConfig, experiment: Path) -> Tracker:
    """The tracker that the settings name."""
    own = experiment / "tensorboard"
    return TensorboardTracker(Path(config.dir).expanduser() / experiment.name if config.dir else own)


def started(arm: ArmFacts) -> Summary:
    """The config as the HParams tab reads it."""
    from tensorboard.plugins.hparams import plugin_data_pb2 as data

    info = data.SessionStartInfo(group_name=arm.group, start_time_secs=time.time())
    for name, value in arm.config.items():
        if isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, int | float):
            info.hparams[name].number_value = value
        else:
            info.hparams[name].string_value = str(value)
    return _hparams("_hparams_/session_start_info", session_start_info=info)


def ended(status: int) -> Summary:
    """The outcome as the HParams tab reads it."""
    from tensorboard.plugins.hparams import plugin_data_pb2 as data

    info = data.SessionEndInfo(status=status, end_time_secs=time.time())
    return _hparams("_hparams_/session_end_info", session_end_info=info)


def _hparams(tag: str, **info: object) -> Summary:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams import plugin_data_pb2 as data

    about = metadata.create_summary_metadata(data.HParamsPluginData(**info))
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])
