"""Both readings together: what may be said of two groups when some scores are lost.

A difference counts only as far as it holds on the tasks all runs were scored on and also with every lost score counted
as the worst reward.
"""

from __future__ import annotations

import numpy as np

from .distributions import Floats, normal_quantile
from .pairs import PairTests
from .reading import Index, Reading, read_complete, read_worst
from .scores import Scores

# Below this many independent units nothing is inferred.
FEWEST_UNITS = 6
# Scalars: below this many degrees of freedom between runs nothing is inferred.
FEWEST_RUN_DF = 2


class Analysis:
    """Comparisons between the groups of `scores`; larger is better; groups are indices into `groups`."""

    def __init__(self, scores: Scores, alpha: float, rng_seed: int) -> None:
        self.groups = scores.groups
        self.alpha = alpha
        self.scores = scores
        self.missing = np.isnan(scores.values)
        complete = read_complete(scores)
        readings = [complete] if not self.missing.any() else [complete, read_worst(scores)]
        # Without a common task only the worst reading has an order to show.
        self.main: Reading = complete if complete.x.shape[1] else readings[-1]
        self.tests = [PairTests(reading, rng_seed) for reading in readings]
        self.can_infer = _can_infer(complete)

    @property
    def readings(self) -> list[Reading]:
        """The complete reading and, where scores are lost, the worst one."""
        return [test.reading for test in self.tests]

    def p_column(self, j: int, rows: Index) -> tuple[Floats, Floats]:
        """(p, p_eff) of each group in rows against j: p on the common tasks, p_eff the larger p of both readings,
        or 1 where the readings disagree about the sign."""
        others = np.full(len(rows), j, dtype=np.intp)
        p = self.tests[0].p_column(j, rows)
        p_eff = p.copy()
        sign = np.sign(self.readings[0].difference(rows, others))
        for test in self.tests[1:]:
            agree = np.sign(test.reading.difference(rows, others)) == sign
            p_eff = np.where(agree, np.maximum(p_eff, test.p_column(j, rows)), 1.0)
        return p, p_eff

    def z_column(self, j: int, rows: Index) -> Floats:
        """Signed normal score of each group in rows against j: sign(D) Phi^-1(1 - p_eff/2)."""
        others = np.full(len(rows), j, dtype=np.intp)
        _, p_eff = self.p_column(j, rows)
        return np.sign(self.main.difference(rows, others)) * -normal_quantile(p_eff / 2)

    def interval(self, i: Index, j: Index) -> tuple[Floats, Floats]:
        """Interval of means[i] - means[j]: the envelope of both readings."""
        ends = [test.interval(i, j, self.alpha) for test in self.tests if test.reading.x.shape[1]]
        return np.min([low for low, _ in ends], axis=0), np.max([high for _, high in ends], axis=0)


def _can_infer(complete: Reading) -> bool:
    if complete.scalar:
        return complete.seeds.total_df >= FEWEST_RUN_DF
    return complete.task.n_units >= FEWEST_UNITS
