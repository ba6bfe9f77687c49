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
    """[B, *S, C] -> [B, *(S / window), features]: pooling, two convolutions, and a merge with the pooled input.

    A 1x1x1 convolution merges the concatenated input and output; the residual path has no activation. `window` 1
    disables the pooling. `residual` False disables the merge (first block).
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
    """[B, *S, C] -> [B, *(S / window), features]: the summed outputs of one convolution per dilation, in series."""

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

    With `remat`, the input of the first convolution is not stored for the backward pass.
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
    decoder blocks and a 1x1x1 convolution as head. Normalisation and ReLU follow every convolution except the merge
    convolutions and the head. The logits are meant for a sigmoid with one class and for a softmax with several. The
    network has 0.59 million parameters with 8 filters, 2.4 million with 16 and 9.4 million with 32.

    Attributes:
      keep_z: pool and upsample in-plane only.
      remat: store only the input of each block and recompute the rest in the backward pass. Parameters and
        statistics are identical, gradients equal to rounding. At 16 x 256 x 256 with `keep_z` it halves the memory of
        a step (`benchmarks/memory.py`) and makes the step a fifth longer.

    Raises:
      ValueError: the input is not 5D, or a size (with `keep_z`, H or W) is not divisible by 8.
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
        """Pooling window (z, y, x) of each of the three poolings."""
        return (1, 2, 2) if self.keep_z else (2, 2, 2)

    def head(self, features: Array, *, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        """Logits of the final feature map: [B, *S, filters] -> [B, *S, classes]."""
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
