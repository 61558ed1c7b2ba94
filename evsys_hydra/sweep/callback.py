"""The sweep-end callback: Hydra calls it when the last arm has ended, and it concludes the experiment."""

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Conclude(Callback):
    """Collects, ranks, concludes and shows; for a sweep (-m) and for a single run alike."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        _conclude_all()

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        _conclude_all()


def _conclude_all() -> None:
    from .finish import finish_all

    finish_all()
