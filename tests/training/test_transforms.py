from __future__ import annotations

from typing import Any

import pytest

from evsys_hydra import registry
from evsys_hydra.config import typed
from evsys_hydra.errors import DataError
from evsys_hydra.training.context import Row


def apply(rows: list[Row], kind: str, **settings: Any) -> list[Row]:
    config = typed(registry.transforms, {"kind": kind, **settings})
    result: list[Row] = registry.transforms.get(kind).target(rows, config)
    return result


NUMBERED = [{"text": str(number)} for number in range(20)]


def test_dedupe_keeps_the_first() -> None:
    rows = [{"text": "a", "id": 1}, {"text": "b", "id": 2}, {"id": 3, "text": "a"}, {"id": 1, "text": "a"}]
    assert apply(rows, "dedupe") == rows[:3]
    assert apply(rows, "dedupe", fields=["text"]) == rows[:2]


def test_filter_length_counts_all_the_text_of_a_row() -> None:
    chat = {"messages": [{"role": "user", "content": "12"}, {"role": "assistant", "content": "345"}]}
    rows: list[Row] = [chat, {"prompt": "1", "completion": "23"}, {"text": "1234567", "tag": "x"}]
    assert apply(rows, "filter_length", min_chars=4) == [rows[0], rows[2]]
    assert apply(rows, "filter_length", max_chars=5) == rows[:2]
    assert apply(rows, "filter_length", field="tag", min_chars=1) == [rows[2]]


def test_rename_and_a_missing_field() -> None:
    assert apply([{"q": 1, "a": 2, "b": 3}], "rename", fields={"q": "prompt", "a": "b"}) == [{"b": 2, "prompt": 1}]
    with pytest.raises(DataError, match="row 2 has no field 'q'; its fields: x"):
        apply([{"q": 1}, {"x": 1}], "rename", fields={"q": "prompt"})


def test_sample_is_deterministic_and_keeps_the_order() -> None:
    chosen = apply(NUMBERED, "sample", n=5)
    assert chosen == apply(NUMBERED, "sample", n=5) == sorted(chosen, key=NUMBERED.index)
    assert chosen != apply(NUMBERED, "sample", n=5, seed=1)
    assert len(apply(NUMBERED, "sample", fraction=0.25)) == 5
    assert apply(NUMBERED, "sample", n=100) == NUMBERED


def test_shuffle_is_deterministic() -> None:
    assert apply(NUMBERED, "shuffle") == apply(NUMBERED, "shuffle") != NUMBERED
    assert apply(NUMBERED, "shuffle") != apply(NUMBERED, "shuffle", seed=1)
    assert sorted(apply(NUMBERED, "shuffle"), key=NUMBERED.index) == NUMBERED


@pytest.mark.parametrize("settings", [{}, {"n": 1, "fraction": 0.5}, {"m": 1}])
def test_wrong_settings_are_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"exactly one of n, fraction|valid fields|Valid fields|Extra inputs"):
        apply(NUMBERED, "sample", **settings)
