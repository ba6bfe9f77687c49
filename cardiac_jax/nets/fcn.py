"""2D fully convolutional network, run on the slices of a volume (Tran 2016, arXiv:1604.00494, and its code)."""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cardiac_jax.nets.layers import BatchNorm, Conv, ConvBlock, ConvTranspose, Dropout
from cardiac_jax.nets.unet import refuse_indivisible
from cardiac_jax.ops.conv import Size
from cardiac_jax.ops.pool import max_pool, upsample_nearest

WINDOW = (2, 2)


class FCN(nn.Module):
    """[B, H, W, C] -> logits [B, H, W, classes], features [B, H / 8, W / 8, features[-1]], float32 or wider.

    Stages of `convs` convolutions (kernel 3) with pooling between them and dropout before and after the last stage.
    Class scores (kernel 1) of all stages except the first are averaged from the deepest upwards; each average is
    enlarged by a transposed convolution of the scores (kernel 3, stride 2).

    As adapted for ACNN (Oktay et al. 2018, table I): batch normalisation replaces the normalisation of each feature
    map by its own mean and variance, the windows of pooling do not overlap, and the default widths have 1.37 million
    parameters instead of 11 million.

    Raises:
      ValueError: H or W is not divisible by 2^poolings, 8 by default.
    """

    features: Sequence[int] = (24, 48, 96, 176)
    classes: int = 3
    convs: Sequence[int] = (3, 4, 4, 4)
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> tuple[Array, Array]:
        deepest = len(self.features) - 1
        refuse_indivisible(x.shape[1:-1], WINDOW, deepest)
        norm = partial(BatchNorm, axis_name=self.axis_name)
        out = jnp.promote_types(x.dtype, jnp.float32)
        drop = partial(Dropout(self.dropout), train=train, index=index)

        def score(level: int, x: Array) -> Array:
            return Conv(self.classes, 1, dtype=self.dtype, name=f"score_{level}")(x)

        stages = []
        for level, (width, convs) in enumerate(zip(self.features, self.convs, strict=True)):
            x = max_pool(x, WINDOW) if level else x
            x = drop(x) if level == deepest else x
            block = ConvBlock(width, convs, norm=norm, dtype=self.dtype, name=f"stage_{level}")
            x = block(x, train=train, mask=mask, index=index)
            stages.append(x)
        scores = score(deepest, drop(x))
        for level in reversed(range(deepest)):
            scores = ConvTranspose(self.classes, 3, 2, bias=False, dtype=self.dtype, name=f"up_{level}")(scores)
            if level:
                scores = (score(level, stages[level]) + scores) / 2
        logits = Conv(self.classes, 1, dtype=self.dtype, name="head")(scores)
        return logits.astype(out), x.astype(out)


def by_slice(
    net: Callable[..., tuple[Array, Array]],
    x: Array,
    axis: int,
    *,
    train: bool,
    mask: Array | None = None,
    index: Array | None = None,
) -> tuple[Array, Array]:
    """A 2D network on every slice of volumes across spatial axis `axis` (0: Z), each slice an example.

    Returns:
      Logits [B, Z, H, W, K], and the features with the slices before their axes, [B, N, *s, F].
    """
    slices = jnp.moveaxis(x, 1 + axis, 1)
    batch, count = slices.shape[:2]
    flat = slices.reshape(batch * count, *slices.shape[2:])
    mask = None if mask is None else jnp.repeat(mask, count)
    if index is not None:
        index = (index[:, None] * count + jnp.arange(count)[None]).reshape(-1)
    logits, features = (y.reshape(batch, count, *y.shape[1:]) for y in net(flat, train=train, mask=mask, index=index))
    return jnp.moveaxis(logits, 1, 1 + axis), features


class BySlice(nn.Module):
    """`net`, a 2D network, on the slices of a volume: [B, Z, H, W, C] -> logits [B, *(S * scale), K], features.

    On the fine grid, every voxel has the logits of the voxel of the slice that it lies in.
    """

    net: nn.Module
    scale: Size = 1

    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> tuple[Array, Array]:
        logits, features = by_slice(self.net, x, 0, train=train, mask=mask, index=index)
        return upsample_nearest(logits, self.scale), features
