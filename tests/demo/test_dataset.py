"""The training rows: repeatable, tagged, and disjoint from every benchmark."""

import pytest
from pydantic import ValidationError

from evsys_hydra.demo.benchmark import DemoBenchmark, demo_tasks
from evsys_hydra.demo.dataset import DemoData, demo_rows
from evsys_hydra.registry import datasets


def test_rows_are_chats_answered_in_the_tagged_style() -> None:
    rows = demo_rows(DemoData(n=100))
    assert len(rows) == 100
    for row in rows:
        user, assistant = row["messages"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        assert assistant["content"].startswith("<a>")
        assert assistant["content"].endswith("</a>")


def test_the_seed_decides_the_rows_and_a_smaller_n_is_their_beginning() -> None:
    rows = demo_rows(DemoData(n=40))
    assert demo_rows(DemoData(n=40)) == rows
    assert demo_rows(DemoData(n=15)) == rows[:15]
    assert demo_rows(DemoData(n=40, seed=1)) != rows


def test_families_can_be_chosen() -> None:
    rows = demo_rows(DemoData(n=12, families=["reverse"]))
    assert all(row["messages"][0]["content"].startswith("Reverse ") for row in rows)


def test_no_task_occurs_in_the_data_of_any_seed() -> None:
    tasks = {task["instruction"] for seed in range(4) for task in demo_tasks(DemoBenchmark(n=1000, seed=seed))}
    prompts = {row["messages"][0]["content"] for seed in range(8) for row in demo_rows(DemoData(n=2500, seed=seed))}
    assert len(tasks) > 2000
    assert len(prompts) > 8000
    assert not tasks & prompts


@pytest.mark.parametrize("config", [{"n": 0}, {"size": 3}, {"families": ["shout"]}, {"families": []}])
def test_a_bad_setting_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(config))):
        DemoData.model_validate(config)


def test_the_kind_is_registered() -> None:
    entry = datasets.get("demo")
    assert (entry.target, entry.config) == (demo_rows, DemoData)
