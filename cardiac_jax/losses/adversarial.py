"""Sigmoid cross-entropy of a discriminator's logits (SRSCN, section 2.5), for one example.

A discriminator of slices gives a volume one logit per slice; its loss is their mean.
"""

import jax
import jax.numpy as jnp

from cardiac_jax.core.types import Array


def generator_loss(fake: Array, where: Array) -> Array:
    """Generator loss, scalar: cross-entropy of the prediction's logit `fake` with target 1, times `where`."""
    return where * jnp.mean(jax.nn.softplus(-fake))


def discriminator_loss(real: Array, fake: Array, where: Array) -> Array:
    """Discriminator loss, scalar: cross-entropy of `real` with target 1 and `fake` with target 0, times `where`.

    Args:
      real: logit of the gold standard.
      fake: logit of the prediction.
      where: weight of the example; 0 drops it.
    """
    return where * jnp.mean(jax.nn.softplus(-real) + jax.nn.softplus(fake))
