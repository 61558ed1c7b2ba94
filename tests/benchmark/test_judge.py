"""A judge's reply: which number in it is the score."""

from __future__ import annotations

import pytest

from evsys_hydra.benchmark.judge import parse_score


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"reason": "so", "score": 0.75}', 0.75),
        ('```json\n{"score": "0.5", "reason": "so"}\n```', 0.5),
        ('{"score": 0, "reason": "an answer that meets all of it has score: 1"}', 0.0),
        ('First {"score": 1}. No: {"reason": "it is wrong", "score": 0}', 0.0),
        ("I think {so}. Score: 0.25", 0.25),
        ("The score: 1. It is right.", 1.0),
        ("score = 1e-1", 0.1),
        ("score: 1/10", None),
        ("score: 1 / 10", None),
        ("score: 10/10", None),
        ("score: 1 out of 10", None),
        ("score: 1%", None),
        ('{"score": 8}', None),
        ('{"score": -0.5}', None),
        ('{"score": null}', None),
        ('{"score": NaN}', None),
        ("It is right.", None),
        ("", None),
    ],
)
def test_parse_score(reply: str, score: float | None) -> None:
    assert parse_score(reply) == score
