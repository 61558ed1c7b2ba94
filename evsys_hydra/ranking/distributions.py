"""Quantiles and tail probabilities, typed and vectorised: the only file that needs scipy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # type: ignore[import-untyped, unused-ignore]

Floats = NDArray[np.float64]

# Beyond this many degrees of freedom t and normal agree to 1e-9; stdtrit has no infinity.
LARGEST_DF = 1e9
# The largest normal score: keeps p = 0 finite.
LARGEST_Z = 37.0


def t_quantile(probability: float, df: ArrayLike) -> Floats:
    """The probability quantile of Student's t with df (> 0) degrees of freedom."""
    capped = np.minimum(np.asarray(df, dtype=float), LARGEST_DF)
    return np.asarray(special.stdtrit(capped, probability), dtype=float)


def matching_df(quantile: Floats) -> Floats:
    """The degrees of freedom whose t has this 97.5% quantile (by interpolation on a fine grid)."""
    return np.asarray(np.exp(np.interp(-np.log(quantile), _LOG_T_GRID, _LOG_DF_GRID)), dtype=np.float64)


def f_quantile(probability: float, df_above: ArrayLike, df_below: ArrayLike) -> Floats:
    """The probability quantile of the F distribution."""
    return np.asarray(special.fdtri(df_above, df_below, probability), dtype=float)


def t_two_sided(t: ArrayLike, df: ArrayLike) -> Floats:
    """P(|T| >= |t|) for Student's t with df degrees of freedom."""
    capped = np.minimum(np.asarray(df, dtype=float), LARGEST_DF)
    return np.minimum(1.0, 2.0 * np.asarray(special.stdtr(capped, -np.abs(t)), dtype=float))


def normal_quantile(probability: ArrayLike) -> Floats:
    """The quantile of the standard normal, clipped to +-37."""
    z: Floats = np.asarray(special.ndtri(probability), dtype=float)
    return np.clip(z, -LARGEST_Z, LARGEST_Z)


def normal_cdf(z: ArrayLike) -> Floats:
    """P(Z <= z) of the standard normal."""
    return np.asarray(special.ndtr(z), dtype=float)


_LOG_DF_GRID = np.linspace(np.log(1e-2), np.log(1e6), 4000)
_LOG_T_GRID = -np.log(t_quantile(0.975, np.exp(_LOG_DF_GRID)))


def mcnemar_mid_p(b: ArrayLike, c: ArrayLike) -> Floats:
    """Two-sided mid-p of McNemar's test from the discordant counts b and c (Fagerland et al. 2013); 1 where b = c."""
    b, c = np.asarray(b, dtype=float), np.asarray(c, dtype=float)
    n, fewer = b + c, np.minimum(b, c)
    log_pmf = special.gammaln(n + 1) - special.gammaln(fewer + 1) - special.gammaln(n - fewer + 1) - n * np.log(2.0)
    p = 2.0 * np.asarray(special.bdtr(fewer, n.astype(np.int64), 0.5), dtype=float) - np.exp(log_pmf)
    return np.where(b == c, 1.0, np.clip(p, 0.0, 1.0))
