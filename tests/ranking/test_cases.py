"""The method case by case: what each kind of table may and may not claim."""

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from evsys_hydra.ranking import rank, ranking_rows
from evsys_hydra.ranking.comparisons import holm
from evsys_hydra.ranking.rows import COLUMNS

from .tables import Table, logistic_world, make_table, scalar_table

pytestmark = pytest.mark.filterwarnings("error")


def binary(passed: list[int], n: int) -> np.ndarray[Any, Any]:
    """One row a group: `passed` tasks of n passed, nested, so that differences are one-sided."""
    return np.array([[1.0] * p + [0.0] * (n - p) for p in passed])


def graded(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    return rng.random(shape)


def test_binary_single_runs_take_the_larger_of_t_and_mid_p_mcnemar() -> None:
    x = np.zeros((2, 60))
    x[0, :25], x[1, 17:30] = 1, 1
    row = rank(make_table(x))["differences"]["g01"]
    b, c = 17, 5
    mid_p = 2 * stats.binom.cdf(c, b + c, 0.5) - stats.binom.pmf(c, b + c, 0.5)
    t = 2 * stats.t.sf((b - c) / np.sqrt(b + c), 59)
    assert row["p"] == pytest.approx(max(mid_p, t))
    # Bonett and Price 2012: one discordant task added to each side.
    p12, p21, n = (b + 1) / 62, (c + 1) / 62, 62
    half = stats.norm.ppf(0.975) * np.sqrt((p12 + p21 - (p12 - p21) ** 2) / n)
    assert row["ci"] == pytest.approx([-(p12 - p21) - half, -(p12 - p21) + half])


def test_plain_binary_interval_is_wilsons() -> None:
    arm = rank(make_table(binary([30, 10], 40)))["arms"]["g00"]
    low, high = stats.binomtest(30, 40).proportion_ci(method="wilson")
    assert arm["ci"] == pytest.approx([low, high])
    assert arm["estimate"] == 0.75


def test_graded_single_runs_use_all_sign_flips() -> None:
    x = graded(np.random.default_rng(0), (2, 9))
    d = x[0] - x[1]
    signs = np.array(np.meshgrid(*[[-1, 1]] * 9)).reshape(9, -1)
    flipped = np.abs(d @ signs)
    observed = abs(d.sum())
    beyond, equal = np.sum(flipped > observed + 1e-9), np.sum(np.abs(flipped - observed) <= 1e-9)
    p = rank(make_table(x))["differences"]
    assert next(iter(p.values()))["p"] == pytest.approx((beyond + equal / 2) / 512)


def test_six_graded_units_never_reject_more_often_than_alpha() -> None:
    # mid-p would call 2 of the 32 flips significant, 6.25%; the plain p calls 1.
    x = np.array([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [0.1, 0.1, 0.1, 0.1, 0.1, 0.41]])
    row = rank(make_table(x))["differences"]["g01"]
    assert row["p"] == pytest.approx(2 / 32)


def test_identical_differences_are_no_proof_by_themselves() -> None:
    x = np.vstack([np.full(6, 0.6), np.full(6, 0.5)])
    verdict = rank(make_table(x))
    assert 0.02 < verdict["differences"]["g01"]["p"] < 0.05
    low, high = verdict["differences"]["g01"]["ci"]
    assert high - low > 0.2


@pytest.mark.parametrize("value", [0.0, 1.0, 0.37])
def test_equal_arms_without_variance(value: float) -> None:
    verdict = rank(make_table(np.full((4, 30), value), min_effect=0.5))
    assert (verdict["verdict"], verdict["winner"]) == ("inconclusive", None)
    assert verdict["best_set"] == ["g00", "g01", "g02", "g03"]
    assert all(row["p_eff"] == 1 for row in verdict["differences"].values())
    low, high = verdict["arms"]["g00"]["ci"]
    assert low <= value <= high
    assert high - low > 0.05
    assert verdict["best_score_corrected"] == pytest.approx(value)
    assert verdict["mde"] > 0.05


def test_a_clear_winner() -> None:
    verdict = rank(make_table(binary([80, 50, 48, 20], 100)))
    assert (verdict["verdict"], verdict["winner"], verdict["best_set"]) == ("winner", "g00", ["g00"])
    assert verdict["ranking"] == ["g00", "g01", "g02", "g03"]
    assert verdict["scope"] == "checkpoint"
    assert verdict["tasks_needed"] is None


def test_tie_at_the_top_excludes_what_is_behind() -> None:
    verdict = rank(make_table(binary([80, 79, 30], 100)))
    assert (verdict["verdict"], verdict["winner"], verdict["best_set"]) == ("tie_at_top", None, ["g00", "g01"])
    assert verdict["tasks_needed"] > 100


def test_one_group() -> None:
    verdict = rank(make_table(binary([30], 40), baseline="g00"))
    assert (verdict["verdict"], verdict["winner"], verdict["best_set"]) == ("single_arm", None, ["g00"])
    assert verdict["differences"] == {} == verdict["vs_baseline"]
    assert verdict["best_score_corrected"] == pytest.approx(0.75, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_under_six_units_only_the_order(n: int) -> None:
    verdict = rank(make_table(binary([n, 0], n), hypothesis={"better": "g00", "than": "g01"}, baseline="g01"))
    assert (verdict["verdict"], verdict["scope"]) == ("no_inference", "none")
    assert verdict["ranking"] == ["g00", "g01"] == verdict["best_set"]
    assert verdict["differences"]["g01"] == {"diff": -1.0, "ci": None, "p": None, "p_eff": None}
    assert verdict["vs_baseline"]["g00"]["p_adj"] is None
    assert verdict["hypothesis"]["call"] == "not_tested"
    assert "at least 6" in verdict["reason"]


def test_forty_tasks_in_five_clusters_are_five_units() -> None:
    verdict = rank(make_table(binary([40, 0], 40), clusters=[n % 5 for n in range(40)]))
    assert (verdict["verdict"], verdict["n_units"], verdict["n_tasks"]) == ("no_inference", 5, 40)


def test_clusters_widen_what_repeats_itself() -> None:
    rng = np.random.default_rng(1)
    few = graded(rng, (2, 30))
    copies = np.repeat(few, 10, axis=1)
    plain, clustered = (rank(make_table(copies, clusters=c)) for c in (None, np.repeat(np.arange(30), 10).tolist()))
    single = rank(make_table(few))
    assert clustered["arms"]["g00"]["se"] == pytest.approx(single["arms"]["g00"]["se"])
    assert plain["arms"]["g00"]["se"] < clustered["arms"]["g00"]["se"] / 2
    p_clustered, p_single = (next(iter(v["differences"].values()))["p"] for v in (clustered, single))
    assert p_clustered == pytest.approx(p_single, abs=0.02)


def test_minimize_mirrors() -> None:
    table = make_table(binary([80, 50], 100), baseline="g00")
    table["metric"]["direction"] = "minimize"
    verdict = rank(table)
    assert verdict["winner"] == "g01"
    assert verdict["arms"]["g01"]["estimate"] == 0.5
    assert verdict["differences"]["g00"]["diff"] == pytest.approx(0.3)
    assert verdict["vs_baseline"]["g01"]["diff"] == pytest.approx(-0.3)
    assert verdict["vs_baseline"]["g01"]["ci"][1] < 0
    assert verdict["best_score_corrected"] >= 0.5


def test_replicates_claim_the_recipe_and_count_the_seeds() -> None:
    rng = np.random.default_rng(2)
    # The groups differ on every task alike, but one run differs from the next by far more.
    base = rng.random(100) * 0.2
    shifts = {"a": [0.1, 0.5, 0.3], "b": [0.05, 0.45, 0.25]}
    rows = [base + shift for runs in shifts.values() for shift in runs]
    table = make_table(np.array(rows), ["a"] * 3 + ["b"] * 3, [0, 1, 2] * 2)
    verdict = rank(table)
    assert (verdict["scope"], verdict["verdict"]) == ("recipe", "inconclusive")
    assert verdict["arms"]["a"]["n_seeds"] == 3
    assert verdict["tasks_needed"] is None
    assert verdict["seeds_needed"] > 3
    single = rank(make_table(np.array([rows[0], rows[3]]), ["a", "b"]))
    assert (single["scope"], single["winner"]) == ("checkpoint", "a")


def test_one_seed_beside_replicates_borrows_their_variance() -> None:
    rng = np.random.default_rng(3)
    rows = [rng.random(50) * 0.1 + shift for shift in (0.5, 0.3, 0.4, 0.6, 0.7)]
    verdict = rank(make_table(np.array(rows), ["a"] * 4 + ["b"], [0, 1, 2, 3, 0]))
    assert verdict["scope"] == "recipe"
    assert any("one seed only" in note and "b" in note for note in verdict["notes"])
    assert verdict["arms"]["b"]["se"] > 0.1


def test_failed_and_incomplete_and_unscored_arms_are_listed_not_ranked() -> None:
    x = binary([10, 9, 8, 7], 20)
    x[1, 15:] = np.nan
    x[2, 16:] = np.nan
    table = make_table(x)
    table["arms"][3]["per_task"] = {}
    table["arms"].append({"name": "boom", "group": "g04", "seed": 0, "status": "failed"})
    verdict = rank(table)
    assert verdict["ranking"] == ["g00", "g02"]
    assert {(row["arm"], row["reason"]) for row in verdict["unranked"]} == {
        ("g01-s0", "incomplete"),
        ("g03-s0", "no_score"),
        ("boom", "failed"),
    }
    assert verdict["missing"] == {"g00": 0, "g02": 4}


def test_arms_scored_on_different_halves_cannot_be_ranked() -> None:
    x = np.ones((2, 20))
    x[0, :10], x[1, 10:] = np.nan, np.nan
    verdict = rank(make_table(x))
    assert (verdict["verdict"], verdict["ranking"]) == ("no_inference", [])
    assert "a fifth of the tasks" in verdict["reason"]


def test_a_group_is_ranked_on_the_runs_that_worked() -> None:
    x, groups, seeds = logistic_world(np.random.default_rng(4), 2, 40, 3)
    table = make_table(x, groups, seeds)
    table["arms"][0]["status"] = "failed"
    verdict = rank(table)
    assert verdict["arms"]["g00"]["n_seeds"] == 2
    assert len(verdict["ranking"]) == 2


def test_every_arm_failed() -> None:
    table = make_table(binary([3, 2], 10), baseline="g00", hypothesis={"better": "g00", "than": "g01"})
    for arm in table["arms"]:
        arm["status"] = "failed"
    verdict = rank(table)
    assert (verdict["verdict"], verdict["ranking"], verdict["best_set"]) == ("no_inference", [], [])
    assert verdict["hypothesis"]["call"] == "not_tested"
    assert len(verdict["unranked"]) == 2


def test_lost_failures_win_nothing() -> None:
    """An arm that loses the tasks it would have failed looks better on the rest; counted as failures it does not."""
    x = np.zeros((2, 100))
    x[0, :50], x[1, ::2] = 1, 1
    x[0, np.flatnonzero((x[0] == 0) & (x[1] == 1))[:20]] = np.nan
    verdict = rank(make_table(x))
    row = verdict["differences"]["g01"]
    assert row["p"] < 0.05 < row["p_eff"]
    assert verdict["verdict"] == "inconclusive"
    low, high = verdict["arms"]["g00"]["ci"]
    assert low < 50 / 100 < 50 / 80 < high


def test_readings_that_disagree_about_the_sign_give_p_one() -> None:
    x = np.vstack([np.full(20, 0.6), np.full(20, 0.5)])
    x[0, :4] = np.nan
    verdict = rank(make_table(x))
    assert verdict["differences"]["g01"]["p_eff"] == 1


def test_missing_without_bounds_counts_as_the_worst_seen_and_says_so() -> None:
    x = np.random.default_rng(6).normal(size=(2, 30))
    x[0, 0] = np.nan
    table = make_table(x)
    table["metric"]["bounds"] = None
    assert any("no bounds" in note for note in rank(table)["notes"])


def test_no_common_task() -> None:
    x = np.ones((6, 12))
    for row in range(6):
        x[row, 2 * row : 2 * row + 2] = np.nan
    verdict = rank(make_table(x))
    assert (verdict["verdict"], verdict["n_common_tasks"]) == ("no_inference", 0)
    assert "no task" in verdict["reason"]
    assert verdict["arms"]["g00"]["estimate"] == pytest.approx(10 / 12)


def test_baseline_with_holm() -> None:
    verdict = rank(make_table(binary([50, 60, 62, 90], 100), baseline="g00"))
    assert set(verdict["vs_baseline"]) == {"g01", "g02", "g03"}
    p = {group: row["p"] for group, row in verdict["vs_baseline"].items()}
    adjusted = {group: row["p_adj"] for group, row in verdict["vs_baseline"].items()}
    assert adjusted["g03"] == pytest.approx(3 * p["g03"])
    assert adjusted["g01"] == pytest.approx(max(p["g01"], adjusted["g02"]))
    assert all(adjusted[group] >= p[group] for group in p)


def test_holm_is_monotone_and_capped() -> None:
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("passed", "call"), [([80, 50], "supported"), ([50, 80], "contradicted"), ([51, 50], "not_resolved")]
)
def test_hypothesis_calls(passed: list[int], call: str) -> None:
    hypothesis = {"better": "g00", "than": "g01"}
    verdict = rank(make_table(binary(passed, 100), hypothesis=hypothesis))["hypothesis"]
    assert verdict["call"] == call
    assert verdict["diff"] == pytest.approx((passed[0] - passed[1]) / 100)


def test_hypothesis_about_an_unranked_group_is_not_tested() -> None:
    table = make_table(binary([80, 50, 20], 100), hypothesis={"better": "g00", "than": "g02"})
    table["arms"][2]["status"] = "failed"
    assert rank(table)["hypothesis"]["call"] == "not_tested"
    table["hypothesis"] = None
    assert rank(table)["hypothesis"]["call"] == "not_tested"


def reference_table() -> Table:
    table = make_table(binary([99, 80, 78, 40], 100), ["api", "a", "b", "base"], baseline="base")
    for arm in table["arms"]:
        arm["ranked"] = arm["group"] in ("a", "b")
    return table


def test_references_never_win_and_serve_as_baseline() -> None:
    verdict = rank(reference_table())
    assert verdict["ranking"] == ["a", "b"]
    assert set(verdict["references"]) == {"api", "base"}
    assert verdict["references"]["api"]["estimate"] == pytest.approx(0.99)
    assert set(verdict["vs_baseline"]) == {"a", "b"}
    assert verdict["vs_baseline"]["a"]["diff"] == pytest.approx(0.4)
    without = reference_table()
    without["arms"] = [arm for arm in without["arms"] if arm["ranked"]]
    without["baseline"] = None
    alone = rank(without)
    assert {key: verdict[key] for key in ("verdict", "best_set", "differences", "mde")} == {
        key: alone[key] for key in ("verdict", "best_set", "differences", "mde")
    }


def test_a_hypothesis_may_name_a_reference() -> None:
    table = reference_table()
    table["hypothesis"] = {"better": "a", "than": "api"}
    assert rank(table)["hypothesis"]["call"] == "contradicted"


def test_only_references() -> None:
    table = reference_table()
    table["arms"] = [arm for arm in table["arms"] if not arm["ranked"]]
    verdict = rank(table)
    assert (verdict["verdict"], verdict["ranking"]) == ("no_inference", [])
    assert set(verdict["references"]) == {"api", "base"}


def test_equivalent_needs_the_whole_interval_inside_the_margin() -> None:
    x = binary([500, 500], 1000)
    x[1, [0, 999]] = 0, 1
    assert rank(make_table(x, min_effect=0.05))["equivalent"] is True
    assert rank(make_table(x, min_effect=0.002))["equivalent"] is False
    assert rank(make_table(x))["equivalent"] is False
    assert rank(make_table(binary([900, 100], 1000), min_effect=0.9))["equivalent"] is False


def test_one_scalar_an_arm_is_the_order_only() -> None:
    verdict = rank(scalar_table({"a": [0.2], "b": [0.9]}))
    assert (verdict["verdict"], verdict["ranking"], verdict["scope"]) == ("no_inference", ["b", "a"], "none")
    assert verdict["arms"]["a"] == {"estimate": 0.2, "se": None, "ci": None, "n_seeds": 1}


def test_scalars_with_four_seeds_are_welchs() -> None:
    scores = {"a": [1.0, 1.2, 1.1, 1.3, 0.9], "b": [0.5, 0.9, 0.7, 0.6]}
    verdict = rank(scalar_table(scores))
    row = verdict["differences"]["b"]
    welch = stats.ttest_ind(scores["a"], scores["b"], equal_var=False)
    assert row["p"] == pytest.approx(welch.pvalue, rel=1e-6)
    interval = welch.confidence_interval()
    assert row["ci"] == pytest.approx([-interval.high, -interval.low], rel=1e-6)
    assert (verdict["winner"], verdict["scope"]) == ("a", "recipe")


def test_scalars_with_few_seeds_pool() -> None:
    scores = {"a": [1.0, 1.2, 1.1], "b": [0.9, 1.1, 1.0]}
    row = rank(scalar_table(scores))["differences"]["b"]
    assert row["p"] == pytest.approx(stats.ttest_ind(scores["a"], scores["b"]).pvalue, rel=1e-3)


def test_scalars_without_any_spread_prove_nothing() -> None:
    verdict = rank(scalar_table({"a": [1.0] * 5, "b": [0.0] * 5}))
    assert verdict["winner"] is None


def test_scalars_with_one_degree_of_freedom_infer_nothing() -> None:
    assert rank(scalar_table({"a": [1.0, 1.1], "b": [0.0]}))["verdict"] == "no_inference"


def test_the_rows_of_the_csv() -> None:
    verdict = rank(reference_table())
    rows = ranking_rows(verdict)
    assert [row["group"] for row in rows] == ["a", "b", "api", "base"]
    assert all(tuple(row) == COLUMNS for row in rows)
    assert rows[0]["diff_to_best"] == 0
    assert rows[1]["diff_to_best"] == pytest.approx(-0.02)
    assert [row["role"] for row in rows] == ["ranked", "ranked", "reference", "reference"]


def test_fifty_groups() -> None:
    x, groups, seeds = logistic_world(np.random.default_rng(7), 50, 60, lead=3.0)
    verdict = rank(make_table(x, groups, seeds))
    json.dumps(verdict, allow_nan=False)
    assert verdict["ranking"][0] == "g00"
    assert set(verdict["best_set"]) < set(verdict["ranking"])
