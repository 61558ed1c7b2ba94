"""One task: what is asked, and how an answer is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ..config import Strict, without_empty
from ..inference.client import ChoiceNorm


class InProcess(Strict):
    """Checked by a registered verifier, called as `fn(output, expected, params) -> reward`."""

    kind: Literal["in_process"]
    fn_name: str
    """Which registered verifier."""
    expected: Any = None
    """What the verifier compares with."""
    params: dict[str, Any] = Field(default_factory=dict)
    """The verifier's settings."""


class LlmJudge(Strict):
    """Judged by an API model that reads the rubric and gives a score."""

    kind: Literal["llm_judge"]
    judge_model: str
    """Name of the judging model."""
    rubric: str
    """What a good answer is, for the judge."""
    expected: Any = None
    """A reference answer shown to the judge; null: none."""


class E2B(Strict):
    """Checked by running a test script on the answer, in a sandbox (see e2b.py)."""

    kind: Literal["e2b"]
    dockerfile: str
    """The image the tests were written for; `FROM python[:version]` and comments only, since none is built."""
    test_sh: str
    """A bash script; its exit status, or a last line `reward: 0.5`, is the reward."""
    test_state_py: str
    """Stands beside the script as test_state.py."""
    expected: Any = None
    """A reference answer for the record; null: none."""


Verifier = Annotated[InProcess | LlmJudge | E2B, Field(discriminator="kind")]


class Task(Strict):
    """One task: an instruction, and how an answer to it is checked."""

    task_id: str = Field(min_length=1)
    """Unique in its benchmark."""
    instruction: str
    """What the model is asked."""
    verifier: Verifier
    """How an answer is checked."""
    system_prompt: str | None = None
    """System message of this task; null: the benchmark entry's."""
    max_tokens: int | None = Field(None, ge=1)
    """Longest answer to this task, in tokens; null: the benchmark entry's."""
    stop: list[str] | None = None
    """The answer to this task ends before the first of these strings too, beside the benchmark entry's."""
    choices: list[Annotated[str, Field(min_length=1)]] | None = Field(None, min_length=2)
    """Nothing is generated: the answer is the one of these texts that the model finds the likeliest to follow."""
    choice_delimiter: str | None = None
    """Stands before each choice where no chat template makes the prompt; null: one space."""
    choice_norm: ChoiceNorm | None = None
    """A choice's log-likelihood is divided by its length in these; null: by nothing."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Anything about the task; breakdown_keys and cluster_key are paths into it."""

    @field_validator("stop")
    @classmethod
    def _stop(cls, value: list[str] | None) -> list[str] | None:
        return value if value is None else without_empty(value)

    @model_validator(mode="after")
    def _generated_or_chosen(self) -> Task:
        useless = ("choice_delimiter", "choice_norm") if self.choices is None else ("max_tokens", "stop")
        if given := [name for name in useless if getattr(self, name) is not None]:
            why = "the task has no choices" if self.choices is None else "nothing is generated for a task with choices"
            raise ValueError(f"{', '.join(given)}: {why}; leave out the one or the other")
        # lm-eval tells choices apart by their places, so its documents may repeat one.
        by_place = isinstance(self.verifier, InProcess) and self.verifier.fn_name == "lm_eval"
        if self.choices and len(set(self.choices)) < len(self.choices) and not by_place:
            twice = sorted({choice for choice in self.choices if self.choices.count(choice) > 1})
            raise ValueError(f"choices: more than once: {', '.join(map(repr, twice))}")
        return self


def at_path(metadata: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted path; None if there is nothing. A key that itself has dots is matched first."""
    if key in metadata:
        return metadata[key]
    value: Any = metadata
    for step in key.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return None
        value = value[step]
    return value
