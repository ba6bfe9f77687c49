"""Agreement of two measurements: published figures, simulated coverage, scipy, degenerate input."""

import math

import numpy as np
import pytest
from scipy import stats

from cardiac_jax.errors import InputError
from cardiac_jax.metrics import agreement
from cardiac_jax.metrics.intervals import half_interval
from tests import cohorts

# Peak expiratory flow (l/min) by two meters, 17 subjects: the example of Bland and Altman (Lancet 1986, i: 307).
WRIGHT = np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427], float)
MINI = np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451], float)


def _pairs(rng: np.random.Generator, n: int, shift: float = 0.0, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.normal(size=n)
    return truth + shift + noise * rng.normal(size=n), truth


def test_limits_of_the_published_example():
    found = agreement.bland_altman(WRIGHT, MINI, "l/min")
    assert (found.n, found.unit) == (17, "l/min")
    # The paper: mean -2.1, SD 38.8, its interval -22.0 to 17.8.
    assert found.bias == pytest.approx((-2.1, -22.0, 17.8), abs=0.06)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert (found.lower.value, found.upper.value) == pytest.approx(
        (-2.118 - 1.96 * 38.765, -2.118 + 1.96 * 38.765), 1e-4
    )
    # The paper rounds 1.96 to 2 and 1.71 to the root of 3: limits -79.7 and 75.5, each +- 34.6. Zou's intervals are as
    # wide, and reach further out than in.
    for limit, (inner, outer) in ((found.lower, (-45.1, -114.3)), (found.upper, (40.9, 110.1))):
        assert limit.high - limit.low == pytest.approx(2 * 34.6, abs=2.0)
        assert limit[1:] == pytest.approx(sorted((inner, outer)), abs=8.0)
        assert max(map(abs, limit)) > abs(outer)


def test_bias_has_the_interval_of_the_paired_t_test():
    pred, truth = _pairs(np.random.default_rng(0), 9, shift=1.0)
    want = stats.ttest_rel(pred, truth).confidence_interval(0.95)
    assert agreement.bland_altman(pred, truth, "ml").bias[1:] == pytest.approx((want.low, want.high))


def test_half_interval_of_a_mean():
    values = np.array([1.0, 4.0, 4.0, 7.0])
    low, high = stats.t.interval(0.95, 3, loc=4.0, scale=stats.sem(values))
    assert half_interval(float(values.std(ddof=1)), 4) == pytest.approx((high - low) / 2)
    assert math.isnan(half_interval(0.0, 1))


def test_intervals_of_limits_and_correlations_cover():
    """Of 95% intervals 95% hold the true value, whatever the shift: 1500 samples, standard error 0.6%."""
    rng, held = np.random.default_rng(1), {"bias": 0, "upper": 0, "r": 0, "ccc": 0}
    shift, noise, runs = 0.8, 0.5, 1500
    r = 1 / math.sqrt(1 + noise**2)
    ccc = 2 / (1 + (1 + noise**2) + shift**2)  # 2 cov / (var + var + shift^2), cov 1
    for _ in range(runs):
        pred, truth = _pairs(rng, 40, shift, noise)
        limits = agreement.bland_altman(pred, truth, "ml")
        for name, found, true in (
            ("bias", limits.bias, shift),
            ("upper", limits.upper, shift + 1.96 * noise),
            ("r", agreement.pearson(pred, truth), r),
            ("ccc", agreement.concordance(pred, truth), ccc),
        ):
            held[name] += found.low <= true <= found.high
    for name, count in held.items():
        assert 0.93 < count / runs < 0.97, name


def test_intervals_of_five_patients_with_two_cases_each_cover():
    """1000 samples, standard error 0.7%. Cases taken for patients give the bias an interval that is too narrow."""
    rng, runs, held = np.random.default_rng(4), 1000, dict.fromkeys(("bias", "upper", "ccc", "cases"), 0)
    shift, between, within = 0.3, 0.4, 0.3
    upper, noise = shift + 1.96 * math.hypot(between, within), between**2 + within**2 / 2
    ccc = 2 * 1.5 / (2 * 1.5 + noise + shift**2)  # the means of two cases have variance 1 + 1/2
    for _ in range(runs):
        pairs = agreement.Pairs(*cohorts.measurements(rng, 5, 2, shift, between, within))
        found = agreement.bland_altman(pairs.pred, pairs.truth, "ml", pairs.patients)
        apart = agreement.bland_altman(pairs.pred, pairs.truth, "ml").bias
        lin = agreement.concordance(*pairs.means())
        held["bias"] += found.bias.low <= shift <= found.bias.high
        held["upper"] += found.upper.low <= upper <= found.upper.high
        held["ccc"] += lin.low <= ccc <= lin.high
        held["cases"] += apart.low <= shift <= apart.high
    shares = {name: count / runs for name, count in held.items()}
    assert 0.93 < shares["bias"] < 0.97 and 0.93 < shares["upper"] < 0.99 and 0.93 < shares["ccc"] < 0.99
    assert shares["cases"] < 0.9


@pytest.mark.parametrize("shift", [0.0, 0.4, 1.5])
def test_variance_of_the_concordance_is_the_one_seen(shift: float):
    """The correction of 2000 halved one coefficient of 1989 and quartered another: at a shift of 1.5 they differ."""
    rng = np.random.default_rng(2)
    found = [agreement.concordance(*_pairs(rng, 80, shift)) for _ in range(1500)]
    seen = np.arctanh([e.value for e in found]).std(ddof=1)
    expected = np.mean([(math.atanh(e.high) - math.atanh(e.low)) / (2 * stats.t.ppf(0.975, 78)) for e in found])
    assert expected == pytest.approx(seen, rel=0.07)


def test_concordance_by_hand():
    truth = np.array([1.0, 2.0, 3.0])
    # Variances 2/3 and covariance 2/3; shifted by 1: 2 (2/3) / (4/3 + 1).
    assert agreement.concordance(truth + 1, truth).value == pytest.approx(4 / 7)
    # Twice as large: variances 2/3 and 8/3, covariance 4/3, means 2 apart.
    assert agreement.concordance(2 * truth, truth).value == pytest.approx((8 / 3) / (10 / 3 + 4))


def test_perfect_agreement():
    truth = np.array([1.0, 5.0, 2.0, 4.0, 4.5])
    found = agreement.agreement(truth.copy(), truth, "ml")
    for of in (agreement.pearson, agreement.concordance):
        assert of(truth.copy(), truth) == pytest.approx((1.0, 1.0, 1.0))
    assert found.bland_altman.bias == found.bland_altman.upper == (0.0, 0.0, 0.0)
    assert (found.mae, found.normalised_mae) == (0.0, 0.0)


def test_errors_by_hand():
    pred, truth = np.array([11.0, 18.0, 3.0]), np.array([10.0, 20.0, 0.0])
    found = agreement.agreement(pred, truth, "ml")
    assert found.mae == pytest.approx((1 + 2 + 3) / 3)
    assert found.normalised_mae == pytest.approx(0.1)
    np.testing.assert_allclose(agreement.relative_errors(pred, truth), [0.1, 0.1, np.nan])
    np.testing.assert_allclose(agreement.relative_errors(pred, -truth), [np.nan] * 3)  # e.g. a negative stroke volume


def test_too_few_patients_for_an_interval_of_a_correlation():
    pred, truth = np.array([1.0, 2.5, 2.0]), np.array([1.0, 2.0, 3.0])
    for found in (agreement.pearson(pred, truth), agreement.concordance(pred, truth)):
        assert 0 < found.value < 1 and math.isnan(found.low) and math.isnan(found.high)


def test_nothing_correlates_with_a_constant():
    constant, truth = np.ones(5), np.arange(5.0)
    assert np.isnan(agreement.pearson(constant, truth)).all() and np.isnan(agreement.concordance(constant, truth)).all()


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize(
    "of", [agreement.pearson, agreement.concordance, lambda p, t: agreement.bland_altman(p, t, "ml")]
)
def test_fewer_than_two_patients_are_refused(of, n: int):
    with pytest.raises(InputError, match=f"needs at least 2 patients, got {n}"):
        of(np.ones(n), np.ones(n))


@pytest.mark.parametrize(
    ("pred", "truth", "problem"),
    [
        (np.ones(3), np.ones(4), "not pairs"),
        (np.ones((2, 2)), np.ones((2, 2)), "not pairs"),
        (np.array([1, np.nan]), np.ones(2), "finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(pred: np.ndarray, truth: np.ndarray, problem: str):
    with pytest.raises(ValueError, match=problem):
        agreement.bland_altman(pred, truth, "ml")


def test_volumes_of_rows_are_paired_by_case():
    rows = [
        {"case": case, "patient": "p", "structure": name, "volume_pred_ml": p, "volume_truth_ml": t}
        for case, name, p, t in (
            ("a", "LV", 1.0, 2.0),
            ("a", "RV", 9.0, 9.0),
            ("c", "LV", math.nan, 1.0),
            ("b", "LV", 3, 4),
        )
    ]
    found = agreement.volume_pairs(rows, "LV")
    np.testing.assert_array_equal(found.pred, [1.0, 3.0])
    np.testing.assert_array_equal(found.truth, [2.0, 4.0])
    assert (found.patients, found.without_value, found.counted) == (("p", "p"), 1, "1 patient (2 cases)")
    with pytest.raises(InputError, match="needs at least 2 patients, got 1"):
        agreement.agreement(found.pred, found.truth, "ml", found.patients)


def test_limits_of_several_cases_of_a_patient_by_the_analysis_of_variance():
    """Bland and Altman 2007, section 3: MSW + (MSB - MSW) / m, here from the sums of squares of 6 patients' 3 cases."""
    pred, truth, patients = cohorts.measurements(np.random.default_rng(5), 6, 3, 0.4, 0.8, 0.3)
    difference = (pred - truth).reshape(6, 3)
    between, within = 3 * difference.mean(1).var(ddof=1), difference.var(1, ddof=1).mean()
    sd = math.sqrt(within + (between - within) / 3)
    found = agreement.bland_altman(pred, truth, "ml", patients)
    assert (found.n, found.sd) == (6, pytest.approx(sd))
    bias = difference.mean()
    values = found.bias.value, found.lower.value, found.upper.value
    assert values == pytest.approx((bias, bias - 1.96 * sd, bias + 1.96 * sd))
    want = stats.ttest_1samp(difference.mean(1), 0).confidence_interval(0.95)
    assert found.bias[1:] == pytest.approx((want.low, want.high))


def test_limits_of_one_case_each_have_nearly_the_exact_interval():
    """Exact for normal differences: quantiles of the noncentral t distribution (Carkeet 2015)."""
    for n in (12, 20, 40):
        pred, truth, _ = cohorts.measurements(np.random.default_rng(n), n, 1, 0.0, 1.0, 0.0)
        found = agreement.bland_altman(pred, truth, "ml")
        ends = stats.nct.ppf((0.025, 0.975), n - 1, 1.96 * math.sqrt(n)) * found.sd / math.sqrt(n)
        assert found.upper[1:] == pytest.approx(found.bias.value + ends, abs=1.3 * found.sd / n)


def test_errors_are_averaged_within_patients_first():
    pred, truth = np.array([12.0, 8.0, 33.0, 5.0]), np.array([10.0, 10.0, 30.0, 0.0])
    found = agreement.agreement(pred, truth, "ml", ("a", "a", "b", "b"))
    assert found.mae == pytest.approx((2.0 + 4.0) / 2)  # a: 2 and 2; b: 3 and 5
    assert found.normalised_mae == pytest.approx((0.2 + 0.1) / 2)  # b: 0.1, the other has no gold standard
