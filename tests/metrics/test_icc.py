"""ICC(2,1): Shrout and Fleiss' own example, analysis of variance, and what it is meant to notice."""

import math

import numpy as np
import pytest

from cardiac_jax.errors import InputError
from cardiac_jax.metrics.agreement import concordance
from cardiac_jax.metrics.icc import icc, icc_of

SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
"""Table 2 of Shrout and Fleiss (1979): 6 targets, 4 judges."""


def test_the_published_example():
    found = icc_of(SHROUT_FLEISS)
    assert found.value == pytest.approx(0.29, abs=0.005)  # their table 4
    assert (found.low, found.high) == pytest.approx((0.019, 0.761), abs=0.001)  # psych::ICC of R


def test_agrees_with_an_analysis_of_variance():
    sm = pytest.importorskip("statsmodels.api", reason="statsmodels is not installed (extra: peers)")
    rng = np.random.default_rng(0)
    for n, k in ((12, 2), (7, 3), (30, 2)):
        x = rng.normal(size=(n, 1)) * 20 + rng.normal(size=k) * 3 + rng.normal(size=(n, k)) * 5
        case, rater = (i.ravel() for i in np.indices(x.shape))
        design = [np.eye(n)[case][:, 1:], np.eye(k)[rater][:, 1:]]

        y, one = x.ravel(), np.ones((x.size, 1))
        full, of_raters, of_cases = (
            float(sm.OLS(y, np.column_stack([one, *columns])).fit().ssr) for columns in (design, design[1:], design[:1])
        )
        mse = full / ((n - 1) * (k - 1))
        msr, msc = (of_raters - full) / (n - 1), (of_cases - full) / (k - 1)
        want = (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n)
        found = icc_of(x)
        assert found.value == pytest.approx(want, rel=1e-9)
        assert found.low < found.value < found.high


def test_a_shift_lowers_it_and_order_does_not():
    rng = np.random.default_rng(1)
    truth = rng.normal(100, 30, 40)
    pred = truth + rng.normal(0, 5, 40)
    assert icc(pred, truth) == pytest.approx(icc(truth, pred))
    assert icc(pred, truth).value > 0.97 > icc(pred + 25, truth).value
    # Of two raters it is Lin's concordance but for the divisors n and n - 1.
    assert icc(pred + 25, truth).value == pytest.approx(concordance(pred + 25, truth).value, abs=0.01)


def test_degenerate_ratings():
    truth = np.array([1.0, 2.0, 4.0])
    assert icc(truth, truth) == (1.0, 1.0, 1.0)
    shifted = icc(truth + 1, truth)
    assert 0 < shifted.value < 1 and math.isnan(shifted.low)
    assert all(map(math.isnan, icc(np.ones(3), np.ones(3))))
    with pytest.raises(InputError, match="at least 2 cases"):
        icc(truth[:1], truth[:1])
    with pytest.raises(ValueError, match="not finite"):
        icc(truth, np.array([1.0, math.nan, 2.0]))
