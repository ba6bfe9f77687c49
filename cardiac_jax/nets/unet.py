"""U-Net of any rank with injected parts (Ronneberger et al. 2015; enhanced as in Yue et al. 2019)."""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cardiac_jax.nets.layers import BatchNorm, Conv, ConvBlock, Module, UpConv
from cardiac_jax.ops.conv import Size, per_axis
from cardiac_jax.ops.pool import max_pool


class UNet(nn.Module):
    """[B, *S, C] -> logits [B, *S, classes], bottleneck [B, *(S / window^poolings), features[-1]].

    Outputs are float32 or wider. `window` is the window of each of the len(features) - 1 poolings: 2, or (1, 2, 2)
    to pool in-plane only in 3D. Injected parts are called as `block(features, norm=, dropout=, dtype=, name=)`,
    `up(features, window=, norm=, dtype=, name=)` and `down(x, window)`. `norm` first receives `axis_name` and is then
    called as `norm(dtype=)`; None disables normalisation.

    Raises:
      ValueError: a size is not divisible by window^poolings.
    """

    features: Sequence[int] = (32, 64, 128, 256, 512)
    classes: int = 4
    window: Size = 2
    dropout: float = 0.2
    block: Module = ConvBlock
    down: Callable[[Array, Size], Array] = max_pool
    up: Module = UpConv
    norm: Module | None = BatchNorm
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> tuple[Array, Array]:
        window = per_axis(self.window, x.ndim - 2)
        refuse_indivisible(x.shape[1:-1], window, len(self.features) - 1)
        norm = None if self.norm is None else partial(self.norm, axis_name=self.axis_name)
        block = partial(self.block, norm=norm, dropout=self.dropout, dtype=self.dtype)
        up = partial(self.up, window=window, norm=norm, dtype=self.dtype)
        given = {"train": train, "mask": mask, "index": index}
        out = jnp.promote_types(x.dtype, jnp.float32)

        skips = []
        for level, features in enumerate(self.features):
            x = block(features, name=f"encoder_{level}")(self.down(x, window) if level else x, **given)
            skips.append(x)
        bottleneck = x
        for level in reversed(range(len(self.features) - 1)):
            x = up(self.features[level], name=f"up_{level}")(x, **given)
            x = jnp.concatenate([skips[level], x], axis=-1)
            x = block(self.features[level], name=f"decoder_{level}")(x, **given)
        logits = Conv(self.classes, 1, dtype=self.dtype, name="head")(x)
        return logits.astype(out), bottleneck.astype(out)


def refuse_indivisible(size: Sequence[int], window: Sequence[int], poolings: int) -> None:
    """Check that every size is a positive multiple of window^poolings.

    Raises:
      ValueError: a size is not.
    """
    factor = tuple(w**poolings for w in window)
    if any(s == 0 or s % f for s, f in zip(size, factor, strict=True)):
        raise ValueError(f"size {tuple(size)} is not divisible by {factor}: pad or crop the input")
