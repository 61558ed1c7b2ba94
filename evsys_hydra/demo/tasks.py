"""The row of a `tasks.jsonl`, as the built-in benchmarks make it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Literal, TypedDict


class Verifier(TypedDict):
    """How an answer is checked: a registered verifier, the expected answer and the verifier's settings."""

    kind: Literal["in_process"]
    fn_name: str
    expected: str
    params: dict[str, float | str | bool]


class Task(TypedDict):
    """One task of a benchmark."""

    task_id: str
    instruction: str
    verifier: Verifier
    metadata: dict[str, str]


class Draft(TypedDict):
    """A task before it is numbered."""

    instruction: str
    expected: str
    metadata: dict[str, str]


def number(name: str, fn_name: str, drafts: Iterable[Draft], n: int) -> list[Task]:
    """The first `n` drafts with distinct instructions, as tasks `<name>-0000`, `<name>-0001`, ...

    Args:
        name: the benchmark's name.
        fn_name: the verifier of all its tasks.
        drafts: enough drafts to hold `n` distinct instructions.
        n: how many tasks.
    """
    return [
        {
            "task_id": f"{name}-{place:04d}",
            "instruction": draft["instruction"],
            "verifier": {"kind": "in_process", "fn_name": fn_name, "expected": draft["expected"], "params": {}},
            "metadata": draft["metadata"],
        }
        for place, draft in enumerate(islice(_distinct(drafts), n))
    ]


def _distinct(drafts: Iterable[Draft]) -> Iterable[Draft]:
    seen: set[str] = set()
    for draft in drafts:
        if draft["instruction"] not in seen:
            seen.add(draft["instruction"])
            yield draft
