"""Boxes of a fixed size about the centre of mass of a heat map: cropping and pasting, per example.

A box is its first voxel, `start` [B, n] int32, and a static `size`. Along an axis where it fits, the box lies within
the volume. Along an axis where it is larger, the box contains the volume: `start` is negative, or the box ends beyond
the last voxel, and voxels outside are filled. Sizes are static, so that the code compiles once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike


class Centre(NamedTuple):
    """Centre of mass.

    Attributes:
      at: [B, n], in voxels of the map; the centre of the volume if `found` is False.
      found: [B] bool, False for a map without mass or with a value that is not finite.
    """

    at: Array
    found: Array


class Boxes(NamedTuple):
    """First voxels `start` [B, n] int32 of boxes, and `found` [B] as in `Centre`."""

    start: Array
    found: Array


def centre_of_mass(mass: Array, floor: float = 0.0) -> Centre:
    """Centre of `mass` [B, *S]; negative values count as 0.

    Voxels below `floor` times the maximum of their map count as 0 too, because low values over a large volume would
    pull the centre towards the middle.
    """
    mass = mass.astype(jnp.promote_types(mass.dtype, jnp.float32))
    space = tuple(range(1, mass.ndim))
    top = mass.max(space, keepdims=True)
    found = jnp.isfinite(mass).all(space) & (top.reshape(-1) >= jnp.finfo(mass.dtype).tiny)
    share = mass / jnp.where(_like(found, mass), top, 1)  # division by the maximum prevents overflow of the sum
    share = jnp.where(_like(found, mass) & (share > 0) & (share >= floor), share, 0)
    total = jnp.where(found, share.sum(space), 1)
    at = []
    for axis, length in enumerate(mass.shape[1:]):
        profile = share.sum(tuple(a for a in space if a != axis + 1))
        moment = (profile * jnp.arange(length, dtype=mass.dtype)[None]).sum(-1) / total
        at.append(jnp.where(found, moment, (length - 1) / 2))
    return Centre(jnp.stack(at, -1), found)


def rescale(at: Array, shape: Sequence[int], onto: Sequence[int]) -> Array:
    """Positions [B, n] in voxels of a grid of `shape` -> in voxels of a grid of `onto` with the same field of view.

    Voxel i extends from i to i + 1 and its centre is i + 1/2: the centres of the two grids coincide, not the centres
    of their first voxels.
    """
    ratio = jnp.asarray([b / a for a, b in zip(shape, onto, strict=True)], at.dtype)[None]
    return (at + 0.5) * ratio - 0.5


def box_at(at: Array, size: Sequence[int], shape: Sequence[int]) -> Array:
    """First voxels [B, n] of the boxes of `size` whose centres are nearest to `at` [B, n], in a volume of `shape`.

    Raises:
      ValueError: `size` is not one positive number per axis of `shape`.
    """
    if len(size) != len(shape) or min(size) < 1:
        raise ValueError(f"box size {tuple(size)} is not one positive number per axis of {tuple(shape)}")
    middle = jnp.asarray([(s - 1) / 2 for s in size], at.dtype)[None]
    return _within(jnp.floor(at - middle + 0.5).astype(jnp.int32), size, shape)


def box_about(mass: Array, size: Sequence[int], shape: Sequence[int] | None = None, floor: float = 0.0) -> Boxes:
    """Boxes of `size` about the centres of mass of `mass` [B, *S].

    Args:
      mass: heat map; if it has no mass or is not finite, the box lies in the middle of the volume.
      size: of the box, in voxels of the volume.
      shape: of the volume, which has the same field of view as the map; None for the grid of the map.
      floor: fraction of the map's maximum below which a voxel does not count.

    Raises:
      ValueError: `size` is not one positive number per axis of the volume.
    """
    shape = mass.shape[1:] if shape is None else shape
    centre = centre_of_mass(mass, floor)
    return Boxes(box_at(rescale(centre.at, mass.shape[1:], shape), size, shape), centre.found)


def crop(x: Array, start: Array, size: Sequence[int], fill: ArrayLike = 0) -> Array:
    """Box of `x` [B, *S, ...] -> [B, *size, ...]; voxels of the box outside the volume get `fill`."""
    n = start.shape[-1]
    shape = x.shape[1 : n + 1]
    frame, start = _frame(size, shape), _within(start, size, shape)
    padded = _pad(x, frame, fill)

    def one(v: Array, at: Array) -> Array:
        return lax.dynamic_slice(v, _corner(at, frame, v.ndim), (*size, *v.shape[n:]))

    return jax.vmap(one)(padded, start)


def paste(box: Array, start: Array, shape: Sequence[int], fill: ArrayLike = 0) -> Array:
    """Volume [B, *shape, ...] of `fill` that contains `box` [B, *size, ...] at `start`; inverts `crop` in the box."""
    n = start.shape[-1]
    size = box.shape[1 : n + 1]
    frame, start = _frame(size, shape), _within(start, size, shape)
    wide = [s + 2 * f for s, f in zip(shape, frame, strict=True)]
    canvas = jnp.full((*wide, *box.shape[n + 1 :]), fill, box.dtype)

    def one(v: Array, at: Array) -> Array:
        full = lax.dynamic_update_slice(canvas, v, _corner(at, frame, v.ndim))
        return full[tuple(slice(f, f + s) for f, s in zip(frame, shape, strict=True))]

    return jax.vmap(one)(box, start)


def _within(start: Array, size: Sequence[int], shape: Sequence[int]) -> Array:
    """Start of the nearest box that lies in the volume or, along an axis where the box is larger, contains it."""
    room = [s - k for s, k in zip(shape, size, strict=True)]
    low, high = (jnp.asarray([pick(0, r) for r in room], start.dtype)[None] for pick in (min, max))
    return jnp.clip(start, low, high)


def _frame(size: Sequence[int], shape: Sequence[int]) -> list[int]:
    """Padding per axis, in voxels on either side, that keeps every box of `size` in the padded volume."""
    return [max(k - s, 0) for k, s in zip(size, shape, strict=True)]


def _pad(x: Array, frame: Sequence[int], fill: ArrayLike) -> Array:
    if not any(frame):
        return x
    none = (0, 0, 0)
    pads = (none, *((f, f, 0) for f in frame), *(none,) * (x.ndim - 1 - len(frame)))
    return lax.pad(x, jnp.asarray(fill, x.dtype), pads)


def _corner(at: Array, frame: Sequence[int], rank: int) -> tuple[Array, ...]:
    """Start of the box in the padded volume, along all `rank` axes."""
    zero = jnp.zeros((), at.dtype)
    return (*(at[i] + f for i, f in enumerate(frame)), *(zero,) * (rank - len(frame)))


def _like(flag: Array, x: Array) -> Array:
    """`flag` [B] reshaped to [B, 1, ...], the rank of `x`."""
    return flag.reshape(-1, *(1,) * (x.ndim - 1))
