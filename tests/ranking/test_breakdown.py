"""Breakdowns describe slices with the headline's definitions and standard errors."""

import numpy as np
import pytest

from evsys_hydra.ranking import breakdown


def test_the_definitions_of_the_headline() -> None:
    rows = breakdown([("easy", [1, 1]), ("easy", [0, 1, 1, 1]), ("hard", [0.5]), (None, [1.0]), ("easy", [])])
    assert list(rows) == ["__missing__", "easy", "hard"]
    easy = rows["easy"]
    assert easy["n"] == 2
    assert easy["mean_reward"] == pytest.approx((1 + 0.75) / 2)
    assert easy["mean_reward_se"] == pytest.approx(np.std([1, 0.75], ddof=1) / np.sqrt(2))
    assert easy["pass_rate"] == pytest.approx(5 / 6)
    assert rows["hard"] == {
        "n": 1,
        "mean_reward": 0.5,
        "mean_reward_se": None,
        "pass_rate": 0.0,
        "pass_rate_se": None,
    }
    assert rows["__missing__"]["n"] == 1


def test_with_one_sample_a_task_both_errors_agree() -> None:
    rewards = (np.random.default_rng(0).random(50) < 0.6).astype(float)
    row = breakdown(("a", [reward]) for reward in rewards)["a"]
    assert row["pass_rate_se"] == pytest.approx(row["mean_reward_se"])


def test_repeated_samples_of_a_task_are_not_more_tasks() -> None:
    rewards = (np.random.default_rng(1).random(50) < 0.6).astype(float)
    once, often = (breakdown([("a", [reward] * n) for reward in rewards])["a"] for n in (1, 20))
    assert once == pytest.approx(often)


def test_values_of_other_types_are_named_by_their_text() -> None:
    assert list(breakdown([(3, [1.0]), (True, [0.0])])) == ["3", "True"]
