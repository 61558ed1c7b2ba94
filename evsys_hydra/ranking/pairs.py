"""p-values and intervals of the difference between two groups, in one reading.

The t test imposes the null on its variance, so identical differences on every task give no p of 0. Single runs use the
exact tests where there is one: mid-p McNemar for binary rewards, sign flips of whole units otherwise.
"""

from __future__ import annotations

import numpy as np

from .distributions import Floats, mcnemar_mid_p, t_quantile, t_two_sided
from .flips import LARGEST_UNITS, SignFlips
from .reading import Index, Reading


class PairTests:
    """The tests of one reading. Groups are indices; i and j are index arrays of one shape."""

    def __init__(self, reading: Reading, rng_seed: int) -> None:
        self.reading = reading
        self._rng_seed = rng_seed
        self._flips: SignFlips | None = None

    def p_column(self, j: int, rows: Index) -> Floats:
        """Two-sided p of each group in `rows` against group j."""
        reading = self.reading
        others = np.full(len(rows), j, dtype=np.intp)
        p = self._p_t(rows, others)
        counts = reading.seeds.counts
        single = (counts[rows] == 1) & (counts[j] == 1)
        if reading.scalar or not single.any():
            return p
        binary = single & reading.binary[rows] & reading.binary[j]
        if binary.any():
            p = np.where(binary, np.maximum(p, self._p_mcnemar(rows, j)), p)
        flipped = single & ~binary
        if flipped.any() and reading.task.n_units <= LARGEST_UNITS:
            at = np.flatnonzero(flipped)
            exact = self._sign_flips().against(j, rows[at])
            p[at] = np.maximum(p[at], exact) if reading.seeds.replicated else exact
        return p

    def _p_t(self, i: Index, j: Index) -> Floats:
        reading = self.reading
        d = reading.difference(i, j)
        task = self.null_task_variance(i, j)
        total = task + reading.seed_part(i, j)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = d / np.sqrt(total)
        p = t_two_sided(np.where(total > 0, t, 0.0), reading.df(i, j, task))
        return np.where((total <= reading.tolerance**2) | (d == 0), 1.0, p)

    def null_task_variance(self, i: Index, j: Index) -> Floats:
        """Task variance of the difference as if its true mean were 0: V (C-1)/C + D^2/C, C the effective units."""
        reading = self.reading
        if reading.scalar:
            return np.zeros(len(i))
        c = max(reading.task.effective_units, 1.0)
        return reading.task_variance(i, j) * (c - 1.0) / c + reading.difference(i, j) ** 2 / c

    def _p_mcnemar(self, i: Index, j: int) -> Floats:
        """mid-p from the counts of tasks that only one of the two passed; only meaningful for binary rows."""
        if self.reading.bounds is None:
            raise AssertionError("binary rewards have bounds")
        passed = (self.reading.x == self.reading.bounds[1]).astype(float)
        both = passed[i] @ passed[j]
        return mcnemar_mid_p(passed[i].sum(axis=1) - both, passed[j].sum() - both)

    def _sign_flips(self) -> SignFlips:
        if self._flips is None:
            self._flips = SignFlips(self.reading.task.shares, self._rng_seed, self.reading.tolerance)
        return self._flips

    def interval(self, i: Index, j: Index, alpha: float) -> tuple[Floats, Floats]:
        """1 - alpha interval of means[i] - means[j].

        t with Satterthwaite's df. Binary single runs: Bonett and Price 2012, which adds one discordant task to either
        side; where the t interval would have no width, the same two pseudo-tasks of the metric's whole range.
        """
        reading = self.reading
        d = reading.difference(i, j)
        task = reading.task_variance(i, j)
        total = task + reading.seed_part(i, j)
        half = t_quantile(1 - alpha / 2, reading.df(i, j, task)) * np.sqrt(total)
        centre = d.copy()
        if not reading.scalar:
            bonett = reading.binary[i] & reading.binary[j] & (reading.seed_part(i, j) == 0)
            flat = (task == 0) & ~bonett
            for chosen, z in ((bonett, t_quantile(1 - alpha / 2, np.inf)), (flat, None)):
                if chosen.any():
                    c_adjusted, v_adjusted = self.with_two_more_tasks(d[chosen], task[chosen])
                    quantile = t_quantile(1 - alpha / 2, reading.df_task) if z is None else z
                    centre[chosen] = c_adjusted
                    half[chosen] = quantile * np.sqrt(v_adjusted + reading.seed_part(i, j)[chosen])
        low, high = centre - half, centre + half
        if reading.bounds is not None:
            reach = reading.bounds[1] - reading.bounds[0]
            low, high = np.maximum(low, -reach), np.minimum(high, reach)
        return np.minimum(low, d), np.maximum(high, d)

    def with_two_more_tasks(self, d: Floats, task: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of the mean after adding one difference of +range and one of -range to the N units.

        For differences of -1, 0 and 1 this is Bonett and Price's (b+1, c+1, N+2).
        """
        reading = self.reading
        n = float(reading.task.n_units)
        reach = reading.bounds[1] - reading.bounds[0] if reading.bounds else float(np.ptp(reading.x))
        squares = n * (task * (n - 1.0) + d**2) + 2.0 * reach**2
        mean = n * d / (n + 2.0)
        return mean, (squares / (n + 2.0) - mean**2) / (n + 2.0)
