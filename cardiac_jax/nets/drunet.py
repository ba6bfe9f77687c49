"""3D dilated residual U-Net, localiser and segmenter of Vesal et al. 2020 (J. Imaging 6:65, section 3, figure 2)."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cardiac_jax.nets.layers import BatchNorm, Conv, ConvBlock, Module
from cardiac_jax.nets.remat import remat
from cardiac_jax.nets.unet import refuse_indivisible
from cardiac_jax.ops.conv import Size
from cardiac_jax.ops.pool import max_pool, upsample_nearest

LEVELS = 3
DILATIONS = (1, 2, 4, 8)


class ResidualEncoder(nn.Module):
    """[B, *S, C] -> [B, *(S / window), features]: pooling, two convolutions, their output merged with the input.

    Input and output are concatenated and merged by a convolution of one voxel, linearly: no activation lies on the
    residual path. With `window` 1 nothing is pooled; `residual` False leaves the merging out (first block).
    """

    features: int
    window: Size
    residual: bool = True
    norm: Module | None = BatchNorm
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        x = x if self.window == 1 else max_pool(x, self.window)
        y = ConvBlock(self.features, norm=self.norm, dtype=self.dtype)(x, train=train, mask=mask)
        if not self.residual:
            return y
        both = jnp.concatenate([x.astype(y.dtype), y], axis=-1)
        return Conv(self.features, 1, bias=False, dtype=self.dtype, name="merge")(both)


class DilatedBottleneck(nn.Module):
    """[B, *S, C] -> [B, *(S / window), features]: one convolution per dilation, in turn; the sum of their outputs."""

    features: int
    window: Size
    norm: Module | None = BatchNorm
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        x = max_pool(x, self.window)
        outputs = []
        for dilation in DILATIONS:
            block = ConvBlock(self.features, 1, dilation=dilation, norm=self.norm, dtype=self.dtype)
            x = block(x, train=train, mask=mask)
            outputs.append(x)
        return sum(outputs[1:], start=outputs[0])


class SkipDecoder(nn.Module):
    """[B, *S, C], skip [B, *(S * window), F] -> [B, *(S * window), features]: nearest upsampling, two convolutions.

    With `remat` what the first of them reads is not kept for the backward pass.
    """

    features: int
    window: Size
    norm: Module | None = BatchNorm
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, x: Array, skip: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> Array:
        def join(skip: Array, x: Array) -> Array:
            return jnp.concatenate([skip, upsample_nearest(x, self.window)], axis=-1)

        block = partial(ConvBlock, self.features, norm=self.norm, dtype=self.dtype)
        if self.remat:
            return block(source=join)(skip, x, train=train, mask=mask)
        return block()(join(skip, x), train=train, mask=mask)


class DRUNet(nn.Module):
    """[B, Z, H, W, C] -> logits [B, Z, H, W, classes], features [B, Z, H, W, filters], float32 or wider.

    Three encoder blocks of `filters` x 1, 2, 4, a bottleneck of `filters` x 8 with dilations 1, 2, 4, 8, three
    decoder blocks and a head of one voxel; every convolution but the merging ones and the head is followed by
    normalisation and ReLU. One class asks for a sigmoid, several for a softmax. 8 filters have 0.59 million
    parameters, 16 have 2.4, 32 have 9.4.

    Attributes:
      keep_z: pool and upsample in plane only.
      remat: compute the blocks again in the backward pass instead of keeping what they computed; the same
        parameters and statistics, and the same gradients to rounding. What is kept is the input of each block. At
        16 x 256 x 256 with `keep_z` it halves the memory of a step (`benchmarks/memory.py`), which takes a fifth
        longer.

    Raises ValueError if a size (with `keep_z`, H or W) is not divisible by 8.
    """

    filters: int = 16
    classes: int = 4
    keep_z: bool = False
    remat: bool = False
    norm: Module | None = BatchNorm
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        norm = None if self.norm is None else partial(self.norm, axis_name=self.axis_name)
        widths = [self.filters * 2**level for level in range(LEVELS + 1)]
        given = {"norm": norm, "dtype": self.dtype}
        self.encoder = [
            ResidualEncoder(width, self.window if level else 1, level > 0, **given)
            for level, width in enumerate(widths[:-1])
        ]
        self.bottleneck = DilatedBottleneck(widths[-1], self.window, **given)
        self.decoder = [SkipDecoder(width, self.window, remat=self.remat, **given) for width in widths[:-1]]
        self.output = Conv(self.classes, 1, dtype=self.dtype)

    @property
    def window(self) -> tuple[int, int, int]:
        """What each of the three poolings pools by."""
        return (1, 2, 2) if self.keep_z else (2, 2, 2)

    def head(self, features: Array, *, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        """The part of the network after its final feature map: [B, *S, filters] -> logits [B, *S, classes]."""
        return self.output(features).astype(jnp.promote_types(features.dtype, jnp.float32))

    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> tuple[Array, Array]:
        if x.ndim != 5:
            raise ValueError(f"input of shape {x.shape} is not [B, Z, H, W, C]")
        refuse_indivisible(x.shape[1:-1], self.window, LEVELS)
        out = jnp.promote_types(x.dtype, jnp.float32)

        def run(block: nn.Module, mask: Array | None, *inputs: Array) -> Array:
            return block(*inputs, train=train, mask=mask)

        run = remat(run) if self.remat else run
        skips = []
        for block in self.encoder:
            x = run(block, mask, x)
            skips.append(x)
        x = run(self.bottleneck, mask, x)
        for block, skip in zip(self.decoder[::-1], skips[::-1], strict=True):
            x = run(block, mask, x, skip)
        features = x.astype(out)
        return self.head(features, train=train), features
