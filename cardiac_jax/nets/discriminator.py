"""Discriminator between gold-standard and predicted label maps (the GAN baseline in Yue et al. 2019)."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cardiac_jax.nets.layers import Conv, glorot


class Discriminator(nn.Module):
    """Label map [B, *S, K], soft or one-hot -> logit [B], positive for "gold standard".

    It has no batch normalisation, so that the logit of an example does not depend on the other examples.
    """

    features: Sequence[int] = (32, 64, 128, 256)
    slope: float = 0.2
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        out = jnp.promote_types(x.dtype, jnp.float32)
        for features in self.features:
            x = nn.leaky_relu(Conv(features, 4, 2, dtype=self.dtype)(x), self.slope)
        logit = nn.Dense(1, dtype=self.dtype, kernel_init=glorot, name="output")(x.reshape(x.shape[0], -1))
        return logit[:, 0].astype(out)
