"""`sdft`: self-distillation on the model's own answers, on the loop of supervised fine-tuning.

Shenfeld et al. 2026, Self-Distillation Enables Continual Learning: the student answers a prompt; the teacher, the model
as training found it, sees the prompt with a demonstration and says how it would have gone on at each token of that
answer; the student is moved towards it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import DataError
from ..inference.client import Request
from ..inference.local import prompt_style
from ..inference.prompts import PromptStyle, tokenize
from ..registry import register_algorithm
from ..results import RunResult
from .chat import Tokens
from .context import Row, TrainContext
from .policy import Policy, n_trained
from .processes import in_processes
from .rl.prompts import Prompt
from .rl.reference import Reference
from .rl.rounds import Rounds, sampler_for
from .rl.sampling import joined
from .saving import saver_for
from .sdft_config import SDFTConfig
from .sft import finish, load_trainable, longest_sequence, loop_for, training_hash
from .stepping import StepResult

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from .loop import Loop


@register_algorithm("sdft", config=SDFTConfig)
def train(config: SDFTConfig, context: TrainContext) -> RunResult:
    """Train on demonstrations; goes on by itself where an earlier attempt in this directory was stopped.

    Returns:
        metrics: those of `sft` (the loss is the divergence from the teacher, in nats a token), and answer_tokens.

    Raises:
        DataError, ConfigError, TrainingDiverged, TrainingOutOfMemory
    """
    return in_processes(_train, config, context)


def _train(config: SDFTConfig, context: TrainContext) -> RunResult:
    """Train, in this process or in this rank."""
    saver = saver_for(config, context.directory, training_hash(config, context), context.ranks)
    resumable = saver.resumable()
    model, tokenizer = load_trainable(context, resumable)
    pad_id = tokenizer.pad_token_id or 0
    style, longest = prompt_style(context.run.inference), longest_sequence(model, tokenizer)
    lessons = lessons_of(context.rows, config, tokenizer, longest, style)
    counted = {"n_examples": len(lessons), "n_dropped": len(context.rows) - len(lessons)}
    context.record.event("training_data", n_rows=len(context.rows), **counted)

    loss = DistillationLoss(Policy(model, pad_id), config)
    loop = loop_for(config, context, saver, model, tokenizer, loss, [0] * len(lessons))
    loss.teacher = Reference(context, model, pad_id, loop.autocast)
    Distillation(config, loop, loss, lessons)
    if resumable is not None:
        loop.resume(resumable)
    loop.run()
    return finish(loop, counted)


@dataclass(frozen=True)
class Lesson:
    """One row: what the student is asked, and the teacher's prompt as tokens."""

    student: Prompt
    teacher: Sequence[int]


def lessons_of(
    rows: Sequence[Row],
    config: SDFTConfig,
    tokenizer: PreTrainedTokenizerBase,
    longest: int | None,
    style: PromptStyle = "auto",
) -> list[Lesson]:
    """The rows whose teacher's prompt leaves room for an answer.

    Raises:
        DataError: the chat template fails on a row, or no row is left.
    """
    asked = [_asked(row, config.teacher_prompt) for row in rows]
    prompts = tokenize([Request(teacher) for _, teacher in asked], tokenizer, style)
    lessons = []
    for number, ((student, _), prompt) in enumerate(zip(asked, prompts, strict=True), start=1):
        if isinstance(prompt, str):
            raise DataError(f"row {number}: {prompt}")
        if longest is None or len(prompt) + config.max_tokens <= longest:
            instruction = student[-1]["content"]
            lessons.append(Lesson(Prompt(f"row-{number}", tuple(student), instruction), prompt))
    if not lessons:
        raise DataError(
            f"none of the {len(rows)} rows leaves room for an answer of algorithm.max_tokens={config.max_tokens} after "
            f"the teacher's prompt: the model takes {longest} tokens"
        )
    return lessons


def _asked(row: Row, teacher_prompt: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The chats that the student and the teacher answer; the row's last answer is the demonstration."""
    if "messages" in row:
        *before, last = ({"role": message["role"], "content": message["content"]} for message in row["messages"])
        demonstration = last["content"]
    else:
        before, demonstration = [{"role": "user", "content": row["prompt"]}], row["completion"]
    values = {"{prompt}": before[-1]["content"], "{demonstration}": demonstration}
    shown = re.sub(r"\{(prompt|demonstration)\}", lambda match: values[match[0]], teacher_prompt)
    return before, [*before[:-1], {"role": "user", "content": shown}]


class Distillation(Rounds):
    """One step: the student answers, and is updated towards what the teacher says of its answers."""

    def __init__(self, config: SDFTConfig, loop: Loop, loss: DistillationLoss, lessons: Sequence[Lesson]) -> None:
        super().__init__(loop, sampler_for(config, loop))
        self._loss = loss
        self._lessons = lessons

    def step(self, members: Sequence[int], lr: float) -> StepResult:
        """One round on some prompts.

        Raises:
            DataError: a prompt that cannot be answered.
            TrainingOutOfMemory: not even one answer fits.
        """
        lessons = [self._lessons[member] for member in members]
        rollouts = self.sampled([lesson.student for lesson in lessons], 1)
        students = [rollout.tokens for rollout in rollouts]
        teachers = [
            joined(lesson.teacher, rollout.answer_ids) for lesson, rollout in zip(lessons, rollouts, strict=True)
        ]
        self._loss.take(students, teachers)
        self._updates.lengths = [len(a.ids) + len(b.ids) for a, b in zip(students, teachers, strict=True)]
        result = self._updates.step(range(len(students)), lr)
        return replace(result, figures={"answer_tokens": sum(map(n_trained, students)) / len(students)})


class DistillationLoss:
    """KL(student || teacher) over the whole vocabulary at each token of the answers, summed; or the other way round.

    Shenfeld et al. 2026, eq. 2 with its analytic estimator: no gradient flows through the sampling or the teacher.
    """

    teacher: Reference

    def __init__(self, policy: Policy, config: SDFTConfig) -> None:
        self._policy = policy
        self._reverse = config.divergence == "reverse"
        self._students: Sequence[Tokens] = []
        self._teachers: Sequence[Tokens] = []

    def take(self, students: Sequence[Tokens], teachers: Sequence[Tokens]) -> None:
        """The answers of a step, after the student's prompts and after the teacher's."""
        self._students, self._teachers = students, teachers

    def sizes(self, members: Sequence[int]) -> tuple[int, int]:
        """Tokens that the student sees, and tokens of the answers."""
        chosen = [self._students[member] for member in members]
        return sum(len(tokens.ids) for tokens in chosen), sum(map(n_trained, chosen))

    def __call__(self, members: Sequence[int]) -> Tensor:
        """The summed divergence: a scalar in float32."""
        with self.teacher.policy() as policy:
            teacher = policy.answers([self._teachers[member] for member in members]).logits.log_softmax(-1)
        student = self._policy.answers([self._students[member] for member in members]).logits.log_softmax(-1)
        first, second = (student, teacher) if self._reverse else (teacher, student)
        return (first.exp() * (first - second)).sum()

    def figures(self, members: Sequence[int]) -> dict[str, float]:
        """Nothing beside the loss."""
        return {}
