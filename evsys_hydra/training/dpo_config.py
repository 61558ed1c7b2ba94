"""Settings of preference training, typed; importing them needs no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .encoding import Render
from .loop_config import LOOP_FIGURES, LoopConfig
from .pairs import pair_problem


class DPOConfig(LoopConfig):
    """Direct preference optimization: chosen answers become likelier than rejected ones, measured from the start."""

    in_processes: ClassVar[bool] = True
    figures: ClassVar[tuple[str, ...]] = (*LOOP_FIGURES, "preference_accuracy", "reward_margin")
    kind: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0)
    """How strongly the policy is held to where it started: the higher, the closer it stays."""
    render: Render = "auto"
    """How prompts that are strings are rendered: through the chat template, as plain text, or auto: chat if there is a
    template."""
    max_length: int | None = Field(None, ge=2)
    """Longest prompt with answer in tokens; pairs with a longer one are left out and counted. null: what the model can
    take."""

    def row_problem(self, row: object) -> str | None:
        """What keeps a row from being a preference; None: nothing."""
        return pair_problem(row)
