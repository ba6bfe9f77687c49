"""Intraclass correlation of raters that measure the same cases: ICC(2,1) of Shrout and Fleiss (1979).

Two-way random effects, absolute agreement, single measurement: a constant shift between raters lowers it, as it lowers
Lin's concordance correlation and not Pearson's r.
"""

import math

import numpy as np
from scipy import special

from cardiac_jax.errors import InputError
from cardiac_jax.metrics.agreement import FEWEST_PATIENTS, Estimate


def icc(pred: np.ndarray, truth: np.ndarray) -> Estimate:
    """ICC(2,1) of predictions and gold-standard values `[n]`; raises as `icc_of`."""
    return icc_of(np.stack([pred, truth], axis=-1))


def icc_of(ratings: np.ndarray) -> Estimate:
    """ICC(2,1) of ratings `[n, k]` of n cases by k raters, with its 95% interval (McGraw and Wong 1996, table 7).

    With the mean squares of cases MSR, raters MSC and error MSE:
      ICC(2,1) = (MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n).
    NaN if all ratings are equal. The interval has no width if MSE and MSC are 0.

    Raises:
      InputError: there are fewer than two cases.
      ValueError: there are fewer than two raters, or a rating is not finite.
    """
    if np.ndim(ratings) != 2 or np.shape(ratings)[1] < 2 or not np.isfinite(ratings).all():
        raise ValueError(f"ratings {np.shape(ratings)} are not finite values of cases x raters")
    x = np.asarray(ratings, np.float64)
    n, k = x.shape
    if n < FEWEST_PATIENTS:
        raise InputError("intraclass correlation", f"needs at least {FEWEST_PATIENTS} cases, got {n}")
    mean, by_case, by_rater = x.mean(), x.mean(axis=1, keepdims=True), x.mean(axis=0, keepdims=True)
    msr = k * float(((by_case - mean) ** 2).sum()) / (n - 1)
    msc = n * float(((by_rater - mean) ** 2).sum()) / (k - 1)
    mse = float(((x - by_case - by_rater + mean) ** 2).sum()) / ((n - 1) * (k - 1))
    whole = msr + (k - 1) * mse + k * (msc - mse) / n
    if whole == 0.0:
        return Estimate(math.nan, math.nan, math.nan)
    value = (msr - mse) / whole
    if mse == 0.0 or value >= 1.0:  # the latter by rounding
        same = math.nan if msc else value
        return Estimate(value, same, same)
    return Estimate(value, *_interval(value, msr, msc, mse, n, k))


def _interval(value: float, msr: float, msc: float, mse: float, n: int, k: int) -> tuple[float, float]:
    """95% interval by Satterthwaite's degrees of freedom."""
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    v = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))
    upper, lower = float(special.fdtri(n - 1, v, 0.975)), float(special.fdtri(v, n - 1, 0.975))
    rest = k * msc + (k * n - k - n) * mse
    low = n * (msr - upper * mse) / (upper * rest + n * msr)
    high = n * (lower * msr - mse) / (rest + n * lower * msr)
    return low, high
