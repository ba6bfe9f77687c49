"""U-Net with residual blocks: the two segmentation networks of ACSNet (Abramson, Popescu et al. 2020, figure 6)."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cardiac_jax.nets.layers import BatchNorm, Conv, Dropout, Module
from cardiac_jax.nets.unet import UNet

LEVELS = 4


class ResidualBlock(nn.Module):
    """[B, *S, C] -> [B, *S, features]: twice (convolution, ReLU, normalisation), residual connection, dropout.

    If C differs from `features`, a convolution with kernel 1 projects the input before it is added.
    """

    features: int
    norm: Module | None = BatchNorm
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        y = x
        for _ in range(2):
            y = nn.relu(Conv(self.features, 3, dtype=self.dtype)(y))
            if self.norm is not None:
                y = self.norm(dtype=self.dtype)(y, train=train, mask=mask)
        if x.shape[-1] != self.features:
            x = Conv(self.features, 1, dtype=self.dtype, name="shortcut")(x)
        return Dropout(self.dropout)(x.astype(y.dtype) + y, train=train, index=index)


def resunet(
    filters: int,
    classes: int,
    dropout: float,
    momentum: float = 0.99,
    dtype: DTypeLike = jnp.float32,
    axis_name: str | None = None,
) -> nn.Module:
    """`UNet` of residual blocks with four levels of `filters` x 1, 2, 4, 8 and a bottleneck of `filters` x 16.

    `momentum` is that of the running statistics, whose variance starts at 1. The variance after a ReLU is far below 1.
    The initial value still has weight momentum^n after n steps and attenuates each of the 18 layers: after 200 steps
    with 0.99, the network segments everything in training mode and nothing in inference mode.
    """
    features = tuple(filters * 2**level for level in range(LEVELS + 1))
    norm = partial(BatchNorm, momentum=momentum)
    return UNet(features, classes, dropout=dropout, block=ResidualBlock, norm=norm, dtype=dtype, axis_name=axis_name)
