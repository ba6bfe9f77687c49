"""Slice-position regression (SRSCN, eq. 4)."""

import jax.numpy as jnp

from cardiac_jax.core.types import Array


def position_error(prediction: Array, target: Array) -> Array:
    """Squared error of one slice's position, scalar; positions are 0 at the apex and 1 at the base."""
    return jnp.square(prediction - target)
