"""Stopping early: equal groups hardly ever, however often one looks; clearly worse ones soon."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evsys_hydra.ranking import rank, write_conclusion
from evsys_hydra.ranking.early_stopping import ALPHA_STOP, BETS, log_wealth, loses_to
from tests.ranking.tables import Floats

LOOKS = range(32, 513, 32)


def runs(rng: np.random.Generator, *rates: float, tasks: int = 512) -> list[Floats]:
    return [(rng.random(tasks) < rate).astype(float) for rate in rates]


def test_the_wealth_is_that_of_its_bets() -> None:
    rival, own = np.array([1.0, 0.0, 1.0, 0.5]), np.array([0.0, 1.0, 0.0, 0.5])
    for margin in (0.0, 0.2):
        each = [math.prod(1 + bet * (d - margin) for d in rival - own) for bet in BETS]
        assert math.exp(log_wealth(rival, own, margin)) == pytest.approx(sum(each) / len(BETS))
    assert log_wealth(np.ones(3), np.zeros(3)) > log_wealth(np.ones(3), np.zeros(3), 0.1)
    assert log_wealth(rival[:0], own) == 0.0
    assert math.isfinite(log_wealth(np.zeros(5), np.ones(5), 7.0))


@pytest.mark.slow
def test_looking_again_and_again_keeps_the_level_which_a_t_test_does_not() -> None:
    rng, level, repetitions = np.random.default_rng(0), 0.1, 300
    crossed = by_t_test = 0
    for _ in range(repetitions):
        rival, own = runs(rng, 0.5, 0.5)
        crossed += any(log_wealth(rival[:n], own[:n]) >= math.log(1 / level) for n in LOOKS)
        by_t_test += any(stats.ttest_rel(rival[:n], own[:n], alternative="greater").pvalue <= level for n in LOOKS)
    assert crossed / repetitions <= level
    assert by_t_test / repetitions > 2 * level


def test_a_clearly_worse_group_is_stopped_soon_and_the_better_one_never() -> None:
    rng = np.random.default_rng(1)
    good, bad, fair = runs(rng, 0.9, 0.3, 0.8)
    first = next(n for n in LOOKS if loses_to([bad[:n]], {"good": [good[:n]]}, {"good": 1}, planned_own=1))
    assert first <= 64
    planned = {"good": 1, "fair": 1}
    assert loses_to([bad], {"good": [good], "fair": [fair]}, planned, planned_own=1) == "good"
    assert loses_to([good], {"bad": [bad], "fair": [fair]}, {"bad": 1, "fair": 1}, planned_own=1) is None
    assert loses_to([bad], {"good": [good[:10]]}, {"good": 1}, planned_own=1) is None
    assert loses_to([bad], {}, {}, planned_own=1) is None


def test_checkpoints_that_differ_are_not_recipes_that_differ() -> None:
    """Recipes whose seeds scatter alike: many tasks tell any two checkpoints apart, but not the recipes."""
    rng, repetitions = np.random.default_rng(2), 60
    stopped = by_checkpoint = 0
    for _ in range(repetitions):
        own, rival = (runs(rng, *np.clip(rng.normal(0.5, 0.15, 3), 0.05, 0.95), tasks=2000) for _ in range(2))
        stopped += loses_to(own, {"rival": rival}, {"rival": 3}, planned_own=3) is not None
        by_checkpoint += loses_to(own[:1], {"rival": rival[:1]}, {"rival": 1}, planned_own=1) is not None
    assert stopped / repetitions <= 2 * ALPHA_STOP
    assert by_checkpoint / repetitions > 0.3


def test_replicated_groups_far_apart_are_told_apart_once_the_spread_is_known() -> None:
    rng = np.random.default_rng(3)
    own, rival = runs(rng, 0.2, 0.22, 0.21), runs(rng, 0.9, 0.88, 0.91)
    assert loses_to(own, {"rival": rival}, {"rival": 3}, planned_own=3) == "rival"
    assert loses_to(own[:1], {"rival": rival[:1]}, {"rival": 3}, planned_own=3) is None


def table(*arms: dict[str, object]) -> dict[str, object]:
    metric = {"name": "pass_rate", "direction": "maximize", "kind": "per_task", "bounds": [0, 1]}
    return {"metric": metric, "arms": list(arms), "alpha": 0.04}


def arm(name: str, rewards: Floats, *, lost_to: str | None = None) -> dict[str, object]:
    per_task = {str(task): float(reward) for task, reward in enumerate(rewards)}
    return {"name": name, "group": name, "seed": 0, "lost_to": lost_to, "per_task": per_task}


def words(name: str, lost_to: str | None = None) -> dict[str, object]:
    return {"name": name, "group": name, "status": "completed", "score": 0.5, "lost_to": lost_to}


def test_stopped_groups_are_listed_with_what_was_saved_and_the_rest_is_ranked() -> None:
    good, fair, bad = runs(np.random.default_rng(4), 0.9, 0.7, 0.1, tasks=200)
    verdict = rank(table(arm("good", good), arm("fair", fair), arm("bad", bad[:64], lost_to="good")))
    assert (verdict["winner"], verdict["ranking"]) == ("good", ["good", "fair"])
    assert verdict["unranked"] == [{"arm": "bad", "group": "bad", "reason": "stopped", "tasks_scored": 64}]
    text = write_conclusion(verdict, [words("good"), words("fair"), words("bad", "good")])
    assert "(1% error): bad after 64 (behind good) of 200 tasks. That saved 136 of 600 answers to score." in text
    assert "Not ranked" not in text and "96% CI" in text


def test_the_last_group_left_is_the_winner() -> None:
    good, bad = runs(np.random.default_rng(5), 0.9, 0.1, tasks=200)
    verdict = rank(table(arm("good", good), arm("bad", bad[:32], lost_to="good")))
    assert (verdict["verdict"], verdict["winner"]) == ("winner", "good")
    text = write_conclusion(verdict, [words("good"), words("bad", "good")])
    assert text.startswith("good is the best of 2 groups: pass_rate 0.9") and "; the other was stopped early." in text
    assert rank(table(arm("good", good)))["verdict"] == "single_arm"


def test_who_lost_to_a_group_that_is_not_ranked_is_to_be_scored_in_full() -> None:
    good, bad = runs(np.random.default_rng(6), 0.9, 0.1, tasks=200)
    gone = {"name": "gone", "group": "gone", "seed": 0, "status": "failed"}
    verdict = rank(table(arm("good", good), arm("bad", bad[:32], lost_to="gone"), gone))
    assert verdict["verdict"] == "single_arm"
    text = write_conclusion(verdict, [words("good"), words("bad", "gone"), {**words("gone"), "status": "failed"}])
    assert "But gone is not ranked itself: score bad in full with evsys-hydra eval" in text


def test_a_lost_to_that_is_no_other_group_is_named() -> None:
    with pytest.raises(ValueError, match="arm 'a': lost_to is 'a'; it must be the name of another group, or null"):
        rank(table(arm("a", np.ones(8), lost_to="a")))
