"""Gaussian mixtures: densities by hand, EM against float64 numpy and scikit-learn, degenerate data, choice of size."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from cardiac_jax.anatomy import mixture as gmm
from cardiac_jax.anatomy.mixture import Mixture
from cardiac_jax.anatomy.mixture_size import Curves, adjusted_aic, chosen, cross_validate, effective_parameters

ONES = np.ones(600, np.float32)  # weights of the points; most of the tests have 600, of five numbers each


def _mixture(seed: int, k: int, d: int, apart: float = 4.0) -> Mixture:
    """Correlated components of different size and weight."""
    rng = np.random.default_rng(seed)
    factor = np.tril(rng.normal(0, 0.4, (k, d, d)), -1) + np.eye(d) * rng.uniform(0.3, 2.0, (k, 1, d))
    weights = rng.uniform(1, 3, k)
    leaves = weights / weights.sum(), rng.normal(0, apart, (k, d)), factor
    return Mixture(*(jnp.asarray(leaf, jnp.float32) for leaf in leaves))


def _data(seed: int, n: int, k: int, d: int, apart: float = 4.0) -> tuple[Mixture, np.ndarray]:
    truth = _mixture(seed, k, d, apart)
    return truth, np.asarray(gmm.sample(jax.random.key(seed), truth, n))


def _expected_log_prob(mixture: Mixture, x: np.ndarray) -> np.ndarray:
    weights, means, covariances = (np.asarray(a, np.float64) for a in (*mixture[:2], gmm.covariances(mixture)))
    terms = [
        np.log(w) + stats.multivariate_normal.logpdf(x.astype(np.float64), m, c)
        for w, m, c in zip(weights, means, covariances, strict=True)
    ]
    return logsumexp(terms, axis=0)


def _em_in_float64(begin: Mixture, x: np.ndarray, steps: int, ridge: float) -> tuple[Mixture, float]:
    """EM as in the textbook: responsibilities, then weighted means and covariances; the mixture in float64."""
    weights, means, covariances = (np.asarray(a, np.float64) for a in (*begin[:2], gmm.covariances(begin)))
    x = x.astype(np.float64)
    added = ridge * x.var(0).mean() * np.eye(x.shape[1])
    for step in range(steps + 1):
        pieces = zip(weights, means, covariances, strict=True)
        joint = np.stack([np.log(w) + stats.multivariate_normal.logpdf(x, m, c) for w, m, c in pieces])
        value = logsumexp(joint, axis=0)
        if step == steps:
            break
        share = np.exp(joint - value)
        mass = share.sum(1)
        weights, means = mass / len(x), share @ x / mass[:, None]
        apart = x - means[:, None]
        covariances = np.einsum("kn,kni,knj->kij", share, apart, apart) / mass[:, None, None] + added
    return Mixture(weights, means, np.linalg.cholesky(covariances)), float(value.mean())


@pytest.mark.parametrize("n", [1, 300, gmm.CHUNK + 5])
def test_log_density_agrees_with_scipy(n: int):
    mixture, x = _data(0, n, 3, 4)
    got = gmm.log_prob(mixture, jnp.asarray(x))
    assert got.shape == (n,)
    np.testing.assert_allclose(got, _expected_log_prob(mixture, x), rtol=1e-4, atol=1e-4)


def test_draws_have_the_moments_of_the_mixture():
    mixture, x = _data(1, 40_000, 3, 2)
    weights, means, covariances = (np.asarray(a) for a in (*mixture[:2], gmm.covariances(mixture)))
    mean = weights @ means
    apart = means - mean
    covariance = np.einsum("k,kij->ij", weights, covariances) + np.einsum("k,ki,kj->ij", weights, apart, apart)
    np.testing.assert_allclose(x.mean(0), mean, atol=6 * np.sqrt(np.diag(covariance) / len(x)).max())
    np.testing.assert_allclose(np.cov(x.T), covariance, rtol=0.05, atol=0.05 * covariance.max())


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_em_takes_the_same_steps_as_in_float64(shift: float):
    truth, x = _data(2, 600, 3, 5, apart=1.5)
    x = x + np.float32(shift)
    means = np.asarray(truth.means) + np.float32(0.5 + shift)
    begin = Mixture(*(np.asarray(a, np.float32) for a in (np.full(3, 1 / 3), means, np.tile(np.eye(5), (3, 1, 1)))))
    got, value, taken = gmm.em(begin, jnp.asarray(x), ONES, 12, -jnp.inf, 1e-4)
    want, expected = _em_in_float64(begin, x, 12, 1e-4)
    assert taken == 12
    assert value == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(got.weights, want.weights, atol=1e-3)
    np.testing.assert_allclose(got.means, want.means, rtol=1e-4, atol=5e-3)


def test_likelihood_equals_that_of_scikit_learn_from_the_same_start():
    sklearn = pytest.importorskip("sklearn.mixture", reason="scikit-learn is the peer of this test")
    _, x = _data(3, 600, 3, 5)
    start = gmm.start(jax.random.key(0), jnp.asarray(x), ONES, 3, 1e-6)
    precisions = np.linalg.inv(np.asarray(gmm.covariances(start), np.float64))
    peer = sklearn.GaussianMixture(
        3,
        tol=0.0,
        max_iter=15,
        reg_covar=1e-6 * x.var(0).mean(),
        weights_init=np.asarray(start.weights, np.float64) / np.asarray(start.weights, np.float64).sum(),
        means_init=np.asarray(start.means),
        precisions_init=(precisions + precisions.swapaxes(1, 2)) / 2,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it takes all of its steps: that it has not converged is meant
        peer.fit(x.astype(np.float64))
    mixture, value, _ = gmm.em(start, jnp.asarray(x), ONES, 15, -jnp.inf, 1e-6)
    assert value == pytest.approx(peer.score(x.astype(np.float64)), rel=1e-3)
    assert value == pytest.approx(_expected_log_prob(mixture, x).mean(), rel=1e-4)


def test_data_in_several_chunks_give_the_same_step_as_in_one():
    truth, x = _data(4, gmm.CHUNK + 700, 2, 3)
    weight = (np.arange(len(x)) >= gmm.CHUNK - 300).astype(np.float32)  # 1000 points, on both sides of the seam
    begin = truth._replace(means=np.asarray(truth.means) + np.float32(0.3))
    long = gmm.em(begin, jnp.asarray(x), jnp.asarray(weight), 3, -jnp.inf, 1e-6)
    short = (*_em_in_float64(begin, x[weight > 0], 3, 1e-6), 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), long, short)


def test_fit_recovers_a_mixture_that_lies_well_apart():
    truth, x = _data(5, 4000, 3, 3, apart=8.0)
    fit = gmm.fit(jax.random.key(1), jnp.asarray(x), 3)
    order = [int(np.argmin(np.linalg.norm(np.asarray(fit.mixture.means) - m, axis=1))) for m in np.asarray(truth.means)]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(np.asarray(fit.mixture.weights)[order], truth.weights, atol=0.03)
    np.testing.assert_allclose(np.asarray(fit.mixture.means)[order], truth.means, atol=0.25)
    assert fit.log_likelihood >= _expected_log_prob(truth, x).mean() - 1e-3  # it saw this sample, the truth did not


def test_the_restart_of_highest_likelihood_is_kept():
    _, x = _data(6, 200, 5, 3)
    fit = gmm.fit(jax.random.key(3), jnp.asarray(x), 5, restarts=3)
    assert fit.restarts.shape == (3,)
    assert fit.log_likelihood == fit.restarts.max()
    assert np.ptp(fit.restarts) > 0
    assert fit.log_likelihood == pytest.approx(_expected_log_prob(fit.mixture, x).mean(), rel=1e-4)


@pytest.mark.parametrize("used", (3, 5))
def test_a_part_of_the_components_is_fitted_as_if_there_were_no_others(used):
    x = jnp.asarray(np.random.default_rng(4).normal(size=(200, 3)) * [1.0, 2.0, 0.5], jnp.float32)
    alone = gmm.fit(jax.random.key(5), x, used, restarts=3)
    among = gmm.fit(jax.random.key(5), x, 5, restarts=3, used=jnp.int32(used))
    assert among.steps == alone.steps
    np.testing.assert_allclose(among.restarts, alone.restarts, rtol=1e-5)
    for part, whole in zip(alone.mixture, among.mixture, strict=True):
        np.testing.assert_allclose(whole[:used], part, rtol=1e-4, atol=1e-5)
    assert not np.asarray(among.mixture.weights)[used:].any()
    np.testing.assert_allclose(gmm.log_prob(among.mixture, x), gmm.log_prob(alone.mixture, x), rtol=1e-4, atol=1e-5)
    aic = jax.jit(adjusted_aic)
    both = aic(among.mixture, x, used=jnp.int32(used)), aic(alone.mixture, x)
    np.testing.assert_allclose(*both, rtol=1e-5)


def test_likelihood_rises_with_every_step_and_ends_by_tolerance():
    _, x = _data(7, 600, 3, 5)
    begin = gmm.start(jax.random.key(0), jnp.asarray(x), ONES, 3, 1e-6)
    values = [float(gmm.em(begin, jnp.asarray(x), ONES, n, -jnp.inf, 1e-6)[1]) for n in range(6)]
    assert (np.diff(values) > -1e-5).all()
    assert values[-1] > values[0]
    _, value, taken = gmm.em(begin, jnp.asarray(x), ONES, 500, 1e-4, 1e-6)
    assert taken < 500
    assert value >= values[-1] - 1e-3


@pytest.mark.parametrize("kind", ["one point", "two points", "a line", "fewer points than components", "huge", "tiny"])
def test_degenerate_data_give_a_finite_mixture(kind: str):
    rng = np.random.default_rng(0)
    x = {
        "one point": np.ones((80, 3)) * [1.0, 2.0, 3.0] + rng.normal(0, 1e-3, (80, 3)),
        "two points": np.repeat([[0.0, 0.0, 0.0], [5.0, 5.0, 5.0]], 40, 0),
        "a line": np.linspace(0, 1, 80)[:, None] * [1.0, 2.0, 3.0],
        "fewer points than components": np.concatenate([rng.normal(size=(3, 3)), np.zeros((77, 3))]),
        "huge": rng.normal(1e4, 1e3, (80, 3)),
        "tiny": rng.normal(0, 1e-4, (80, 3)),
    }[kind]
    weight = jnp.asarray(np.arange(80) < (3 if kind.startswith("fewer") else 80))
    fit = gmm.fit(jax.random.key(0), jnp.asarray(x, jnp.float32), 4, restarts=3, steps=50, ridge=1e-4, weight=weight)
    assert all(np.isfinite(leaf).all() for leaf in fit.mixture)
    assert np.isfinite(fit.log_likelihood)
    assert float(fit.mixture.weights.sum()) == pytest.approx(1.0, abs=1e-4)


def test_an_empty_component_survives_and_changes_nothing_else():
    truth, x = _data(8, 600, 2, 5)
    two, expected = _em_in_float64(truth, x, 100, 1e-6)
    far = (
        np.append(two.weights * 0.99, 0.01),
        np.concatenate([two.means, np.full((1, 5), 1e4)]),
        np.concatenate([two.cholesky, np.eye(5)[None]]),
    )
    far = Mixture(*(jnp.asarray(leaf, jnp.float32) for leaf in far))
    mixture, value, _ = gmm.em(far, jnp.asarray(x), ONES, 5, -jnp.inf, 1e-6)
    assert mixture.weights[2] == 0
    np.testing.assert_array_equal(mixture.means[2], np.full(5, 1e4))
    assert value == pytest.approx(expected, rel=1e-3)
    assert np.isfinite(gmm.sample(jax.random.key(0), mixture, 50)).all()


def test_effective_parameters_by_hand():
    # Spectra (1, 1, 1) and (4, 1, 1): shares 1 and 6 / 12; 3 + 6 parameters each, and one free weight.
    factors = np.stack([np.eye(3), np.diag([2.0, 1.0, 1.0])]).astype(np.float32)
    mixture = Mixture(jnp.asarray([0.5, 0.5]), jnp.zeros((2, 3)), jnp.asarray(factors))
    assert jax.jit(effective_parameters)(mixture) == pytest.approx(1.5 * 9 + 1, rel=1e-6)


def test_aic_of_one_spherical_component_is_that_of_akaike():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(200, 2)), jnp.float32)
    mixture = Mixture(*(jnp.asarray(leaf, jnp.float32) for leaf in (np.ones(1), np.zeros((1, 2)), np.eye(2)[None])))
    log_likelihood = -0.5 * np.square(np.asarray(x)).sum(1) - np.log(2 * np.pi)
    aic = jax.jit(adjusted_aic)
    assert aic(mixture, x, np.ones(200, np.float32)) == pytest.approx(2 * 5 - 2 * log_likelihood.sum(), rel=1e-5)
    assert aic(mixture, x) == pytest.approx(2 * 5 - 2 * log_likelihood.sum(), rel=1e-5)
    half = (np.arange(200) < 100).astype(np.float32)
    assert aic(mixture, x, half) == pytest.approx(2 * 5 - 2 * log_likelihood[:100].sum(), rel=1e-5)


def test_cross_validation_finds_the_number_of_components():
    _, x = _data(9, 600, 3, 3, apart=8.0)
    curves = cross_validate(jax.random.key(0), jnp.asarray(x), (1, 3, 4), folds=5, restarts=4, steps=60)
    assert curves.nll.shape == curves.aic.shape == (3, 5)
    assert chosen(curves) == 3
    assert curves.nll.mean(1)[1] < curves.nll.mean(1)[0] - 0.1
    assert curves.aic.mean(1)[1] < curves.aic.mean(1)[0] - 0.1


def test_held_out_likelihood_is_of_points_the_fit_did_not_see():
    x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    x[:4] += 50  # one group of its own: when held out, no component is near
    groups = np.repeat(np.arange(10), 4)
    curves = cross_validate(jax.random.key(0), jnp.asarray(x), (1,), groups=groups, restarts=1, steps=5)
    assert (np.sort(curves.nll[0])[-1:] > 100).all()
    assert (np.sort(curves.nll[0])[:-1] < 20).all()
    with pytest.raises(ValueError, match="10 groups are fewer than 11 folds"):
        cross_validate(jax.random.key(0), jnp.asarray(x), (1,), folds=11, groups=groups)


def test_chosen_size_is_the_smallest_where_both_curves_are_low():
    nll = np.asarray([[5.0, 5.2], [3.0, 3.2], [2.9, 3.1], [2.95, 3.2]])
    aic = np.asarray([[70.0, 70.0], [54.0, 56.0], [49.0, 51.0], [48.0, 52.0]])
    # NLL is lowest at 6, 3.0 with a standard error of 0.1, which size 4 (3.1) meets; AIC is lowest at 6 too, 50 with
    # a standard error of 1, which size 4 (55) does not meet.
    assert chosen(Curves((2, 4, 6, 8), nll, aic)) == 6
    assert chosen(Curves((2, 4, 6, 8), nll, aic[[0, 2, 1, 3]])) == 4
    # AIC is lowest where NLL is not low: nothing serves both, and NLL decides.
    assert chosen(Curves((2, 4, 6, 8), nll, aic[::-1] - [[20], [0], [0], [0]])) == 6
