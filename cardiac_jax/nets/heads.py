"""Heads that predict a scalar from the features of a network."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cardiac_jax.nets.layers import glorot


def global_average(x: Array) -> Array:
    """Mean over the spatial axes: [B, *S, C] -> [B, C]."""
    return x.mean(tuple(range(1, x.ndim - 1)))


def flatten(x: Array) -> Array:
    """All features in one vector: [B, *S, C] -> [B, prod(S) * C]; restricts the head to one input size."""
    return x.reshape(x.shape[0], -1)


class PositionHead(nn.Module):
    """Bottleneck [B, *S, C] -> slice position [B] in (0, 1): 0 apex, 1 base (Yue et al. 2019, eq. 4)."""

    hidden: int = 256
    summary: Callable[[Array], Array] = global_average
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        out = jnp.promote_types(x.dtype, jnp.float32)
        x = nn.relu(nn.Dense(self.hidden, dtype=self.dtype, kernel_init=glorot, name="hidden_layer")(self.summary(x)))
        logit = nn.Dense(1, dtype=self.dtype, kernel_init=glorot, name="output")(x)
        return nn.sigmoid(logit[:, 0].astype(out))
