"""Pooling and upsampling, channels last, any rank."""

from functools import partial
from math import prod

import jax
import jax.numpy as jnp
from jax import Array

from cardiac_jax.ops.conv import Size, per_axis


def max_pool(x: Array, window: Size = 2) -> Array:
    """Maximum over non-overlapping blocks of `window`: [B, *S, C] -> [B, *(S // window), C].

    A remainder at the far end is dropped ("VALID"). If several elements of a block equal its maximum, the entire
    gradient goes to the first of them in row-major order, as in `flax.linen.max_pool`; the sum of the gradient is
    preserved.

    Raises:
      ValueError: `window` does not fit the number of spatial axes.
    """
    return _max_pool(x, per_axis(window, x.ndim - 2))


def _blocks(x: Array, window: tuple[int, ...]) -> Array:
    """[B, *S, C] -> [B, S0 // w0, w0, S1 // w1, w1, ..., C]."""
    keep = [s // w for s, w in zip(x.shape[1:-1], window, strict=True)]
    x = x[(slice(None), *(slice(k * w) for k, w in zip(keep, window, strict=True)))]
    return x.reshape(x.shape[0], *(v for pair in zip(keep, window, strict=True) for v in pair), x.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: Array, window: tuple[int, ...]) -> Array:
    return _blocks(x, window).max(tuple(range(2, 2 * len(window) + 1, 2)))


def _forward(x: Array, window: tuple[int, ...]):
    y = _max_pool(x, window)
    return y, (x, y)


def _backward(window: tuple[int, ...], saved: tuple[Array, Array], gradient: Array):
    x, y = saved
    inside = tuple(range(2, 2 * len(window) + 1, 2))
    blocks = _blocks(x, window)
    top = blocks == jnp.expand_dims(y, inside)
    position = sum(
        jax.lax.broadcasted_iota(jnp.int32, blocks.shape, axis) * prod(window[i + 1 :]) for i, axis in enumerate(inside)
    )
    first = jnp.where(top, position, jnp.iinfo(jnp.int32).max).min(inside, keepdims=True)
    spread = jnp.where(position == first, jnp.expand_dims(gradient, inside), 0)
    spread = spread.reshape(x.shape[0], *(s // w * w for s, w in zip(x.shape[1:-1], window, strict=True)), x.shape[-1])
    return (jnp.pad(spread, [(0, a - b) for a, b in zip(x.shape, spread.shape, strict=True)]),)


_max_pool.defvjp(_forward, _backward)


def upsample_nearest(x: Array, factor: Size = 2) -> Array:
    """Each element repeated `factor` times along each spatial axis: [B, *S, C] -> [B, *(S * factor), C].

    Raises:
      ValueError: `factor` does not fit the number of spatial axes.
    """
    factor = per_axis(factor, x.ndim - 2)
    blocks = jnp.expand_dims(x, tuple(range(2, 2 * len(factor) + 1, 2)))
    shape = [x.shape[0], *(v for pair in zip(x.shape[1:-1], factor, strict=True) for v in pair), x.shape[-1]]
    wide = jnp.broadcast_to(blocks, shape)
    return wide.reshape(x.shape[0], *(s * f for s, f in zip(x.shape[1:-1], factor, strict=True)), x.shape[-1])


def upsample_linear(x: Array, factor: Size) -> Array:
    """Linear interpolation onto a grid `factor` times finer: [B, *S, C] -> [B, *(S * factor), C].

    Both grids cover the same box: finer index q is index (q - (f - 1) / 2) / f of `x`. Beyond the centres of the
    outermost elements their value is taken.

    Raises:
      ValueError: `factor` does not fit the number of spatial axes.
    """
    factor = per_axis(factor, x.ndim - 2)
    size = (s * f for s, f in zip(x.shape[1:-1], factor, strict=True))
    return jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), "linear")
