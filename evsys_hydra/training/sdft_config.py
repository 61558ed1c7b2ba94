"""Settings of self-distillation, typed; importing them needs no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from .loop_config import LOOP_FIGURES, LoopConfig
from .shapes import row_problem, shape_of

PROMPT, DEMONSTRATION = "{prompt}", "{demonstration}"
TEACHER_PROMPT = (
    "{prompt}\n\nThis is an example for a response to the question:\n{demonstration}\n\n"
    "Now answer with a response of your own."
)


class SDFTConfig(LoopConfig):
    """Self-distillation: the model as it was at the start, shown a row's answer as a demonstration, teaches the model
    that does not see it, on that model's own answers."""

    in_processes: ClassVar[bool] = True
    in_shards: ClassVar[bool] = False
    samples: ClassVar[bool] = True
    figures: ClassVar[tuple[str, ...]] = (*LOOP_FIGURES, "answer_tokens")
    kind: Literal["sdft"] = "sdft"
    batch_size: int = Field(16, ge=1)
    """Prompts a step, each answered once."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Most answers in a forward pass; null: all of a step. Halved when memory runs out."""
    max_tokens: int = Field(256, ge=1)
    """Longest sampled answer, in tokens."""
    temperature: float = Field(1.0, gt=0)
    """Of the sampling."""
    divergence: Literal["reverse", "forward"] = "reverse"
    """What is minimized at each token: KL(student || teacher), which keeps to what the teacher is sure of, or
    KL(teacher || student), which covers all that the teacher might say."""
    teacher_prompt: str = TEACHER_PROMPT
    """The last user message as the teacher sees it; {prompt} and {demonstration} are replaced."""

    @field_validator("teacher_prompt")
    @classmethod
    def _shows_both(cls, value: str) -> str:
        missing = [name for name in (PROMPT, DEMONSTRATION) if name not in value]
        if missing:
            raise ValueError(f"must contain {' and '.join(missing)}; it is {value!r}")
        return value

    def row_problem(self, row: object) -> str | None:
        """What keeps a row from being a prompt with a demonstration; None: nothing."""
        if problem := row_problem(row):
            return problem
        assert isinstance(row, dict)
        if shape_of(row) == "text":
            return (
                "text: has no answer that could be a demonstration; sdft takes rows of messages, or prompt, completion"
            )
        if shape_of(row) == "prompt":
            return None
        roles = [message["role"] for message in row["messages"]]
        if roles[-2:] != ["user", "assistant"]:
            return f"messages: must end with a user and an assistant message, not with {', '.join(roles[-2:])}"
        texts = (message["content"] for message in row["messages"])
        return (
            None if all(isinstance(text, str) for text in texts) else "messages: sdft takes contents that are strings"
        )
