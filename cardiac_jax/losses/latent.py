"""Distances of one example in an autoencoder's code (ACNN) and in its reconstruction (SRSCN, eq. 3)."""

import chex
import jax.numpy as jnp

from cardiac_jax.core.loss import pooled
from cardiac_jax.core.types import Array, Loss

LEAST_VARIANCE = 1e-6
"""Lower bound of the variance of codes, summed over their dimensions: a batch of equal examples has none."""


def code_distance(prediction: Array, target: Array, where: Array) -> Array:
    """Squared distance `||f(phi(x)) - f(y)||^2` of two codes `[D]` (ACNN eq. 1), times `where` (0 drops the example).

    Raises:
      AssertionError: shapes differ.
    """
    chex.assert_equal_shape([prediction, target])
    return where * jnp.sum(jnp.square(prediction - target))


def sum_squared_error(prediction: Array, target: Array, where: Array) -> Array:
    """`||R_hat - R||_F^2` of reconstructions `[*S, K]`, summed over pixels and classes (SRSCN eq. 3), times `where`.

    Raises:
      AssertionError: shapes differ.
    """
    chex.assert_equal_shape([prediction, target])
    return where * jnp.sum(jnp.square(prediction - target))


def relative_code_distance(prediction: str, target: str, axis_name: str | None = None) -> Loss:
    """Loss `[B]`: squared distance of codes over the batch, divided by the variance of the target over the batch.

    It is 1 if every prediction is the mean code, and 0 if the codes agree. Codes of another scale have the same value,
    so this loss does not shrink codes that it trains, as the squared distance does.

    Args:
      prediction, target: names of the values `[B, D]`. Gradient flows to both, through the variance too.
      axis_name: the device axis.
    """

    def statistics(prediction: Array, target: Array) -> tuple[Array, Array, Array, Array]:
        chex.assert_equal_shape([prediction, target])
        error = jnp.sum(jnp.square(prediction - target))
        return error, target, jnp.sum(jnp.square(target)), jnp.ones(())

    def value(sums: tuple[Array, Array, Array, Array]) -> Array:
        error, total, squares, count = sums
        count = jnp.maximum(count, 1.0)
        variance = squares / count - jnp.sum(jnp.square(total / count))
        return error / count / jnp.maximum(variance, LEAST_VARIANCE)

    return pooled(statistics, value, axis_name, prediction=prediction, target=target)
