"""The patient as the unit: false positives and coverage by simulation; long form: `python -m benchmarks.intervals`."""

import math

import numpy as np
import pytest
from scipy import stats

from cardiac_jax.metrics import paired_tests
from cardiac_jax.metrics.intervals import clustered_half_interval, half_interval, mean_interval
from tests import cohorts


def test_two_cases_of_a_patient_are_not_two_patients():
    """Two methods equally good: 5% of tests at p < .05 reject, of tests that count cases twice as many and more.

    500 cohorts of 12 patients, standard error 1.0%.
    """
    rng, runs = np.random.default_rng(0), 500
    rejected = {True: 0, False: 0}
    for _ in range(runs):
        values = cohorts.two_methods(rng, 12, 2, correlation=0.6)
        for patients in rejected:
            ours, theirs = (cohorts.rows(held, patients) for held in values)
            difference = np.array(list(paired_tests.paired_differences(ours, theirs, "dice", "LV").values()))
            assert len(difference) == (12 if patients else 24)
            rejected[patients] += paired_tests.signed_rank(difference) < 0.05
    assert 0.03 < rejected[True] / runs < 0.07
    assert rejected[False] / runs > 0.09


# Least coverage of a 95% interval: what the long simulation found (benchmarks/README.md), less three standard errors.
LEAST = {"normal": 0.93, "log-normal": 0.82, "Dice-like": 0.82, "clipped": 0.90, "difference": 0.93}


@pytest.mark.parametrize("n", [5, 8, 12, 20, 40])
def test_interval_of_a_mean_covers(n: int):
    runs = 1500
    for name, (draw, true) in cohorts.DISTRIBUTIONS.items():
        low, high = np.transpose([mean_interval(values) for values in draw(np.random.default_rng(n), (runs, n))])
        held = np.mean((low <= true) & (true <= high))
        assert LEAST[name] < held < 0.985, name


def test_interval_of_a_mean_over_slices_covers():
    """Slices of a patient are correlated: counted as independent, their interval is too narrow by far."""
    rng, runs, held = np.random.default_rng(3), 800, {"patients": 0, "slices": 0}
    for _ in range(runs):
        values, patient = cohorts.slices(rng, 8, correlation=0.5)
        held["patients"] += abs(values.mean()) <= clustered_half_interval(values.tolist(), patient.tolist())
        held["slices"] += abs(values.mean()) <= half_interval(float(values.std(ddof=1)), values.size)
    assert 0.93 < held["patients"] / runs < 0.97
    assert held["slices"] / runs < 0.75


def test_interval_of_a_mean_is_students():
    values = np.exp(np.random.default_rng(1).normal(size=9))
    want = stats.t.interval(0.95, 8, loc=values.mean(), scale=stats.sem(values))
    assert mean_interval(values) == pytest.approx(want)
    assert mean_interval(np.full(4, 0.5)) == (0.5, 0.5)
    assert np.isnan(mean_interval(np.ones(1))).all() and np.isnan(mean_interval(np.ones(0))).all()


def test_clusters_of_one_size_are_as_their_means():
    values = np.random.default_rng(2).normal(size=(7, 3))
    assert math.isnan(clustered_half_interval([1.0, 2.0], ["a", "a"])) and math.isnan(clustered_half_interval([], []))
    want = half_interval(float(values.mean(1).std(ddof=1)), 7)
    assert clustered_half_interval(values.ravel().tolist(), np.repeat(np.arange(7), 3).tolist()) == pytest.approx(want)
