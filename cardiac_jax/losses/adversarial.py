"""Sigmoid cross-entropy of a discriminator's logits (SRSCN, section 2.5). One example each."""

import jax

from cardiac_jax.core.types import Array


def generator_loss(fake: Array, where: Array) -> Array:
    """The generator's term: cross-entropy of the prediction's logit against "gold standard", times `where`."""
    return where * jax.nn.softplus(-fake)


def discriminator_loss(real: Array, fake: Array, where: Array) -> Array:
    """The discriminator's loss: gold standard against 1, prediction against 0, times `where`."""
    return where * (jax.nn.softplus(-real) + jax.nn.softplus(fake))
