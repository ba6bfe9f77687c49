"""Agreement of two measurements of one quantity on the same cases, e.g. predicted and gold-standard volumes.

Differences are prediction minus gold standard, in the unit given by the caller. Intervals are 95% intervals.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from cardiac_jax.errors import InputError
from cardiac_jax.metrics.summary import Rows, by_case

LIMIT = 1.96  # SDs of the differences from the bias to the 95% limits of agreement
FEWEST_CASES = 2


class Estimate(NamedTuple):
    """A value and its 95% confidence interval; the interval is NaN if there are too few cases."""

    value: float
    low: float
    high: float


class BlandAltman(NamedTuple):
    """Bias and limits of agreement.

    Attributes:
      n: number of cases.
      unit: unit of all values below.
      bias: mean difference.
      sd: standard deviation of the differences (n - 1).
      lower, upper: limits of agreement, bias -+ 1.96 SD.
    """

    n: int
    unit: str
    bias: Estimate
    sd: float
    lower: Estimate
    upper: Estimate


class Agreement(NamedTuple):
    """All agreement statistics of one pair of measurements.

    Attributes:
      bland_altman: bias and limits of agreement.
      pearson: Pearson's r.
      concordance: Lin's concordance correlation coefficient.
      mae: mean absolute error, in the unit of `bland_altman`.
      normalised_mae: mean over cases of |prediction - truth| / truth, a fraction; NaN if no `truth` is above 0.
      excluded: number of cases with `truth` not above 0; they are excluded from `normalised_mae` only.
    """

    bland_altman: BlandAltman
    pearson: Estimate
    concordance: Estimate
    mae: float
    normalised_mae: float
    excluded: int


def agreement(pred: np.ndarray, truth: np.ndarray, unit: str) -> Agreement:
    """All agreement statistics of predictions and gold-standard values `[n]`; raises as `bland_altman`."""
    limits = bland_altman(pred, truth, unit)
    relative = relative_errors(pred, truth)
    measured = relative[np.isfinite(relative)]
    return Agreement(
        limits,
        pearson(pred, truth),
        concordance(pred, truth),
        float(np.abs(pred - truth).mean()),
        float(measured.mean()) if measured.size else math.nan,
        relative.size - measured.size,
    )


def bland_altman(pred: np.ndarray, truth: np.ndarray, unit: str) -> BlandAltman:
    """Bias and limits of agreement with the confidence intervals of Bland and Altman (1999).

    The standard error of the bias is s / sqrt(n). That of a limit is s sqrt(1 / n + 1.96^2 / (2 (n - 1))); the paper
    rounds it to sqrt(3 / n) s. Both are multiplied by the quantile of t with n - 1 degrees of freedom.

    Args:
      pred, truth: `[n]`, paired by case.
      unit: unit of both.

    Raises:
      InputError: there are fewer than two cases.
      ValueError: the two differ in length, or a value is not finite.
    """
    difference = _paired(pred, truth)
    n = difference.size
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    of_bias = half_interval(sd, n)
    of_limit = of_bias * math.sqrt(1 + n * LIMIT**2 / (2 * (n - 1)))
    lower, upper = bias - LIMIT * sd, bias + LIMIT * sd
    return BlandAltman(
        n,
        unit,
        Estimate(bias, bias - of_bias, bias + of_bias),
        sd,
        Estimate(lower, lower - of_limit, lower + of_limit),
        Estimate(upper, upper - of_limit, upper + of_limit),
    )


def pearson(pred: np.ndarray, truth: np.ndarray) -> Estimate:
    """Pearson's r of `[n]` pairs with Fisher's interval, tanh(artanh r -+ 1.96 / sqrt(n - 3)).

    The interval needs 4 cases. All values are NaN if one measurement is constant. Raises as `bland_altman`.
    """
    _paired(pred, truth)
    x, y = pred - np.mean(pred), truth - np.mean(truth)
    spread = math.sqrt(float(x @ x) * float(y @ y))
    if not spread:
        return Estimate(math.nan, math.nan, math.nan)
    r = min(1.0, max(-1.0, float(x @ y) / spread))
    return _fisher(r, 1 / (x.size - 3) if x.size > 3 else math.nan)


def concordance(pred: np.ndarray, truth: np.ndarray) -> Estimate:
    """Lin's concordance correlation of `[n]` pairs, 2 s_xy / (s_x^2 + s_y^2 + (mean_x - mean_y)^2), moments over n.

    The interval is that of Lin (1989) on Fisher's scale, with the variance corrected in Biometrics 56:324 (2000).
    It needs 4 cases. All values are NaN if one measurement is constant. Raises as `bland_altman`.
    """
    shift = float(_paired(pred, truth).mean())
    r = pearson(pred, truth).value
    x, y = float(np.var(pred)), float(np.var(truth))
    n = len(pred)
    if math.isnan(r) or r == 0.0:
        return Estimate(r, math.nan, math.nan)
    c = 2 * r * math.sqrt(x * y) / (x + y + shift**2)
    rest = 1 - c**2
    if n < 4 or rest == 0.0:
        return _fisher(c, 0.0 if n >= 4 else math.nan)
    u2 = shift**2 / math.sqrt(x * y)
    variance = (1 - r**2) * c**2 / (rest * r**2)
    variance += 2 * c**3 * (1 - c) * u2 / (r * rest**2) - c**4 * u2**2 / (2 * r**2 * rest**2)
    return _fisher(c, max(0.0, variance) / (n - 2))


def relative_errors(pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Relative absolute errors |prediction - truth| / truth, `[n]`; NaN where `truth` is not above 0."""
    pred, truth = np.asarray(pred, np.float64), np.asarray(truth, np.float64)
    return np.divide(np.abs(pred - truth), truth, out=np.full(truth.shape, np.nan), where=truth > 0)


def volume_pairs(rows: Rows, structure: str) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and gold-standard volumes of one structure in ml, `[n]` each, in the order of the rows."""
    pred, truth = (by_case(rows, f"volume_{which}_ml", structure) for which in ("pred", "truth"))
    return np.array(list(pred.values()), np.float64), np.array(list(truth.values()), np.float64)


def half_interval(sd: float, n: int) -> float:
    """Half-width of the 95% interval of a mean, t s / sqrt(n) with n - 1 degrees of freedom; NaN if n < 2."""
    return float(stats.t.ppf(0.975, n - 1)) * sd / math.sqrt(n) if n > 1 else math.nan


def _paired(pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Differences `[n]` after a check of both inputs."""
    if np.ndim(pred) != 1 or np.shape(pred) != np.shape(truth):
        raise ValueError(f"pred {np.shape(pred)} and truth {np.shape(truth)} are not pairs")
    difference = np.asarray(pred, np.float64) - np.asarray(truth, np.float64)
    if not np.isfinite(difference).all():
        raise ValueError("agreement needs finite values")
    if difference.size < FEWEST_CASES:
        raise InputError("agreement", f"needs at least {FEWEST_CASES} cases, got {difference.size}")
    return difference


def _fisher(r: float, variance: float) -> Estimate:
    """A correlation and its interval from the variance of artanh r; the interval has no width if |r| = 1."""
    if math.isnan(variance) or abs(r) == 1.0:
        return Estimate(r, r + 0 * variance, r + 0 * variance)
    half = float(stats.norm.ppf(0.975)) * math.sqrt(variance)
    return Estimate(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))
