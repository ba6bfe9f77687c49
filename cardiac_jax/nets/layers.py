"""Layers and blocks of the networks, for any number of spatial axes.

Every block is called as `block(x, train=..., mask=..., index=...)` with x [B, *S, C]:
- `mask` [B] is 1 for a real example and 0 for padding; batch statistics ignore padding.
- `index` [B] int32 is the position of each example in the global batch; random numbers are keyed by it, so that
  results do not depend on the number of devices.
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from cardiac_jax.errors import InputError
from cardiac_jax.ops.conv import Size, conv, conv_transpose, per_axis
from cardiac_jax.ops.cpu.remat import remat_ordered

Module = Callable[..., Any]  # a module class, or a `partial` of one
glorot = nn.initializers.glorot_uniform()


def precision(name: str) -> jnp.dtype:
    """Compute type of the networks, for "float32" or "bfloat16".

    Raises:
      InputError: any other name.
    """
    if name not in ("float32", "bfloat16"):
        raise InputError("model.dtype", f"{name!r} is not one of float32, bfloat16")
    return jnp.dtype(name)


class Conv(nn.Module):
    """Convolution: [B, *S, Cin] -> [B, *ceil(S / strides), features].

    With `source`, the input is `source(*x)`; the backward pass recomputes it instead of storing it.
    """

    features: int
    kernel: Size = 3
    strides: Size = 1
    dilation: Size = 1
    bias: bool = True
    dtype: DTypeLike = jnp.float32
    source: Callable[..., Array] | None = None

    @nn.compact
    def __call__(self, *x: Array) -> Array:
        def apply(kernel: Array, *x: Array) -> Array:
            image = self.source(*x) if self.source else x[0]
            return conv(image.astype(self.dtype), kernel, strides=self.strides, dilation=self.dilation)

        image = jax.eval_shape(self.source, *x) if self.source else x[0]
        shape = (*per_axis(self.kernel, image.ndim - 2), image.shape[-1], self.features)
        kernel = self.param("kernel", glorot, shape).astype(self.dtype)
        y = remat_ordered(apply, (kernel,), x) if self.source else apply(kernel, *x)
        return _add_bias(self, y) if self.bias else y


class ConvTranspose(nn.Module):
    """Transposed convolution: [B, *S, Cin] -> [B, *(S * strides), features]."""

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
    """Batch normalisation over the real examples of all devices; variables as in `flax.linen.BatchNorm`.

    With fewer than 64 channels, the last spatial axis and the channels are folded into long rows, which XLA reduces
    efficiently. A product with a 0/1 matrix converts between channel vectors and rows; XLA would fuse a broadcast,
    element by element, into every pass over the image.
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
        width = x.shape[-2] if x.ndim > 2 and channels < 64 else 1
        rows = x.astype(jnp.promote_types(x.dtype, jnp.float32)).reshape(-1, width * channels)
        fold = jnp.tile(jnp.eye(channels, dtype=rows.dtype), (width, 1))  # [width * C, C]

        mean, var = mean_.value, var_.value
        if train:
            mean, var = self._statistics(rows, fold, mask)
            if not self.is_initializing():
                mean_.value = self.momentum * mean_.value + (1 - self.momentum) * mean
                var_.value = self.momentum * var_.value + (1 - self.momentum) * var
        gain = scale * lax.rsqrt(var + self.epsilon)
        wide = jnp.matmul(jnp.stack([gain, bias - mean * gain]), fold.T, precision="highest")
        return (rows * wide[:1] + wide[1:]).reshape(x.shape).astype(self.dtype)

    def _statistics(self, rows: Array, fold: Array, mask: Array | None) -> tuple[Array, Array]:
        """Mean and variance over the real examples, both [C]."""
        kept, count = rows, jnp.asarray(rows.size // fold.shape[1], rows.dtype)
        if mask is not None:
            weight = jnp.repeat(mask.astype(rows.dtype), rows.shape[0] // mask.shape[0])
            kept = rows * weight[:, None]
            count = weight.sum() * (fold.shape[0] // fold.shape[1])
        sums = jnp.matmul(jnp.stack([kept.sum(0), (kept * rows).sum(0)]), fold, precision="highest")
        if self.axis_name is not None and not self.is_initializing():
            sums, count = lax.psum((sums, count), self.axis_name)
        mean, square = sums / jnp.maximum(count, 1)
        return mean, jnp.maximum(square - mean * mean, 0)


class Dropout(nn.Module):
    """Dropout keyed by example: [B, ...] -> [B, ...].

    `rate` is rounded to a multiple of 1/256; kept units are divided by exactly one minus the rounded rate.

    Raises:
      ValueError: the rounded rate is not in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, x: Array, *, train: bool, index: Array | None = None) -> Array:
        dropped = round(self.rate * 256)
        if not 0 <= dropped < 256:
            raise ValueError(f"dropout rate {self.rate} is not in [0, 1)")
        if not train or dropped == 0:
            return x
        key = self.make_rng("dropout")
        index = jnp.arange(x.shape[0]) if index is None else index
        bits = jax.vmap(lambda i: _random_bytes(jax.random.fold_in(key, i), prod(x.shape[1:])))(index)
        kept = x * jnp.asarray(256 / (256 - dropped), x.dtype)
        return jnp.where(bits.reshape(x.shape) >= dropped, kept, jnp.zeros((), x.dtype))


def _random_bytes(key: Array, size: int) -> Array:
    """Pseudo-random bytes [size] uint8: the MurmurHash3 finaliser of a counter, offset and whitened by bits of `key`.

    The quality suffices for dropout, at a tenth of the arithmetic of `jax.random.bits` per unit.
    """
    offset, white = jax.random.bits(key, (2,), jnp.uint32)
    h = lax.iota(jnp.uint32, -(-size // 4)) * jnp.uint32(0x9E3779B9) + offset
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13) ^ white) * jnp.uint32(0xC2B2AE35)
    return lax.bitcast_convert_type(h ^ (h >> 16), jnp.uint8).reshape(-1)[:size]


class ConvBlock(nn.Module):
    """[B, *S, C] -> [B, *S, features]: `convs` times convolution, normalisation, dropout, activation.

    Convolutions have a bias only if `norm` is None. `source` computes the input of the first one, see `Conv`.
    """

    features: int
    convs: int = 2
    kernel: Size = 3
    dilation: Size = 1
    norm: Module | None = BatchNorm
    dropout: float = 0.0
    activation: Callable[[Array], Array] = nn.relu
    dtype: DTypeLike = jnp.float32
    source: Callable[..., Array] | None = None

    @nn.compact
    def __call__(self, *given: Array, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        x = given[0]
        for i in range(self.convs):
            conv = partial(Conv, self.features, self.kernel, dilation=self.dilation, dtype=self.dtype)
            source, inputs = (None, (x,)) if i else (self.source, given)
            x = conv(bias=self.norm is None, source=source)(*inputs)
            if self.norm is not None:
                x = self.norm(dtype=self.dtype)(x, train=train, mask=mask)
            x = self.activation(Dropout(self.dropout)(x, train=train, index=index))
        return x


class ConvUnit(nn.Module):
    """`layer`, called as `layer(bias=, dtype=)`, normalisation, ReLU; a bias only if `norm` is None."""

    layer: Module
    norm: Module | None = BatchNorm
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        x = self.layer(bias=self.norm is None, dtype=self.dtype)(x)
        return nn.relu(x if self.norm is None else self.norm(dtype=self.dtype)(x, train=train, mask=mask))


class UpConv(nn.Module):
    """[B, *S, C] -> [B, *(S * window), features]: transposed convolution (kernel and stride `window`), norm, ReLU."""

    features: int
    window: Size = 2
    norm: Module | None = BatchNorm
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        x = ConvTranspose(self.features, self.window, self.window, bias=self.norm is None, dtype=self.dtype)(x)
        return nn.relu(x if self.norm is None else self.norm(dtype=self.dtype)(x, train=train, mask=mask))
