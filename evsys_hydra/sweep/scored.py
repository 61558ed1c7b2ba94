"""What a person sees of `evsys-hydra eval`: how far it is, and the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from ..evaluate import Evaluated


class Told:
    """Tells how far an evaluation is: in one line that is written over on a terminal, not at all elsewhere."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out if out.isatty() else None

    def __call__(self, arm: str, name: str, done: int, total: int) -> None:
        if self._out is not None:
            self._out.write(f"\r\x1b[K{arm}  {name}  {done}/{total}")
            self._out.flush()

    def close(self) -> None:
        """Take the line away."""
        if self._out is not None:
            self._out.write("\r\x1b[K")
            self._out.flush()


def scored_text(done: Sequence[Evaluated], conclusion: str) -> str:
    """The scores, a line an eval, and what became of the conclusion."""
    lines = [_line(one) for one in done] or ["No arm has completed: there is nothing to score."]
    return "\n".join([*lines, "", conclusion])


def _line(one: Evaluated) -> str:
    row = one.row
    name = row.name if row.step is None else f"{row.name} at step {row.step}"
    if row.error is not None:
        return f"{one.arm}  {name}  {row.error}"
    metrics = "  ".join(f"{metric}={value:.4g}" for metric, value in row.metrics.items())
    return f"{one.arm}  {name}  {metrics}{'' if one.added else '  (as recorded)'}"
