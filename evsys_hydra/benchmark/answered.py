"""Prediction rows as the answers they hold: what was answered before is verified again like any client's answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..inference.client import Request, Result
from .predictions import UNVERIFIED
from .results import PredictionRow

ROW_FACTS = ("eval", "task", "verifier", UNVERIFIED)
"""What a row's metadata says beside the facts of its answer."""
VERIFIER_FACTS = ("judge_", "sandbox_", "rubric")
"""What the facts of a verification begin with: they are of the one that is made anew."""
RESULT_FACTS = ("finish_reason", "prompt_tokens", "completion_tokens", "latency_s", "choice_logprobs")


class Answered:
    """An InferenceClient of answers that were given before.

    Args:
        rows: a prediction each, in the order in which they will be asked for.
    """

    def __init__(self, rows: Sequence[PredictionRow]) -> None:
        self._rows = rows

    def generate(
        self, requests: Sequence[Request], on_result: Callable[[int, Result], None] | None = None
    ) -> list[Result]:
        """The answers, whatever is asked."""
        results = [_result(row) for row in self._rows]
        for index, result in enumerate(results):
            if on_result is not None:
                on_result(index, result)
        return results


def _result(row: PredictionRow) -> Result:
    own = {name: value for name, value in row["metadata"].items() if name not in ROW_FACTS}
    facts = {name: value for name, value in own.items() if not name.startswith(VERIFIER_FACTS)}
    known = {name: facts.pop(name) for name in RESULT_FACTS if name in facts}
    return Result(row["output"], **known, extras=facts)
