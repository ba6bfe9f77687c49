"""Layers and blocks the networks are composed of. Any number of spatial axes: the rank is the input's.

Every block is called as `block(x, train=..., mask=..., index=...)` with x [B, *S, C]:
- `mask` [B], 1 for a real example, 0 for padding: batch statistics ignore padding;
- `index` [B] int32, position of each example in the global batch: what is random is keyed by it, so that results do
  not depend on the number of devices.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from cardiac_jax.ops.conv import Size, conv, conv_transpose, per_axis
from cardiac_jax.ops.pool import upsample_nearest

Module = Callable[..., Any]  # a module class, or a `partial` of one
glorot = nn.initializers.glorot_uniform()


class Conv(nn.Module):
    """[B, *S, Cin] -> [B, *ceil(S / strides), features]."""

    features: int
    kernel: Size = 3
    strides: Size = 1
    dilation: Size = 1
    bias: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (*per_axis(self.kernel, x.ndim - 2), x.shape[-1], self.features)
        kernel = self.param("kernel", glorot, shape).astype(self.dtype)
        y = conv(x.astype(self.dtype), kernel, strides=self.strides, dilation=self.dilation)
        return _add_bias(self, y) if self.bias else y


class ConvTranspose(nn.Module):
    """[B, *S, Cin] -> [B, *(S * strides), features]."""

    features: int
    kernel: Size = 2
    strides: Size = 2
    bias: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (*per_axis(self.kernel, x.ndim - 2), x.shape[-1], self.features)
        kernel = self.param("kernel", glorot, shape).astype(self.dtype)
        y = conv_transpose(x.astype(self.dtype), kernel, strides=self.strides)
        return _add_bias(self, y) if self.bias else y


def _add_bias(module: nn.Module, y: Array) -> Array:
    bias = module.param("bias", nn.initializers.zeros, (y.shape[-1],)).astype(y.dtype)
    return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


class BatchNorm(nn.Module):
    """Batch normalisation; variables as in `flax.linen.BatchNorm`, statistics over the real examples of all devices.

    Sums run over [B * S0 * .., S_last * C] before they run over S_last, because XLA reduces long rows well and
    short channel vectors badly; scale and offset are applied in the same shape so that their gradients do as well.
    """

    momentum: float = 0.99
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None) -> Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        mean_ = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        var_ = self.variable("batch_stats", "var", jnp.ones, (channels,))
        width = x.shape[-2] if x.ndim > 2 else 1
        rows = x.astype(jnp.promote_types(x.dtype, jnp.float32)).reshape(-1, width * channels)

        mean, var = mean_.value, var_.value
        if train:
            mean, var = self._statistics(rows, channels, mask)
            if not self.is_initializing():
                mean_.value = self.momentum * mean_.value + (1 - self.momentum) * mean
                var_.value = self.momentum * var_.value + (1 - self.momentum) * var
        gain = scale * lax.rsqrt(var + self.epsilon)
        y = rows * _tile(gain, width) + _tile(bias - mean * gain, width)
        return y.reshape(x.shape).astype(self.dtype)

    def _statistics(self, rows: Array, channels: int, mask: Array | None) -> tuple[Array, Array]:
        kept = rows
        count = jnp.asarray(rows.size // channels, rows.dtype)
        if mask is not None:
            mask = mask.astype(rows.dtype)
            per_example = rows.shape[0] // mask.shape[0]
            weight = jnp.broadcast_to(mask[:, None], (mask.shape[0], per_example)).reshape(-1, 1)
            kept = rows * weight
            count = mask.sum() * (rows.size // channels // mask.shape[0])
        sums = jnp.stack([kept.sum(0), (kept * rows).sum(0)]).reshape(2, -1, channels).sum(1)
        if self.axis_name is not None and not self.is_initializing():
            sums, count = lax.psum((sums, count), self.axis_name)
        mean, square = sums / jnp.maximum(count, 1)
        return mean, jnp.maximum(square - mean * mean, 0)


def _tile(v: Array, width: int) -> Array:
    return jnp.broadcast_to(v[None], (width, v.shape[0])).reshape(1, -1)


class Dropout(nn.Module):
    """Dropout keyed by example. `rate` is realised in steps of 1/256 and what is kept is divided by exactly that."""

    rate: float

    @nn.compact
    def __call__(self, x: Array, *, train: bool, index: Array | None = None) -> Array:
        dropped = round(self.rate * 256)
        if not train or dropped == 0:
            return x
        if not 0 < dropped < 256:
            raise ValueError(f"dropout rate {self.rate} is not in [0, 1)")
        key = self.make_rng("dropout")
        index = jnp.arange(x.shape[0]) if index is None else index
        size = prod(x.shape[1:])
        bits = jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(key, i), (-(-size // 4),), jnp.uint32))(
            index
        )
        bits = lax.bitcast_convert_type(bits, jnp.uint8).reshape(x.shape[0], -1)[:, :size].reshape(x.shape)
        return jnp.where(bits >= dropped, x * (256 / (256 - dropped)), jnp.zeros((), x.dtype))


class ConvBlock(nn.Module):
    """`convs` times convolution, normalisation, dropout, activation. With no `norm` the convolution has a bias."""

    features: int
    convs: int = 2
    kernel: Size = 3
    norm: Module | None = BatchNorm
    dropout: float = 0.0
    activation: Callable[[Array], Array] = nn.relu
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> Array:
        for _ in range(self.convs):
            x = Conv(self.features, self.kernel, bias=self.norm is None, dtype=self.dtype)(x)
            if self.norm is not None:
                x = self.norm(dtype=self.dtype)(x, train=train, mask=mask)
            x = self.activation(Dropout(self.dropout)(x, train=train, index=index))
        return x


class UpConv(nn.Module):
    """Learned upsampling by `window`: transposed convolution of that size and stride, normalisation, ReLU."""

    features: int
    window: Size = 2
    norm: Module | None = BatchNorm
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> Array:
        x = ConvTranspose(self.features, self.window, self.window, bias=self.norm is None, dtype=self.dtype)(
            x
        )
        return nn.relu(x if self.norm is None else self.norm(dtype=self.dtype)(x, train=train, mask=mask))


class UpNearest(nn.Module):
    """Nearest upsampling by `window`; `features`, `norm` and `dtype` are those of every upsampling and not used."""

    features: int
    window: Size = 2
    norm: Module | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> Array:
        return upsample_nearest(x, self.window)
