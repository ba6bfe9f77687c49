"""Binary masks packed across the batch, one bit per mask, so that one logical operation processes 32 masks.

`planes` are uint32 `[H, W, L]`; bit b of word l belongs to mask 32 l + b. The pixels of one mask never share a word, so
a shift is a slice, and the batch is the innermost axis of every loop.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

WORD = 32


def pack(masks: Array) -> Array:
    """Return planes `[H, W, B / 32]` of masks `[B, H, W]` of any type, nonzero inside; B is a multiple of 32."""
    bit = jnp.arange(WORD, dtype=jnp.uint32)[:, None, None]

    def word(group: Array) -> Array:
        return lax.reduce((group != 0).astype(jnp.uint32) << bit, np.uint32(0), lax.bitwise_or, (0,))

    groups = masks.reshape(-1, WORD, *masks.shape[1:])
    return jnp.moveaxis(lax.map(word, groups), 0, -1)


def pixels(planes: Array) -> Array:
    """Return bool `[*S, 32 L]` from words `[*S, L]`."""
    bit = jnp.arange(WORD, dtype=jnp.uint32).reshape((1,) * planes.ndim + (WORD,))
    return ((planes[..., None] >> bit) & 1 != 0).reshape(*planes.shape[:-1], -1)


def words(flags: Array) -> Array:
    """Return words `[*S, L]` from bool `[*S, 32 L]`, the inverse of `pixels`."""
    octets = flags.reshape(*flags.shape[:-1], -1, WORD // 8, 8)
    return lax.bitcast_convert_type(jnp.packbits(octets, axis=-1, bitorder="little")[..., 0], jnp.uint32)


def shifted(planes: Array, rows: int = 0, columns: int = 0) -> Array:
    """Return planes `[H, W, L]` shifted `rows` down and `columns` to the right; background fills the gap."""
    for axis, step in ((0, rows), (1, columns)):
        size = planes.shape[axis]
        kept = lax.slice_in_dim(planes, max(-step, 0), size - max(step, 0), axis=axis)
        widths = [(0, 0)] * planes.ndim
        widths[axis] = (max(step, 0), max(-step, 0))
        planes = jnp.pad(kept, widths)
    return planes


def grown(planes: Array, corners: Array) -> Array:
    """Return planes dilated by 4-neighbours, or by 8-neighbours in masks whose bits are set in `corners [1, 1, L]`."""
    sideways = shifted(planes, columns=1) | shifted(planes, columns=-1)
    start = planes | (sideways & corners)
    return planes | sideways | shifted(start, rows=1) | shifted(start, rows=-1)


def count(*planes: Array) -> tuple[Array, ...]:
    """Return the number of pixels of each mask, int32 `[32 L]` for each of the given planes `[H, W, L]`."""

    def row(totals: tuple[Array, ...], lines: tuple[Array, ...]) -> tuple[tuple[Array, ...], None]:
        return tuple(total + pixels(line).astype(jnp.int16) for total, line in zip(totals, lines, strict=True)), None

    none = jnp.zeros((planes[0].shape[1], planes[0].shape[2] * WORD), jnp.int16)
    totals, _ = lax.scan(row, (none,) * len(planes), planes)
    return tuple(total.sum(0, dtype=jnp.int32) for total in totals)


def span_px(planes: Array) -> Array:
    """Return the diagonal of each mask's bounding box plus one pixel, float32 `[B]`; 0 for an empty mask.

    Of a straight line of pixels, this is its length.
    """
    lines = [lax.reduce(planes, np.uint32(0), lax.bitwise_or, (axis,)) for axis in (1, 0)]
    rows, columns = (_between(pixels(line)) for line in lines)
    return jnp.where(rows < 0, 0.0, jnp.sqrt((rows**2 + columns**2).astype(jnp.float32)) + 1)


def _between(line: Array) -> Array:
    """Number of steps from the first to the last true value, bool `[S, B]` -> int32 `[B]`; -1 if there is none."""
    at = lax.broadcasted_iota(jnp.int32, line.shape, 0)
    last = jnp.where(line, at, -1).max(0)
    return jnp.where(last < 0, -1, last - jnp.where(line, at, line.shape[0]).min(0))


def extreme(pick: Callable[[Array, Array], Array], values: Array, planes: Array, start: int) -> Array:
    """Return the maximum or minimum `[B]` of `values [H, W, B]` over the pixels of each mask; `start` if it is empty.

    `pick` is `lax.max` or `lax.min`.
    """
    none = jnp.asarray(start, values.dtype)

    def row(best: Array, lines: tuple[Array, Array]) -> tuple[Array, None]:
        return pick(best, jnp.where(pixels(lines[1]), lines[0], none)), None

    best, _ = lax.scan(row, jnp.full(values.shape[1:], none), (values, planes))
    return lax.reduce(best, none, pick, (0,))
