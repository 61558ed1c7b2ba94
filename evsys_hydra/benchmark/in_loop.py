"""In-loop validation: scores the live model each N training steps, without leaving a trace in the training.

The model is put into eval mode and back; sampling has its own random numbers, so training goes on exactly as it would
have without it. What fails here is noted and never fails the training.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..causes import describe
from ..config import BenchmarkConfig
from ..results import EvalResult
from .scoring import score
from .tasks import Benchmark

if TYPE_CHECKING:
    from ..inference.local import LocalInference


class EvalRecorder(Protocol):
    """Where an in-loop eval is written; `record.ArmRecord` is the one on disk."""

    def event(self, kind: str, **facts: Any) -> None: ...

    def predictions_path(self, eval_name: str, step: int | None = None) -> Path: ...

    def scrub(self, text: str) -> str: ...


class InLoop:
    """One benchmark that scores the live model; see `in_loop_eval`."""

    def __init__(
        self,
        benchmark: Benchmark,
        entry: BenchmarkConfig,
        seed: int,
        record: EvalRecorder | None,
        inference: LocalInference | None,
    ) -> None:
        assert entry.run_every is not None
        self.every = entry.run_every
        self._benchmark = benchmark
        self._entry = entry
        self._seed = seed
        self._record = record
        self._inference = inference

    def __call__(self, model: Any, tokenizer: Any, step: int) -> Mapping[str, float]:
        """Score the model as it is now; "<benchmark>.<metric>" -> value, empty if it could not be scored."""
        name = self._entry.name or self._benchmark.name
        row = EvalResult(name, benchmark_id=self._entry.id, step=step, tags=list(self._entry.tags))
        try:
            self._score(model, tokenizer, row)
        except Exception as error:
            hide = self._record.scrub if self._record is not None else str
            print(hide(traceback.format_exc()), flush=True)
            row.error = hide(describe(error))
        if self._record is not None:
            self._record.event("eval", **asdict(row))
        return {f"{name}.{metric}": value for metric, value in row.metrics.items()}

    def _score(self, model: Any, tokenizer: Any, row: EvalResult) -> None:
        from ..inference.local import LocalClient, LocalInference

        path = self._record.predictions_path(row.name, row.step) if self._record is not None else None
        scrub = self._record.scrub if self._record is not None else str
        training = model.training
        model.eval()
        try:
            client = LocalClient(model, tokenizer, self._inference or LocalInference(kind="local"))
            # Not resumed: an earlier attempt's model at this step need not have been the same.
            scored = score(
                self._benchmark, client, self._entry, seed=self._seed, predictions=path, resume=False, scrub=scrub
            )
        finally:
            model.train(training)
        row.metrics, row.breakdowns = scored.metrics, scored.breakdowns
        row.benchmark_id = row.benchmark_id or scored.benchmark_hash
        row.eval_seconds, row.error = scored.eval_seconds, scored.error


def in_loop_eval(
    benchmark: Benchmark,
    entry: BenchmarkConfig,
    *,
    seed: int,
    record: EvalRecorder | None = None,
    inference: object = None,
) -> InLoop:
    """An eval of the live model for an entry with `run_every`.

    Args:
        record: gets an `eval` event with the step, and the prediction rows in `<name>-step<step>.jsonl`.
        inference: the arm's inference settings; used if they are the local engine's.
    """
    from ..inference.local import LocalInference

    local = inference if isinstance(inference, LocalInference) else None
    return InLoop(benchmark, entry, seed, record, local)
