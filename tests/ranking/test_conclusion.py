"""The conclusion's words: what each verdict lets it say, and what no verdict does."""

import copy
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evsys_hydra.ranking import highest_arm, rank, write_conclusion

from .tables import Table, make_table, scalar_table
from .test_cases import binary, reference_table
from .test_properties import tables

FORBIDDEN = re.compile(r"no difference|trend|nearly significant|significan|no effect|equal\b|None\b|nan\b|inf\b", re.I)


def summary(table: Table) -> list[dict[str, Any]]:
    """The arms as the conclude step passes them."""
    arms = []
    for arm in table["arms"]:
        scores = list((arm.get("per_task") or {}).values())
        ok = arm["status"] == "ok"
        score = float(np.mean([np.mean(s) for s in scores])) if scores else arm.get("scalar")
        arms.append(
            {
                "name": arm["name"],
                "group": arm["group"],
                "status": "completed" if ok else "failed",
                "score": score if ok else None,
                "error": None if ok else "RuntimeError: CUDA out of memory\n  at step 3",
                "cause": None if ok else "out_of_memory",
            }
        )
    return arms


def conclude(table: Table, **words: Any) -> str:
    return write_conclusion(rank(table), summary(table), **words)


def test_a_winner_is_called_best_with_gap_interval_p_and_corrected_score() -> None:
    text = conclude(make_table(binary([80, 50, 48], 100)))
    claim = text.split("\n\n")[0]
    assert claim.startswith("g00 is the best of 3 groups: accuracy 0.800 (95% CI ")
    assert "corrected for being picked as the highest" in claim
    assert "ahead of the next group, g01, by 0.300 (95% CI " in claim
    assert "p < 0.001" in claim
    assert "100 tasks" in claim


def test_a_tie_says_who_cannot_be_told_apart() -> None:
    text = conclude(make_table(binary([80, 79, 30], 100)))
    assert text.startswith("g00 scored highest (accuracy 0.800")
    assert "but g01 can't be told apart from it" in text
    assert "Excluded from the top: g02." in text
    assert "could detect, with 80% power, a true gap of" in text
    assert "If the observed gap is real, about" in text


def test_one_seed_is_about_checkpoints() -> None:
    text = conclude(make_table(binary([80, 50], 100)))
    assert "these checkpoints, on tasks like these; retraining could change it." in text


def test_seeds_are_about_recipes() -> None:
    rng = np.random.default_rng(0)
    text = conclude(make_table(rng.random((6, 50)), ["a"] * 3 + ["b"] * 3, [0, 1, 2] * 2))
    assert "With 3 seeds per group this is about the recipes" in text
    assert "retraining" not in text


def test_no_inference_gives_the_order_only() -> None:
    text = conclude(scalar_table({"a": [0.2], "b": [0.9]}))
    assert text.startswith("No inference is possible: ")
    assert "In order of loss only: b 0.900 and a 0.200." in text
    assert "best" not in text.replace("Best arm", "")


def test_unranked_arms_are_named_with_why_and_missing_counts_are_quoted() -> None:
    x = binary([90, 50, 40], 100)
    x[1, 90:] = np.nan
    x[2, 70:] = np.nan
    table = make_table(x)
    table["arms"].append({"name": "boom", "group": "boom", "seed": 0, "status": "failed"})
    text = conclude(table)
    assert "g02-s0 (incomplete, scored on 70 of 100 tasks)" in text
    assert "boom (failed: out_of_memory: RuntimeError: CUDA out of memory at step 3)" in text
    assert "Missing scores: g01 10; 90 of 100 tasks have a score from every ranked run." in text


def test_baseline_reference_and_hypothesis() -> None:
    table = reference_table()
    table["hypothesis"] = {"better": "a", "than": "b"}
    text = conclude(table, hypothesis_text="A beats\nB")
    assert "Against the baseline base (p adjusted for 2 comparisons): a is better, +0.400 (95% CI " in text
    assert "For reference, not ranked: api 0.990" in text
    assert 'The hypothesis ("A beats B") is not resolved: a minus b is +0.020' in text


def test_a_hypothesis_in_words_alone_was_not_tested() -> None:
    text = conclude(make_table(binary([80, 50], 100)), hypothesis_text="Bigger is better")
    assert 'The hypothesis ("Bigger is better") was not tested: no pair of groups was named.' in text


def test_minimize_says_better_for_lower() -> None:
    table = make_table(binary([80, 50], 100), baseline="g00")
    table["metric"]["direction"] = "minimize"
    text = conclude(table)
    assert text.startswith("g01 is the best of 2 groups")
    assert "g01 is better, -0.300" in text
    assert "Best arm: g01-s0 at accuracy=0.5000." in text


def test_the_evsys_sentences() -> None:
    table = make_table(binary([80, 50, 20], 100))
    assert "Best arm: g00-s0 at accuracy=0.8000. 3/3 arms completed." in conclude(table)
    assert "Failed:" not in conclude(table)
    assert "Best arm: g00-s0 at bench.acc=0.8000." in conclude(table, metric_name="bench.acc")
    for arm in table["arms"][1:]:
        arm["status"] = "failed"
    assert "1/3 arms completed. Failed: g01-s0, g02-s0." in conclude(table)
    table["arms"][0]["status"] = "failed"
    text = conclude(table)
    assert "All 3 arms failed." in text
    assert "Best arm" not in text
    assert "arms completed" not in text


def test_arms_that_have_not_ended_are_not_called_failed() -> None:
    table = make_table(binary([80, 50, 20], 100))
    table["arms"][2]["status"] = "failed"
    arms = summary(table)
    arms[2].update(status="running", error=None, cause=None)
    text = write_conclusion(rank(table), arms)
    assert "Not ranked: g02-s0 (not finished)." in text
    assert "Not finished: g02-s0; this is what the others say so far." in text
    assert "2/3 arms completed." in text
    assert "ailed" not in text


def test_without_a_success_metric() -> None:
    arms = [{"name": "a", "group": "a", "status": "completed", "score": None, "error": None, "cause": None}]
    text = write_conclusion(None, arms, hypothesis_text="x is y")
    assert "No success metric was set" in text
    assert "1/1 arms completed." in text
    assert "Best arm" not in text


def test_the_highest_arm_is_the_run_not_the_group() -> None:
    rows = np.vstack([binary([90], 100), binary([10, 70, 70], 100)])
    table = make_table(rows, ["a", "a", "b", "b"], [0, 1, 0, 1])
    verdict = rank(table)
    assert verdict["ranking"][0] == "b"
    top = highest_arm(verdict, summary(table))
    assert top is not None and top["name"] == "a-s0"


def test_an_incomplete_arm_is_the_highest_only_if_nothing_else_is_scored() -> None:
    x = binary([50, 50], 100)
    x[0, 50:] = np.nan
    table = make_table(x)
    top = highest_arm(rank(table), summary(table))
    assert top is not None and top["name"] == "g01-s0"
    table["arms"][1]["status"] = "failed"
    top = highest_arm(rank(table), summary(table))
    assert top is not None and top["name"] == "g00-s0"


def test_names_with_commas_stay_readable() -> None:
    rows = np.ones((3, 20))
    text = conclude(make_table(rows, ["lr=1,r=8", "lr=2,r=8", "lr=3,r=8"]))
    assert "but lr=2,r=8 and lr=3,r=8 can't be told apart" in text


def test_equivalent_within_the_margin() -> None:
    x = binary([500, 500], 1000)
    text = conclude(make_table(x, min_effect=0.05))
    assert "lie within 0.050, the margin set beforehand: they are equivalent for this purpose." in text


@given(tables(), st.booleans())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_no_verdict_is_put_in_forbidden_words(table: Table, minimize: bool) -> None:
    table = copy.deepcopy(table)
    if minimize:
        table["metric"]["direction"] = "minimize"
    verdict = rank(table)
    text = write_conclusion(verdict, summary(table), hypothesis_text="h")
    assert not FORBIDDEN.search(text), text
    claims = text.replace("Best arm:", "")
    assert ("best" in claims) == (verdict["verdict"] == "winner"), text
    if verdict["missing"] and any(verdict["missing"].values()):
        assert "Missing scores:" in text
    for row in verdict["unranked"]:
        assert row["arm"] in text


@pytest.mark.parametrize("n_groups", [1, 2, 12])
def test_the_length_stays_bounded(n_groups: int) -> None:
    rng = np.random.default_rng(1)
    text = conclude(make_table((rng.random((n_groups, 60)) < 0.5).astype(float), baseline="g00"))
    assert len(text) < 3000
