"""Distances of one example in an autoencoder's code (ACNN) and in its reconstruction (SRSCN, eq. 3)."""

import chex
import jax.numpy as jnp

from cardiac_jax.core.types import Array


def code_distance(prediction: Array, target: Array, where: Array) -> Array:
    """Squared distance `||f(phi(x)) - f(y)||^2` of two codes `[D]` (ACNN eq. 4), times `where` (0 drops the example).

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
