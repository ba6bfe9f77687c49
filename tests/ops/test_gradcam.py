"""Heat maps by hand for linear and curved heads, per example, and for the network they are meant for."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax.nets.drunet import DRUNet
from cardiac_jax.ops import gradcam as module
from cardiac_jax.ops.gradcam import log_odds_score, logit_score

# One program for all operations of a map; the head, the classes and the score are part of it.
gradcam = jax.jit(module.gradcam, static_argnums=(0, 2, 3))

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4, 5, 6)).astype(np.float32)  # [B, Z, H, W, F]
W = RNG.standard_normal((6, 3)).astype(np.float32)  # [F, K]


def linear(x):
    return x @ W + np.arange(3.0, dtype=np.float32).reshape(1, 1, 1, 1, 3)


def relu(x):
    return np.maximum(x, 0)


@pytest.mark.parametrize("classes", [(0,), (2,), (1, 2)])
def test_of_a_linear_head_it_is_the_rectified_logit_without_its_bias(classes):
    """dS_c / dx_k = w_kc at every voxel."""
    want = sum(relu(X @ W[:, c]) for c in classes)
    np.testing.assert_allclose(gradcam(linear, jnp.asarray(X), classes), want, rtol=1e-5, atol=2e-6)


def test_gradients_are_not_averaged_over_the_map():
    """Head x^2: dS / dx_k = 2 x_k at that voxel, so the heat is 2 sum_k x_k^2; averaged it would be smaller."""
    heat = gradcam(lambda x: (x**2).sum(-1, keepdims=True), jnp.asarray(X), (0,))
    np.testing.assert_allclose(heat, 2 * (X**2).sum(-1), rtol=1e-5)


def test_where_structures_exclude_each_other_neither_is_lost():
    """One is certain where the other's logit is low: maps are rectified before they are added."""
    x = np.array([[[[1.0, 0.0], [0.0, 1.0]]]], np.float32)  # [1, 1, 2, 2]
    heat = gradcam(lambda x: x @ np.array([[1.0, -1.0], [-1.0, 1.0]], np.float32), x, (0, 1))
    np.testing.assert_array_equal(heat, np.ones((1, 1, 2)))


def test_each_example_by_itself():
    changed = X.copy()
    changed[1] = 7.0
    for score in (logit_score, log_odds_score):
        a, b = (np.asarray(gradcam(linear, jnp.asarray(x), (1,), score)) for x in (X, changed))
        np.testing.assert_array_equal(a[0], b[0])
        assert (a[1] != b[1]).any()


def test_log_odds_of_a_softmax():
    """log(p_c / (1 - p_c)), summed; a constant added to every class changes it no more than it changes the softmax."""
    logits = linear(X)
    odds, own = (jax.jit(score, static_argnums=1) for score in (log_odds_score, logit_score))
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(-1, keepdims=True)
    for c in range(3):  # terms of either sign, 90 to 200 in all: float32 rounds their sum to 2e-5
        want = np.log(p[..., c] / (1 - p[..., c])).sum((1, 2, 3))
        np.testing.assert_allclose(odds(logits, c), want, rtol=1e-4, atol=2e-5)
        want = logits[..., c].sum((1, 2, 3))
        np.testing.assert_allclose(own(logits, c), want, rtol=1e-4, atol=2e-5)
    shifted = partial(gradcam, lambda x: linear(x) + 3 * x[..., :1], jnp.asarray(X), (1, 2))
    plain = partial(gradcam, linear, jnp.asarray(X), (1, 2))
    np.testing.assert_allclose(shifted(log_odds_score), plain(log_odds_score), atol=1e-5)
    assert np.abs(np.asarray(shifted(logit_score)) - np.asarray(plain(logit_score))).max() > 1


def test_log_odds_of_two_classes_and_of_one():
    """Two: d / dx_k = w_k1 - w_k0. One, a sigmoid: the logit is the log odds."""
    two = gradcam(lambda x: x @ jnp.asarray(W[:, :2]), jnp.asarray(X), (1,), log_odds_score)
    np.testing.assert_allclose(two, relu(X @ (W[:, 1] - W[:, 0])), rtol=1e-5, atol=1e-5)
    one = gradcam(lambda x: x @ jnp.asarray(W[:, :1]), jnp.asarray(X), (0,), log_odds_score)
    np.testing.assert_allclose(one, relu(X @ W[:, 0]), rtol=1e-5, atol=2e-6)


def test_no_class_is_refused():
    with pytest.raises(ValueError, match="no class"):
        gradcam(linear, jnp.asarray(X), ())


def test_of_the_localiser_only_the_head_is_differentiated():
    """With nothing but the head's variables; its bias -b raises no heat: relu(logit + b)."""
    net = DRUNet(6, 1)
    kernel = {"kernel": jnp.asarray(W[:, :1]).reshape(1, 1, 1, 6, 1), "bias": jnp.array([-2.0])}

    def head(x: jax.Array) -> jax.Array:
        return jnp.asarray(net.apply({"params": {"output": kernel}}, x, train=False, method="head"))

    heat = jax.jit(lambda x: gradcam(head, x, (0,)))(jnp.asarray(X))
    assert heat.shape == X.shape[:-1]
    np.testing.assert_allclose(heat, relu(np.asarray(head(jnp.asarray(X)))[..., 0] + 2), rtol=1e-5, atol=1e-5)
