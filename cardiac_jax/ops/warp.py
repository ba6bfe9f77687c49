"""Resampling at given source coordinates: linear for images, nearest neighbour for label maps, by flat gathers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import prod

import jax
import jax.numpy as jnp


def resample(image: jax.Array, coords: jax.Array, outside: jax.Array | None = None) -> jax.Array:
    """Linear interpolation of `image` [*L, *S, C] at `coords` [n, *T]: [*L, *T, C].

    `coords` are in voxels along the last n spatial axes S; the leading axes L (slices of a stack) share them. The edge
    value continues beyond the outermost voxel centres. If `outside` [C] is given, it replaces every value more than
    half a voxel beyond them, where `resample_labels` returns its `outside` too.
    """
    n = coords.shape[0]
    size = image.shape[image.ndim - 1 - n : -1]

    def one(x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        flat = x.reshape(prod(size), channels)
        base, fraction = _corner(coords, size)
        total = None
        for corner in product((0, 1), repeat=n):
            weight, step = None, 0
            for axis, bit in enumerate(corner):
                w = fraction[axis] if bit else 1.0 - fraction[axis]
                weight = w if weight is None else weight * w
                step += bit * _stride(size, axis) * (size[axis] > 1)
            assert weight is not None
            value = _take(flat, base + step) * weight.astype(x.dtype)[..., None]
            total = value if total is None else total + value
        assert total is not None
        if outside is None:
            return total
        fill = jnp.broadcast_to(outside.astype(x.dtype).reshape((1,) * n + (channels,)), total.shape)
        return jnp.where(_inside(coords, size)[..., None], total, fill)

    return _over_slices(one, image.ndim - 1 - n)(image)


def resample_labels(label: jax.Array, coords: jax.Array, outside: int = 0) -> jax.Array:
    """Nearest-neighbour interpolation of `label` [*L, *S] at `coords` [n, *T]: [*L, *T], same dtype.

    `outside` is the class beyond the image. The result equals warping the mask of each class separately: it has no
    values except those of `label` and `outside`, and 255 stays 255.
    """
    n = coords.shape[0]
    size = label.shape[label.ndim - n :]
    index = jnp.zeros(coords.shape[1:], jnp.int32)
    for axis, length in enumerate(size):
        nearest = jnp.clip(jnp.floor(coords[axis] + 0.5), 0, length - 1).astype(jnp.int32)
        index = index + nearest * _stride(size, axis)
    inside = _inside(coords, size)

    def one(x: jax.Array) -> jax.Array:
        return jnp.where(inside, _take(x.reshape(prod(size)), index), jnp.asarray(outside, x.dtype))

    return _over_slices(one, label.ndim - n)(label)


def _corner(coords: jax.Array, size: Sequence[int]) -> tuple[jax.Array, list[jax.Array]]:
    """Flat index of the lower corner [*T] and, per axis, the fractional distance from it in [0, 1], [*T]."""
    base, fraction = jnp.zeros(coords.shape[1:], jnp.int32), []
    for axis, length in enumerate(size):
        at = jnp.clip(coords[axis], 0, length - 1)
        low = jnp.minimum(at.astype(jnp.int32), max(length - 2, 0))
        fraction.append(at - low.astype(at.dtype))
        base = base + low * _stride(size, axis)
    return base, fraction


def _inside(coords: jax.Array, size: Sequence[int]) -> jax.Array:
    inside = jnp.ones(coords.shape[1:], bool)
    for axis, length in enumerate(size):
        inside &= (coords[axis] >= -0.5) & (coords[axis] < length - 0.5)
    return inside


def _stride(size: Sequence[int], axis: int) -> int:
    return prod(size[axis + 1 :])


def _take(flat: jax.Array, index: jax.Array) -> jax.Array:
    return flat.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _over_slices(f: Callable[[jax.Array], jax.Array], depth: int) -> Callable[[jax.Array], jax.Array]:
    for _ in range(depth):
        f = jax.vmap(f)
    return f
