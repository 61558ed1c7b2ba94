"""What an algorithm is given: everything it needs, and nothing of how the arm was launched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..config import RunConfig
from .distributed import ALONE, Ranks

Row = dict[str, Any]
"""One training row: {messages}, {prompt, completion} or {text}."""


class Recorder(Protocol):
    """Where facts about training go; `record.ArmRecord` is the one on disk."""

    def metrics(self, step: int, values: Mapping[str, float], split: str = "train") -> None: ...

    def checkpoint(self, path: Path, step: int, *, final: bool, **facts: Any) -> None: ...

    def progress(self, phase: str, done: int, total: int, **facts: Any) -> None: ...

    def event(self, kind: str, **facts: Any) -> None: ...

    def catch_up(self) -> None:
        """Go on after what a forked process has recorded."""
        ...


class Silent:
    """Records nothing: what the ranks beside the first one write to."""

    def metrics(self, step: int, values: Mapping[str, float], split: str = "train") -> None: ...

    def checkpoint(self, path: Path, step: int, *, final: bool, **facts: Any) -> None: ...

    def progress(self, phase: str, done: int, total: int, **facts: Any) -> None: ...

    def event(self, kind: str, **facts: Any) -> None: ...

    def catch_up(self) -> None: ...


class InLoopEval(Protocol):
    """Scores the live model during training (a benchmark entry with run_every)."""

    every: int
    """Training steps between two scores."""

    def __call__(self, model: Any, tokenizer: Any, step: int) -> Mapping[str, float]:
        """Score the model as it is now; returns "<benchmark>.<metric>" -> value."""
        ...


@dataclass
class TrainContext:
    """One arm's training.

    Args:
        run: the arm's config.
        rows: the training rows, transforms applied.
        directory: the arm's directory; checkpoints belong below `directory / "checkpoints"`.
        record: where metrics, checkpoints and progress are recorded.
        start_from: checkpoint whose weights training starts from; None: the model itself.
        in_loop: evals of the live model.
        ranks: the processes that train this arm together, and which one this is.
    """

    run: RunConfig
    rows: Sequence[Row]
    directory: Path
    record: Recorder
    start_from: Path | None = None
    in_loop: Sequence[InLoopEval] = field(default_factory=tuple)
    ranks: Ranks = ALONE
