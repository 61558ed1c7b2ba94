"""Rows that a model answers in training, and how each answer is checked.

A row is a benchmark task (`instruction`), or has a `prompt` or `messages` in its place; `verifier` is the same as in a
benchmark's tasks.jsonl. So `data=file data.path=train/tasks.jsonl` trains on a folder of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from ...benchmark.task import InProcess, LlmJudge, Task
from ...benchmark.verification import off, runs_code, wrong_code
from ...errors import DataError, UnknownKind
from ...problems import describe_validation
from ...registry import verifiers
from ..context import Row
from ..shapes import chat_problem

ACCEPTED = "{instruction, prompt or messages} with a verifier {kind: in_process, fn_name, expected, params}"
PROMPTS = ("messages", "prompt", "instruction")


@dataclass(frozen=True)
class Prompt:
    """What the model is asked.

    Args:
        id: unique among the prompts of a training.
        messages: the chat that it answers.
        instruction: the last of them, for the record.
    """

    id: str
    messages: tuple[dict[str, str], ...]
    instruction: str


def task_problem(row: object, *, sandbox: bool = False) -> str | None:
    """What keeps a row from being trained on by reward, naming the field; None: nothing.

    Args:
        sandbox: whether verifiers may run the answer's code.
    """
    if not isinstance(row, dict):
        return f"a row must be an object with fields, not {type(row).__name__}"
    given = ", ".join(map(str, row)) or "none"
    field = next((name for name in PROMPTS if name in row), None)
    if field is None:
        return (
            f"messages, prompt or instruction: one of them is needed (fields: {given}); grpo takes rows of {ACCEPTED}"
        )
    if "verifier" not in row:
        return f"verifier: is missing (fields: {given}); grpo takes rows of {ACCEPTED}"
    if field == "messages" and (problem := chat_problem(row["messages"])):
        return f"messages{problem}"
    try:
        task = task_of(row, 0)
    except ValidationError as error:
        return "; ".join(describe_validation(error, Task))
    if isinstance(task.verifier, LlmJudge):
        return f"verifier.kind: {task.verifier.kind!r} gives no reward in training; use in_process"
    if isinstance(task.verifier, InProcess):
        try:
            verifiers.get(task.verifier.fn_name)
        except UnknownKind as error:
            return f"verifier.fn_name: {error}"
    if runs_code(task) and not sandbox:
        return off("algorithm")
    return wrong_code(task)


def task_of(row: Row, number: int) -> Task:
    """A row as a benchmark task.

    Raises:
        ValidationError: it is none.
    """
    instruction = row["messages"][-1].get("content") if "messages" in row else row.get("prompt", row.get("instruction"))
    return Task.model_validate(
        {
            "task_id": str(row.get("task_id", f"row-{number}")),
            "instruction": instruction,
            "verifier": row["verifier"],
            "system_prompt": row.get("system_prompt"),
            "metadata": row.get("metadata") or {},
        }
    )


def tasks_of(rows: Sequence[Row]) -> list[Task]:
    """All rows as tasks.

    Raises:
        DataError: two of them have one task_id.
    """
    tasks = [task_of(row, number) for number, row in enumerate(rows, start=1)]
    first: dict[str, int] = {}
    for number, task in enumerate(tasks, start=1):
        if first.setdefault(task.task_id, number) != number:
            raise DataError(f"rows {first[task.task_id]} and {number} have the same task_id {task.task_id!r}")
    return tasks


def prompt_of(row: Row, task: Task) -> Prompt:
    """What the model is asked in a row."""
    if "messages" in row:
        messages = tuple({"role": message["role"], "content": message["content"]} for message in row["messages"])
    else:
        system = [{"role": "system", "content": task.system_prompt}] if task.system_prompt else []
        messages = (*system, {"role": "user", "content": task.instruction})
    return Prompt(task.task_id, messages, task.instruction)
