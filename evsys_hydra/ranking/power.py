"""What a comparison can detect, and what it would take: for a finished ranking and before a sweep is paid for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .analysis import FEWEST_UNITS
from .distributions import normal_cdf, normal_quantile, t_quantile
from .pairs import PairTests
from .reading import read_worst
from .scores import collect
from .table import read_table

POWER = 0.8
# Assumptions when no pilot is given; every one is returned with the answer.
BASE_RATE = 0.5
CORRELATION = 0.5
SEED_SD = 0.02


@dataclass(frozen=True)
class Resolution:
    """What the best and the runner-up could have shown.

    Attributes:
        mde: the smallest true gap found with 80% power by this many tasks and seeds.
        tasks_needed: tasks that would find a gap as large as the observed one with 80% power, if that gap is real.
        seeds_needed: seeds a group that would, where more tasks cannot.
    """

    mde: float | None
    tasks_needed: int | None
    seeds_needed: int | None


def resolution(tests: PairTests, best: int, runner_up: int, alpha: float) -> Resolution:
    """What `tests` could show between two groups, with k = t_{1-alpha/2} + t_{.80}.

    mde = k sqrt(V); tasks = (V - Vseed) N / ((gap/k)^2 - Vseed); where that is negative, seeds = 2 sd^2 k^2 / gap^2.
    """
    reading = tests.reading
    i, j = np.array([best], dtype=np.intp), np.array([runner_up], dtype=np.intp)
    task = reading.task_variance(i, j)
    if task[0] == 0 and not reading.scalar:
        # Identical scores on these tasks do not mean that any gap could be seen.
        _, task = tests.with_two_more_tasks(reading.difference(i, j), task)
    seed = float(reading.seed_part(i, j)[0])
    df = float(reading.df(i, j, task)[0])
    factor = float(t_quantile(1 - alpha / 2, df) + t_quantile(POWER, df))
    mde = _finite(factor * math.sqrt(float(task[0]) + seed))
    gap = abs(float(reading.difference(i, j)[0]))
    if gap == 0 or mde is None or mde == 0:
        return Resolution(mde or None, None, None)
    room = (gap / factor) ** 2 - seed
    if room > 0 and not reading.scalar:
        needed = math.ceil(float(task[0]) * reading.x.shape[1] / room)
        return Resolution(mde, max(needed, FEWEST_UNITS), None)
    seed_variance = float(reading.seeds.net[best] + reading.seeds.net[runner_up])
    seeds = math.ceil(seed_variance * factor**2 / gap**2)
    return Resolution(mde, None, max(seeds, 2))


def detectable(
    n_tasks: int,
    n_seeds: int,
    n_groups: int,
    *,
    pilot: Mapping[str, object] | None = None,
    base_rate: float | None = None,
    correlation: float | None = None,
    seed_sd: float | None = None,
    alpha: float = 0.05,
) -> dict[str, object]:
    """The smallest lead over all other groups that a sweep would find with 80% power, before it is run.

    The leader must be separated from each of the n_groups - 1 others, all of them the same gap behind (the least
    favourable case): 80% is the chance that all of these paired tests succeed.

    Args:
        n_tasks: tasks (or clusters, where tasks are clustered) of the benchmark.
        n_seeds: runs of every group; 1 leaves the seed variance out and the claim holds for the checkpoints only.
        n_groups: groups to rank, at least 2.
        pilot: a table as for `rank`; its paired differences and seed variance replace the assumptions.
        base_rate: assumed share of passed tasks (default 0.5, the least favourable).
        correlation: assumed correlation of two groups' scores over tasks (default 0.5).
        seed_sd: assumed standard deviation of a group's mean between seeds (default 0.02, or the pilot's).
        alpha: two-sided error rate.

    Returns:
        detectable: the gap in the metric's units, None where nothing can be inferred; n_tasks, n_seeds, n_groups,
        alpha, power, scope; assumptions: the numbers used and where they come from; text: one sentence.

    Raises:
        ValueError: for counts or rates out of range, naming the value.
        TableError: for a malformed pilot.
    """
    _check(n_tasks, n_seeds, n_groups, base_rate, correlation, seed_sd, alpha)
    variance, seed_variance, assumptions = _components(pilot, n_seeds, base_rate, correlation, seed_sd)
    seed = seed_variance / n_seeds if n_seeds > 1 else 0.0
    total = variance / n_tasks + 2.0 * seed
    gap: float | None = None
    if n_tasks >= FEWEST_UNITS and total > 0:
        df = _plan_df(variance / n_tasks, 2.0 * seed, n_tasks - 1, n_groups * (n_seeds - 1))
        z = _lead_quantile(n_groups) * float(t_quantile(POWER, df) / normal_quantile(POWER))
        gap = (float(t_quantile(1 - alpha / 2, df)) + z) * math.sqrt(total)
    scope = "recipe" if n_seeds > 1 else "checkpoint"
    return {
        "detectable": gap,
        "n_tasks": n_tasks,
        "n_seeds": n_seeds,
        "n_groups": n_groups,
        "alpha": alpha,
        "power": POWER,
        "scope": scope,
        "assumptions": assumptions,
        "text": _sentence(gap, n_tasks, n_seeds, n_groups, assumptions),
    }


def _components(
    pilot: Mapping[str, object] | None,
    n_seeds: int,
    base_rate: float | None,
    correlation: float | None,
    seed_sd: float | None,
) -> tuple[float, float, dict[str, object]]:
    """(variance of one task's paired difference, seed variance of a run's mean, what was assumed)."""
    measured = _pilot_components(pilot, n_seeds) if pilot is not None else None
    if measured is not None:
        variance, pilot_seed, pairs = measured
        seed_source = "assumed" if pilot_seed is None or seed_sd is not None else "pilot"
        chosen = seed_sd if seed_sd is not None else SEED_SD if pilot_seed is None else math.sqrt(pilot_seed)
        return (
            variance,
            chosen**2,
            {
                "source": "pilot",
                "pairs": pairs,
                "difference_sd": math.sqrt(variance),
                "seed_sd": chosen,
                "seed_sd_source": seed_source,
            },
        )
    rate = BASE_RATE if base_rate is None else base_rate
    rho = CORRELATION if correlation is None else correlation
    sd = SEED_SD if seed_sd is None else seed_sd
    assumptions: dict[str, object] = {
        "source": "assumed",
        "base_rate": rate,
        "correlation": rho,
        "seed_sd": sd,
        "seed_sd_source": "assumed",
    }
    return 2.0 * rate * (1.0 - rate) * (1.0 - rho), sd**2, assumptions


def _pilot_components(pilot: Mapping[str, object], n_seeds: int) -> tuple[float, float | None, int] | None:
    """Mean variance of a task's paired difference over all pairs, mean seed variance (None without replicates), pairs.

    The part that is noise between runs (the residual) is taken from the pilot's number of seeds to n_seeds.
    None where the pilot has fewer than two groups, six tasks, or any variance at all.
    """
    table = read_table(pilot)
    collected = collect(table)
    groups = collected.ranked + collected.references
    if collected.scores is None or table.metric.kind == "scalar" or len(groups) < 2:
        return None
    reading = read_worst(collected.scores.only(groups))
    if reading.task.n_units < FEWEST_UNITS:
        return None
    i, j = np.triu_indices(len(groups), k=1)
    seeds = reading.seeds
    change = seeds.residual * (1.0 / n_seeds - 1.0 / seeds.counts)
    over_tasks = np.maximum(reading.task_variance(i, j) + change[i] + change[j], 0.0)
    variance = float(np.mean(over_tasks)) * reading.task.n_units
    seed = float(np.mean(seeds.net)) if seeds.replicated else None
    return (variance, seed, len(i)) if variance > 0 else None


def _plan_df(task: float, seed: float, df_task: float, df_seed: float) -> float:
    if seed == 0:
        return df_task
    return (task + seed) ** 2 / (task**2 / df_task + seed**2 / max(df_seed, 1.0))


def _lead_quantile(n_groups: int) -> float:
    """x with P(all n-1 leads >= -x) = 0.8 for leads that share the leader's error: correlation 1/2, variance 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    low, high = -2.0, 8.0
    for _ in range(80):
        middle = (low + high) / 2
        chance = float(weights @ normal_cdf(math.sqrt(2.0) * middle + nodes) ** (n_groups - 1))
        low, high = (middle, high) if chance < POWER else (low, middle)
    return (low + high) / 2


def _sentence(gap: float | None, n_tasks: int, n_seeds: int, n_groups: int, assumptions: Mapping[str, object]) -> str:
    size = f"{n_groups} groups x {n_seeds} seed{'' if n_seeds == 1 else 's'} on {n_tasks:,} tasks"
    if gap is None:
        return f"{size}: nothing can be inferred; at least {FEWEST_UNITS} tasks with varying scores are needed."
    basis = "from the pilot's variances"
    if assumptions["source"] == "assumed":
        basis = f"assuming a base rate of {assumptions['base_rate']} and correlation {assumptions['correlation']}"
    if n_seeds == 1:
        return f"{size} can detect a lead of {gap:.3f} with 80% power between these checkpoints, {basis}."
    sd = f"{assumptions['seed_sd_source']} seed sd {assumptions['seed_sd']:.3f}"
    return f"{size} can detect a lead of {gap:.3f} with 80% power, {basis} and {sd}."


def _check(
    n_tasks: int,
    n_seeds: int,
    n_groups: int,
    base_rate: float | None,
    correlation: float | None,
    seed_sd: float | None,
    alpha: float,
) -> None:
    for name, value, least in (("n_tasks", n_tasks, 1), ("n_seeds", n_seeds, 1), ("n_groups", n_groups, 2)):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")
    ranges = (
        ("base_rate", base_rate, 0.0, 1.0),
        ("correlation", correlation, -1.0, 0.999),
        ("seed_sd", seed_sd, 0.0, math.inf),
        ("alpha", alpha, 1e-9, 0.5),
    )
    for field, number, low, high in ranges:
        if number is not None and not low <= number <= high:
            raise ValueError(f"{field} is {number}; it must lie between {low} and {high}")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
