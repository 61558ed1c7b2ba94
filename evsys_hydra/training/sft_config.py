"""Settings of supervised fine-tuning, typed; importing them needs no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .chat import LossOn
from .encoding import EncodingOptions, Render, TooLong
from .loop_config import LOOP_FIGURES, LoopConfig


class SFTConfig(LoopConfig):
    """Supervised fine-tuning: cross-entropy on what the assistant says, averaged over the tokens of a step."""

    in_processes: ClassVar[bool] = True
    figures: ClassVar[tuple[str, ...]] = (*LOOP_FIGURES, "n_truncated")
    kind: Literal["sft"] = "sft"
    loss_on: LossOn = "all"
    """Train on all assistant turns of a chat or on its last."""
    render: Render = "auto"
    """How prompt/completion rows are rendered: through the chat template, as plain text, or auto: chat if there is a
    template."""
    max_length: int | None = Field(None, ge=2)
    """Longest sequence in tokens; null: what the model can take."""
    packing: bool = False
    """Put a pass's examples behind each other in one row, unseen by each other, instead of padding them."""
    too_long: TooLong = "drop"
    """Longer sequences are dropped, cut at the end or start, or an error. Counted in the metrics."""

    def encoding(self, longest: int | None = None) -> EncodingOptions:
        """How rows are encoded; `longest` is what the model can take."""
        return EncodingOptions(self.loss_on, self.render, self.max_length or longest, self.too_long)
