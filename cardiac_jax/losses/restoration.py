"""Loss of a restored image (Oktay et al. 2018, section II-C)."""

import chex
import jax.numpy as jnp

from cardiac_jax.core.types import Array


def smooth_l1(prediction: Array, target: Array) -> Array:
    """Mean over voxels and channels of `psi(prediction - target)`, scalar; images `[*S, C]`.

    `psi(k)` is `k^2 / 2` where |k| < 1 and |k| - 1/2 elsewhere (Huber). The paper sums over the voxels; the mean keeps
    the loss independent of the size of the volume, as the cross-entropy is.

    Raises:
      AssertionError: shapes differ.
    """
    chex.assert_equal_shape([prediction, target])
    distance = jnp.abs(prediction - target)
    return jnp.mean(jnp.where(distance < 1.0, 0.5 * jnp.square(distance), distance - 0.5))
