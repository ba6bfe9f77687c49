"""Distances in the autoencoder's spaces: its code (ACNN) and its reconstruction (SRSCN, eq. 3). One example each."""

import chex
import jax.numpy as jnp

from cardiac_jax.core.types import Array


def code_distance(prediction: Array, target: Array, where: Array) -> Array:
    """`||f(phi(x)) - f(y)||^2` of two codes `[D]` (ACNN eq. 4), times `where` (0 drops the example)."""
    chex.assert_equal_shape([prediction, target])
    return where * jnp.sum(jnp.square(prediction - target))


def sum_squared_error(prediction: Array, target: Array, where: Array) -> Array:
    """`||R_hat - R||_F^2` of reconstructions `[*S, K]`, summed over pixels and classes (SRSCN eq. 3), times `where`."""
    chex.assert_equal_shape([prediction, target])
    return where * jnp.sum(jnp.square(prediction - target))
