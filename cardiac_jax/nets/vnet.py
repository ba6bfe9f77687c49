"""V-Net, a residual baseline (Milletari, Navab and Ahmadi 2016, figure 2 and table 1)."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cardiac_jax.nets.layers import BatchNorm, Conv, ConvTranspose, Module
from cardiac_jax.nets.unet import refuse_indivisible
from cardiac_jax.ops.conv import Size, per_axis


class PReLU(nn.Module):
    """max(x, 0) + slope * min(x, 0) with a learned slope per channel, initially 0.25 (He et al. 2015, eq. 1)."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        slope = self.param("slope", nn.initializers.constant(0.25), (x.shape[-1],)).astype(x.dtype)
        return jnp.where(x >= 0, x, x * slope.reshape((1,) * (x.ndim - 1) + (-1,)))


class Unit(nn.Module):
    """`layer` (called as `layer(bias=, dtype=)`), normalisation, addition of `residual` if given, PReLU."""

    layer: Module
    norm: Module | None = BatchNorm
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, residual: Array | None = None, *, train: bool, mask: Array | None = None) -> Array:
        x = self.layer(bias=self.norm is None, dtype=self.dtype)(x)
        if self.norm is not None:
            x = self.norm(dtype=self.dtype)(x, train=train, mask=mask)
        return PReLU()(x if residual is None else x + residual.astype(x.dtype))


class VNet(nn.Module):
    """[B, *S, C] -> logits [B, *S, classes], features [B, *S, 2 * features[0]], float32 or wider.

    Each stage learns a residual: its input is added to the output of its last convolution. In the first stage, this
    input is the image, repeated over the channels. Convolutions with kernel and stride `window` between encoder
    stages halve the map and double the channels. Transposed convolutions undo this in the decoder, where the skip is
    concatenated; a decoder stage is therefore twice as wide as its skip. `convs` is the number of convolutions of each
    encoder stage; the decoder stage of a level has as many.

    Defaults are the published sizes. The published network has no normalisation (`norm` None). Reimplementations added
    batch normalisation, which lets the network use the learning rate of the networks it is compared with.

    Raises:
      ValueError: a size is not divisible by window^(levels - 1).
    """

    features: Sequence[int] = (16, 32, 64, 128, 256)
    convs: Sequence[int] = (1, 2, 3, 3, 3)
    classes: int = 4
    kernel: Size = 5
    window: Size = 2
    norm: Module | None = BatchNorm
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> tuple[Array, Array]:
        window, levels = per_axis(self.window, x.ndim - 2), len(self.features)
        refuse_indivisible(x.shape[1:-1], window, levels - 1)
        norm = None if self.norm is None else partial(self.norm, axis_name=self.axis_name)
        out = jnp.promote_types(x.dtype, jnp.float32)

        def unit(layer: Module, name: str, x: Array, residual: Array | None = None) -> Array:
            return Unit(layer, norm, self.dtype, name=name)(x, residual, train=train, mask=mask)

        def stage(x: Array, residual: Array, level: int, name: str) -> Array:
            count, layer = self.convs[level], partial(Conv, residual.shape[-1], self.kernel)
            for i in range(count):
                x = unit(layer, f"{name}_{level}_{i}", x, residual if i == count - 1 else None)
            return x

        skips = []
        for level, width in enumerate(self.features):
            if level:
                x = unit(partial(Conv, width, window, window), f"down_{level}", x)
            x = stage(x, x if level else _repeat(x, width), level, "encoder")
            skips.append(x)
        for level in reversed(range(levels - 1)):
            x = unit(partial(ConvTranspose, self.features[level], window, window), f"up_{level}", x)
            x = jnp.concatenate([skips[level], x], axis=-1)
            x = stage(x, x, level, "decoder")
        logits = Conv(self.classes, 1, dtype=self.dtype, name="output")(x)
        return logits.astype(out), x.astype(out)


def _repeat(x: Array, channels: int) -> Array:
    """`x` with its channels repeated cyclically: [..., C] -> [..., channels]."""
    return x[..., jnp.arange(channels) % x.shape[-1]]
