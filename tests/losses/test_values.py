"""Leaf losses against values derived by hand or in numpy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax.losses import adversarial, latent, overlap, pixelwise, position, restoration
from tests import toys

K, IGNORE = 3, overlap.IGNORE
ATOL = 1e-6  # 1 - Dice and the logarithm of a softmax are differences of float32 numbers of about 1
P = jnp.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]])
LABEL = jnp.array([0, 1, 1, IGNORE], jnp.uint8)
compiled = partial(jax.jit, compiler_options=toys.QUICK)


def test_dice_loss():
    expected = 1 - (2 / 2.875 + 3 / 4.25 + 1 / 1.875) / 3
    np.testing.assert_allclose(overlap.dice_loss(P, LABEL), expected, rtol=1e-6, atol=ATOL)


def test_tversky_with_equal_weights_is_dice():
    # TP / (TP + FP/2 + FN/2) = 2 TP / (2 TP + FP + FN); smoothing s there is 2 s here
    counts = overlap.overlap(P, LABEL)
    np.testing.assert_allclose(overlap.tversky(counts, 0.5, 1.0), overlap.dice(counts, 2.0), rtol=1e-6, atol=ATOL)


def test_batch_dice_loss_is_the_dice_of_one_long_example():
    rng = np.random.default_rng(14)
    values = {
        "probabilities": rng.dirichlet(np.ones(K), (4, 5)).astype(np.float32),
        "label": rng.choice([0, 1, 2, IGNORE], (4, 5)).astype(np.uint8),
        "mask": np.array([1, 1, 0, 1], np.float32),
    }
    loss = overlap.batch_dice_loss("probabilities", "label")
    real = np.array([0, 1, 3])
    one = values["probabilities"][real].reshape(-1, K), values["label"][real].reshape(-1)
    joined = compiled(overlap.dice_loss)(*one)
    np.testing.assert_allclose(compiled(loss.apply)(loss.init(), values)[0], np.full(4, joined), rtol=1e-5, atol=ATOL)


def test_cross_entropy():
    logits = jnp.log(P[:3])
    nll = -np.log([0.5, 0.75, 0.25])
    np.testing.assert_allclose(pixelwise.cross_entropy(logits, LABEL[:3]), nll.mean(), rtol=1e-6, atol=ATOL)
    weighted = np.array([2.0, 3.0, 3.0]) * nll**0.3
    actual = pixelwise.cross_entropy(logits, LABEL[:3], class_weights=(2.0, 3.0, 5.0), gamma=0.3)
    np.testing.assert_allclose(actual, weighted.mean(), rtol=1e-6, atol=ATOL)


def test_cross_entropy_of_nothing_annotated_is_zero():
    assert pixelwise.cross_entropy(jnp.log(P[:3]), jnp.full(3, IGNORE, jnp.uint8), gamma=0.3) == 0


def test_balanced_cross_entropy():
    """q = 1/2, 3/4 of one structure and 1/4, 1/2 of another; the third pixel is not annotated."""
    q = np.array([[0.5, 0.25], [0.75, 0.5], [0.9, 0.9]])
    truth, annotated = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), jnp.array([True, True, False])
    logits = jnp.asarray(np.log(q / (1 - q)), jnp.float32)
    first = (0.6 * -np.log(0.5) + 0.4 * -np.log(0.75)) / 2
    second = (0.4 * -np.log(0.25) + 0.6 * -np.log(0.5)) / 2
    found = pixelwise.balanced_cross_entropy(logits, jnp.asarray(truth, jnp.float32), annotated, 0.6)
    np.testing.assert_allclose(found, (first + second) / 2, rtol=1e-6, atol=ATOL)
    assert pixelwise.balanced_cross_entropy(logits, jnp.asarray(truth, jnp.float32), annotated & False, 0.6) == 0


def test_masked_cross_entropy():
    np.testing.assert_allclose(
        pixelwise.masked_cross_entropy(jnp.log(P[:3]), LABEL[:3], jnp.float32(1.0)),
        -np.log([0.5, 0.75, 0.25]).mean(),
        rtol=1e-6,
        atol=ATOL,
    )


@pytest.mark.parametrize("gamma_dice, gamma_cross", [(0.3, 0.3), (1.0, 1.0), (1.0, 0.3)])
def test_exponential_logarithmic(gamma_dice, gamma_cross):
    weights = (1.5, 2.0, 4.0)
    loss = pixelwise.exponential_logarithmic(weights, gamma_dice=gamma_dice, gamma_cross=gamma_cross)
    rng = np.random.default_rng(15)
    logits = rng.normal(size=(2, 5, K)).astype(np.float32)
    label = rng.integers(0, K, (2, 5)).astype(np.uint8)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    values = {"logits": logits, "probabilities": p, "label": label, "mask": np.ones(2, np.float32)}
    value, _, logs = compiled(loss.apply)(loss.init(), values)

    truth = np.eye(K)[label]
    dice = (2 * (p * truth).sum((0, 1)) + 1) / (p.sum((0, 1)) + truth.sum((0, 1)) + 1)
    dice_part = np.mean((-np.log(dice)) ** gamma_dice)
    picked = np.take_along_axis(p, label[..., None].astype(int), -1)[..., 0]
    cross_part = np.mean(np.array(weights)[label] * (-np.log(picked)) ** gamma_cross, axis=1)
    np.testing.assert_allclose(value, 0.8 * dice_part + 0.2 * cross_part, rtol=1e-5, atol=ATOL)
    np.testing.assert_allclose(logs["dice"], np.full(2, dice_part), rtol=1e-5, atol=ATOL)
    np.testing.assert_allclose(logs["cross_weighted"], 0.2 * cross_part, rtol=1e-5, atol=ATOL)


@pytest.mark.parametrize("distance", [latent.code_distance, latent.sum_squared_error])
def test_squared_distances_are_sums(distance):
    a, b = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[1.0, 0.0], [0.0, 8.0]])
    assert distance(a, b, jnp.float32(1.0)) == 0 + 4 + 9 + 16
    with pytest.raises(AssertionError, match="shape"):
        distance(a, b[0], jnp.float32(1.0))


def test_relative_code_distance_is_the_error_by_the_variance_of_the_batch():
    """Of the real examples; 1 for the mean code, unchanged if both codes are scaled, finite if all codes are equal."""
    rng = np.random.default_rng(3)
    code, predicted = rng.normal(2, 3, (2, 5, 4))
    mask = np.array([1, 1, 0, 1, 1.0])
    loss = latent.relative_code_distance("predicted", "code")

    @compiled
    def value(predicted, code):
        return loss.apply((), {"predicted": predicted, "code": code, "mask": jnp.asarray(mask, jnp.float32)})[0]

    real = mask > 0
    variance = code[real].var(0).sum()
    expected = np.square(predicted - code)[real].sum(1).mean() / variance
    np.testing.assert_allclose(value(predicted, code), np.full(5, expected), rtol=1e-5)
    np.testing.assert_allclose(value(1e-3 * predicted, 1e-3 * code), np.full(5, expected), rtol=1e-4)
    np.testing.assert_allclose(value(np.tile(code[real].mean(0), (5, 1)), code), np.ones(5), rtol=1e-5)
    assert np.isfinite(value(predicted, np.ones((5, 4)))).all()


def test_smooth_l1_is_the_mean_of_hubers_function():
    target = np.zeros((2, 3, 1), np.float32)
    prediction = np.array([0.0, 0.5, -0.5, 1.0, -2.0, 3.5], np.float32).reshape(target.shape)
    expected = (0 + 0.125 + 0.125 + 0.5 + 1.5 + 3.0) / 6
    np.testing.assert_allclose(restoration.smooth_l1(prediction, target), expected, rtol=1e-6)
    slope = compiled(jax.grad(restoration.smooth_l1))(prediction, target)
    np.testing.assert_allclose(6 * slope.reshape(-1), [0, 0.5, -0.5, 1, -1, 1], rtol=1e-6)
    with pytest.raises(AssertionError, match="shape"):
        restoration.smooth_l1(prediction, target[0])


def test_position_error():
    np.testing.assert_allclose(position.position_error(jnp.float32(0.25), jnp.float32(1.0)), 0.5625)


def test_adversarial_losses_are_cross_entropies_of_the_sigmoid():
    real, fake, one = jnp.float32(0.7), jnp.float32(-1.3), jnp.float32(1.0)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    np.testing.assert_allclose(adversarial.generator_loss(fake, one), -np.log(sigmoid(-1.3)), rtol=1e-6)
    expected = -np.log(sigmoid(0.7)) - np.log(1 - sigmoid(-1.3))
    np.testing.assert_allclose(adversarial.discriminator_loss(real, fake, one), expected, rtol=1e-6)


def test_adversarial_losses_of_a_volume_are_means_over_its_slices():
    real, fake, half = jnp.array([0.7, -2.0, 0.1]), jnp.array([-1.3, 0.4, 3.0]), jnp.float32(0.5)
    alone = [adversarial.discriminator_loss(r, f, half) for r, f in zip(real, fake, strict=True)]
    np.testing.assert_allclose(adversarial.discriminator_loss(real, fake, half), np.mean(alone), rtol=1e-6)
    alone = [adversarial.generator_loss(f, half) for f in fake]
    np.testing.assert_allclose(adversarial.generator_loss(fake, half), np.mean(alone), rtol=1e-6)
