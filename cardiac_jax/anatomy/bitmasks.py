"""Many masks at once, one bit each: a logical operation on a word treats 32 masks.

Masks are packed across the batch: `planes` are uint32 `[H, W, L]`, bit b of word l belongs to mask 32 l + b. The
pixels of one mask never share a word, so a shift is a slice, and every loop has the batch in its innermost axis.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

WORD = 32


def pack(masks: Array) -> Array:
    """Masks `[B, H, W]` of any type, B a multiple of 32, nonzero inside -> planes `[H, W, B / 32]`."""
    bit = jnp.arange(WORD, dtype=jnp.uint32)[:, None, None]

    def word(group: Array) -> Array:
        return lax.reduce((group != 0).astype(jnp.uint32) << bit, np.uint32(0), lax.bitwise_or, (0,))

    groups = masks.reshape(-1, WORD, *masks.shape[1:])
    return jnp.moveaxis(lax.map(word, groups), 0, -1)


def pixels(planes: Array) -> Array:
    """Words `[*S, L]` -> bool `[*S, 32 L]`."""
    bit = jnp.arange(WORD, dtype=jnp.uint32).reshape((1,) * planes.ndim + (WORD,))
    return ((planes[..., None] >> bit) & 1 != 0).reshape(*planes.shape[:-1], -1)


def words(flags: Array) -> Array:
    """Bool `[*S, 32 L]` -> words `[*S, L]`, the inverse of `pixels`."""
    octets = flags.reshape(*flags.shape[:-1], -1, WORD // 8, 8)
    return lax.bitcast_convert_type(jnp.packbits(octets, axis=-1, bitorder="little")[..., 0], jnp.uint32)


def shifted(planes: Array, rows: int = 0, columns: int = 0) -> Array:
    """Planes moved by `rows` down and `columns` to the right; background enters."""
    for axis, step in ((0, rows), (1, columns)):
        size = planes.shape[axis]
        kept = lax.slice_in_dim(planes, max(-step, 0), size - max(step, 0), axis=axis)
        widths = [(0, 0)] * planes.ndim
        widths[axis] = (max(step, 0), max(-step, 0))
        planes = jnp.pad(kept, widths)
    return planes


def grown(planes: Array, corners: Array) -> Array:
    """Planes with their 4-neighbours; with their 8-neighbours in the masks whose bits `corners [1, 1, L]` has set."""
    beside = shifted(planes, columns=1) | shifted(planes, columns=-1)
    start = planes | (beside & corners)
    return planes | beside | shifted(start, rows=1) | shifted(start, rows=-1)


def count(*planes: Array) -> tuple[Array, ...]:
    """Pixels of each mask in each of several planes `[H, W, L]`: int32 `[32 L]` for each."""

    def row(totals: tuple[Array, ...], lines: tuple[Array, ...]) -> tuple[tuple[Array, ...], None]:
        return tuple(total + pixels(line).astype(jnp.int16) for total, line in zip(totals, lines, strict=True)), None

    none = jnp.zeros((planes[0].shape[1], planes[0].shape[2] * WORD), jnp.int16)
    totals, _ = lax.scan(row, (none,) * len(planes), planes)
    return tuple(total.sum(0, dtype=jnp.int32) for total in totals)


def extreme(pick: Callable[[Array, Array], Array], values: Array, planes: Array, start: int) -> Array:
    """`pick` (`lax.max`, `lax.min`) over the pixels of each mask of `values [H, W, B]`: `[B]`; `start` if none."""
    none = jnp.asarray(start, values.dtype)

    def row(best: Array, lines: tuple[Array, Array]) -> tuple[Array, None]:
        return pick(best, jnp.where(pixels(lines[1]), lines[0], none)), None

    best, _ = lax.scan(row, jnp.full(values.shape[1:], none), (values, planes))
    return lax.reduce(best, none, pick, (0,))
