"""Agreement of readers: kappa against scikit-learn, which images count."""

import math
from typing import cast

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from cardiac_jax.metrics.icc import icc
from cardiac_jax.metrics.opinions import reader_agreement, weighted_kappa


def test_kappa_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    for n in (5, 40):
        one = rng.integers(1, 6, n)
        other = np.clip(one + rng.integers(-1, 2, n), 1, 5)
        want = cohen_kappa_score(one, other, labels=[1, 2, 3, 4, 5], weights="quadratic")
        assert weighted_kappa(one, other) == pytest.approx(want, abs=1e-12)
    assert weighted_kappa(one, one) == 1
    assert weighted_kappa(np.array([1, 5]), np.array([5, 1])) == -1
    assert math.isnan(weighted_kappa(np.array([3, 3]), np.array([3, 3])))
    assert math.isnan(weighted_kappa(np.array([]), np.array([])))


def test_readers_agree_on_what_all_of_them_scored():
    scores = {
        "R1": {"a": 1, "b": 3, "c": 5, "d": 2},
        "R2": {"a": 2, "b": 3, "c": 5},
        "R3": {"c": 4, "b": 3, "a": 1, "e": 5},
    }
    pairs = reader_agreement(scores)
    assert [one.readers for one in pairs] == [("R1", "R2"), ("R1", "R3"), ("R2", "R3"), ("R1", "R2", "R3")]
    assert [one.n for one in pairs] == [3] * 4
    assert [round(3 * one.equal) for one in pairs] == [2, 2, 1, 1]
    first = pairs[0]
    ratings = np.array([1, 3, 5]), np.array([2, 3, 5])
    assert first.kappa == weighted_kappa(*ratings)
    assert first.icc == icc(*cast("tuple[np.ndarray, np.ndarray]", tuple(r.astype(float) for r in ratings)))
    assert math.isnan(pairs[3].kappa) and 0 < pairs[3].icc.value < 1
    (none,) = reader_agreement({"R1": {"a": 1}, "R2": {"b": 1}})
    assert none.n == 0 and math.isnan(none.equal) and math.isnan(none.icc.value)
