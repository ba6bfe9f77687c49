"""Sub-pixel network: 3D-Seg and the super-resolution network of ACNN (Oktay et al. 2018, figure 2)."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cardiac_jax.nets.layers import BatchNorm, Conv, ConvTranspose, ConvUnit, Module
from cardiac_jax.nets.unet import refuse_indivisible
from cardiac_jax.ops.conv import Size, per_axis


class SubPixel(nn.Module):
    """[B, Z, H, W, C] -> logits [B, *(S * scale), classes], features [B, *(S / window^3), features[-1]].

    Features are computed on the grid of the input and enlarged to the fine grid just before the last layers. Encoder:
    per width in `features` two convolutions (kernel 3), the first of stride `window` except at the top. Decoder: per
    level a transposed convolution (stride `window`, kernel twice that), concatenation with the skip, and one
    convolution. Then a transposed convolution of stride `scale` and kernel twice that, one convolution, and a 1x1x1
    convolution as head. Along an axis of stride 1 a transposed convolution has kernel 1. Along an axis of window 1 the
    convolutions of the deepest stage and the first convolution of the decoder have kernel 1. Batch normalisation and
    ReLU follow every layer except the head. Outputs are float32 or wider.

    The paper gives kernels and strides, but neither widths nor how skips are joined. The default widths have 1.60
    million parameters with one channel and three classes, as in table I. With window (2, 2, 2) and scale 1, for
    isotropic ultrasound, widths of 16, 40, 64, 96 have 1.59 million.

    Attributes:
      scale: voxels of the output per voxel of the input along each axis; with 1 everywhere there is no such layer.

    Raises:
      ValueError: a size is not divisible by window^3.
    """

    features: Sequence[int] = (32, 48, 96, 160)
    classes: int = 3
    scale: Size = (5, 1, 1)
    window: Size = (1, 2, 2)
    norm: Module | None = BatchNorm
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> tuple[Array, Array]:
        rank, deepest = x.ndim - 2, len(self.features) - 1
        window, scale = per_axis(self.window, rank), per_axis(self.scale, rank)
        refuse_indivisible(x.shape[1:-1], window, deepest)
        norm = None if self.norm is None else partial(self.norm, axis_name=self.axis_name)
        out = jnp.promote_types(x.dtype, jnp.float32)

        def unit(name: str, layer: Module, x: Array) -> Array:
            return ConvUnit(layer, norm, self.dtype, name=name)(x, train=train, mask=mask)

        def enlarged(name: str, width: int, strides: tuple[int, ...], x: Array) -> Array:
            kernel = tuple(2 * s if s > 1 else 1 for s in strides)
            return unit(name, partial(ConvTranspose, width, kernel, strides), x)

        flat = tuple(3 if w > 1 else 1 for w in window)
        skips = []
        for level, width in enumerate(self.features):
            kernel = flat if level == deepest else 3
            x = unit(f"encoder_{level}_0", partial(Conv, width, kernel, window if level else 1), x)
            x = unit(f"encoder_{level}_1", partial(Conv, width, kernel), x)
            skips.append(x)
        bottleneck = x
        for level in reversed(range(deepest)):
            width = self.features[level]
            x = jnp.concatenate([skips[level], enlarged(f"up_{level}", width, window, x)], axis=-1)
            x = unit(f"decoder_{level}", partial(Conv, width, flat if level == deepest - 1 else 3), x)
        if max(scale) > 1:
            x = enlarged("up_scale", self.features[0], scale, x)
        x = unit("fine", partial(Conv, self.features[0], 3), x)
        logits = Conv(self.classes, 1, dtype=self.dtype, name="head")(x)
        return logits.astype(out), bottleneck.astype(out)
