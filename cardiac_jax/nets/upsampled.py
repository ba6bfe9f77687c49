"""Networks that compute on the fine grid throughout: the image is enlarged before the first layer."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cardiac_jax.nets.layers import BatchNorm, Conv, ConvTranspose, ConvUnit
from cardiac_jax.nets.remat import remat
from cardiac_jax.ops.pool import upsample_linear


class Upsampled(nn.Module):
    """[B, *S, C] -> what `net` returns for the image enlarged linearly to S * scale."""

    net: nn.Module
    scale: Sequence[int]

    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> tuple[Array, Array]:
        return self.net(upsample_linear(x, self.scale), train=train, mask=mask, index=index)


class SRCNN(nn.Module):
    """[B, *S, C] -> image [B, *(S * scale), outputs], features [B, *(S * scale), features[-1]], float32 or wider.

    The residual super-resolution network of Oktay et al. 2016 (Multi-input cardiac image super-resolution using
    convolutional neural networks, MICCAI), SR-CNN in table III of ACNN. A transposed convolution (stride `scale`,
    kernel twice that, 1 where the stride is 1) enlarges the image; convolutions (kernel 3) follow on the fine grid,
    and the result of the last one is added to the linearly enlarged image. Batch normalisation and ReLU follow every
    layer except the last. ACNN gives the network the filters and capacity of `SubPixel`; number and widths of the
    layers are chosen for that (1.55 million parameters) and are not those of 2016.

    Attributes:
      features: channels of the transposed convolution and of every convolution except the last.
      outputs: channels of the image; equal to C.
      remat: store only the input of each layer and recompute the rest in the backward pass.
    """

    features: Sequence[int] = (64,) * 15
    outputs: int = 1
    scale: Sequence[int] = (5, 1, 1)
    remat: bool = False
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        unit = partial(ConvUnit, norm=partial(BatchNorm, axis_name=self.axis_name), dtype=self.dtype)
        kernel = tuple(2 * s if s > 1 else 1 for s in self.scale)
        self.enlarge = unit(partial(ConvTranspose, self.features[0], kernel, self.scale))
        self.layers = [unit(partial(Conv, width, 3)) for width in self.features[1:]]
        self.head = Conv(self.outputs, 3, dtype=self.dtype)

    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> tuple[Array, Array]:
        out = jnp.promote_types(x.dtype, jnp.float32)

        def run(layer: nn.Module, mask: Array | None, x: Array) -> Array:
            return layer(x, train=train, mask=mask)

        run = remat(run) if self.remat else run
        y = x
        for layer in (self.enlarge, *self.layers):
            y = run(layer, mask, y)
        return upsample_linear(x.astype(out), self.scale) + self.head(y).astype(out), y.astype(out)
