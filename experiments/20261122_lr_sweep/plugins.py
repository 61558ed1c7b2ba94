"""Parts of this experiment's own; the names stand in config.yaml and in a benchmark's tasks.jsonl."""

from typing import Any

from evsys_hydra import KindConfig, register_transform, register_verifier


class LongAnswersLast(KindConfig):
    """Settings of the transform, typed: a misspelt key in config.yaml is an error that names it."""

    reverse: bool = False
    """Long answers first instead."""


@register_transform("lr_sweep_long_answers_last", config=LongAnswersLast)
def long_answers_last(rows: list[dict[str, Any]], config: LongAnswersLast) -> list[dict[str, Any]]:
    """Sort the training rows by the length of their answer."""
    return sorted(rows, key=lambda row: len(row["messages"][-1]["content"]), reverse=config.reverse)


@register_verifier("lr_sweep_same_letters")
def same_letters(output: str, expected: Any, params: dict[str, Any]) -> float:
    """1 if the output has the expected letters in any order, else 0."""
    return float(sorted(output.strip()) == sorted(str(expected)))
