"""Which groups can no longer be the best, decided again and again while tasks are being scored.

A fixed-size test that is looked at repeatedly errs more often than it says. Here a group is stopped by betting against
it (Waudby-Smith & Ramdas 2024, Estimating means of bounded random variables by betting): with tasks in random order and
d_t = rival's reward - own reward in [-1, 1], the wealth prod(1 + bet (d_t - margin)) is a nonnegative supermartingale
if the true mean of d is at most the margin, so by Ville's inequality it ever reaches 1/level with probability at most
level, however often and whenever one looks. The wealth is the average over several fixed bets, each decreasing in the
margin, so the margin may be chosen late.

The best group is compared with each of its K - 1 rivals and with each number of seeds that have been there so far;
the level is divided by all of these, so the best is stopped with probability at most ALPHA_STOP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .distributions import Floats, t_quantile

ALPHA_STOP = 0.01
"""Probability with which the truly best group may be stopped; the final analysis has the rest of 0.05."""
BETS = 0.5 ** np.arange(1, 8)
"""From a half, which no difference can ruin, to what a gap of one point calls for."""
MOST_MARGIN = 0.999
"""Below 1, so that the largest bet is never ruined."""


def loses_to(
    own: Sequence[Floats], rivals: Mapping[str, Sequence[Floats]], planned: Mapping[str, int], *, planned_own: int
) -> str | None:
    """The rival that a group is shown to be worse than, by the strongest evidence; None while it may be the best.

    Args:
        own: rewards of each of its runs so far, larger is better, in [0, 1] or [-1, 0], on the first tasks of one
            random order that all runs share; runs in the fixed order of their seeds, of any length.
        rivals: the same of every other group.
        planned: how many runs each rival was to have, those that failed included.
        planned_own: how many runs the group will have.
    """
    replicated = max([planned_own, *planned.values()], default=1) > 1
    level = ALPHA_STOP / max(1, len(planned)) / (2 if replicated else 1)
    spread = _seed_spread([own, *rivals.values()]) if replicated else None
    if replicated and spread is None:  # how far retraining would move a group is not known yet
        return None
    strongest: tuple[float, str] | None = None
    for name in sorted(rivals):
        sets = planned_own * planned[name]
        for mine in range(1, len(own) + 1):
            for theirs in range(1, len(rivals[name]) + 1):
                margin = 0.0
                if spread is not None:
                    margin = seed_margin(own[:mine], rivals[name][:theirs], spread, level / sets)
                wealth = log_wealth(_mean(rivals[name][:theirs]), _mean(own[:mine]), margin)
                if wealth >= math.log(sets / level) and (strongest is None or wealth > strongest[0]):
                    strongest = (wealth, name)
    return strongest[1] if strongest else None


def log_wealth(rival: Floats, own: Floats, margin: float = 0.0) -> float:
    """Logarithm of the wealth of betting that the rival is better by more than the margin, on the tasks both have."""
    n = min(len(rival), len(own))
    if n == 0:
        return 0.0
    gains = np.log1p(np.outer(BETS, rival[:n] - own[:n] - min(margin, MOST_MARGIN))).sum(axis=1)
    return float(np.logaddexp.reduce(gains) - math.log(len(BETS)))


def seed_margin(own: Sequence[Floats], rival: Sequence[Floats], spread: tuple[float, int], level: float) -> float:
    """How far seeds alone may move two groups of equal recipes apart: t_(1 - level, df) sqrt(v_own/n + v_rival/m).

    Args:
        spread: pooled variance between the seeds of a group, and its degrees of freedom; a group's own is taken if
            it is larger.
    """
    pooled, df = spread
    parts = [max(pooled, _variance(runs) or 0.0) / len(runs) for runs in (own, rival)]
    return float(t_quantile(1 - level, df)) * math.sqrt(sum(parts))


def _seed_spread(groups: Sequence[Sequence[Floats]]) -> tuple[float, int] | None:
    """Variance between the runs of a group, pooled over the groups, and its degrees of freedom; None without any.

    The noise of the tasks is in it too, which makes it rather too large.
    """
    found = [(variance, len(runs) - 1) for runs in groups if (variance := _variance(runs)) is not None]
    df = sum(part for _, part in found)
    return (sum(variance * part for variance, part in found) / df, df) if df else None


def _variance(runs: Sequence[Floats]) -> float | None:
    n = min(map(len, runs), default=0)
    if len(runs) < 2 or n == 0:
        return None
    return float(np.var([run[:n].mean() for run in runs], ddof=1))


def _mean(runs: Sequence[Floats]) -> Floats:
    n = min(map(len, runs))
    return np.asarray(np.mean([run[:n] for run in runs], axis=0))
