"""Tests of whether learnt codes are normally distributed, one test per dimension, corrected with Holm's procedure."""

import math
from typing import NamedTuple

import numpy as np

from cardiac_jax.metrics.paired_tests import holm

FEWEST = 3  # least number of values that can be tested
MOST = 5000  # the p value of Shapiro and Wilk's test is not exact for more
LEVEL = 0.05


class Normality(NamedTuple):
    """Tests of the D dimensions of a code.

    Attributes:
      test: "Shapiro-Wilk", or "D'Agostino-Pearson" for more than `MOST` values.
      n: number of values of each dimension.
      statistic, p, p_holm: `[D]`; NaN for a dimension that is constant, and for fewer than `FEWEST` values.
    """

    test: str
    n: int
    statistic: np.ndarray
    p: np.ndarray
    p_holm: np.ndarray

    @property
    def tested(self) -> int:
        """Number of dimensions that were tested."""
        return int(np.isfinite(self.p).sum())

    @property
    def rejected(self) -> int:
        """Number of dimensions whose normality is rejected at p < 0.05 after Holm's correction."""
        return int((self.p_holm < LEVEL).sum())


def normality(codes: np.ndarray) -> Normality:
    """Returns the test of every dimension of `codes [N, D]`; the N codes must be independent, e.g. one per patient.

    A dimension of which all values are equal is not tested and not counted in the correction.
    """
    from scipy import stats  # takes a second to import, which most commands need not wait for

    n = len(codes)
    test, name = (stats.shapiro, "Shapiro-Wilk") if n <= MOST else (stats.normaltest, "D'Agostino-Pearson")
    found = np.full((codes.shape[1], 2), math.nan)
    for k, values in enumerate(np.asarray(codes, np.float64).T):
        if n >= FEWEST and np.ptp(values) > 0:
            # Standardised: a range near the smallest number would be taken for none.
            found[k] = test((values - values.mean()) / values.std())
    return Normality(name, n, found[:, 0], found[:, 1], np.array(holm(found[:, 1].tolist())))
