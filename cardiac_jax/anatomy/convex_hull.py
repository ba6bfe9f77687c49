"""Convex hulls, Euclidean distances and perimeters of a batch of masks, on planes (`anatomy/bitmasks.py`)."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

from cardiac_jax.anatomy.bitmasks import WORD, count, pixels, shifted, words

REACH_PX = 16  # largest measured distance: 22 mm with pixels of 1.4 mm
_ROUNDING = 1e-3  # hull edges cross columns at fractions of H: an edge this close to a pixel centre is on it
_FAR = 1e6


def hull(planes: Array) -> Array:
    """Return planes of the pixels whose centres lie in the convex hull of each mask's pixel centres.

    The hull's left and right edges are the convex envelopes of the leftmost and rightmost pixels of the rows. Every
    mask needs one empty row above and below.
    """
    height, width = planes.shape[:2]
    columns = jnp.arange(width, dtype=jnp.float32)

    def column(ends: tuple[Array, Array], line: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        at, inside = line[0], pixels(line[1])
        return (jnp.where(inside, jnp.minimum(ends[0], at), ends[0]), jnp.where(inside, at, ends[1])), None

    none = jnp.full((height, planes.shape[-1] * WORD), _FAR, jnp.float32)
    (left, right), _ = lax.scan(column, (none, -none), (columns, planes.swapaxes(0, 1)))
    rows = lax.broadcasted_iota(jnp.int32, left.shape, 0)
    first = jnp.where(left < _FAR, rows, height).min(0, keepdims=True)
    last = jnp.where(left < _FAR, rows, -1).max(0, keepdims=True)
    edges = _convex_envelope(jnp.stack([left, -right]), jnp.max(last - first))
    left = jnp.where((rows >= first) & (rows <= last), jnp.ceil(edges[0] - _ROUNDING), _FAR)
    right = jnp.floor(_ROUNDING - edges[1])
    at = columns[None, :, None]
    return words((at >= left[:, None]) & (at <= right[:, None]))


def distance_px2(target: Array) -> Array:
    """Return the squared distance (px^2) of every pixel to `target`, int16 `[H, W, B]`, at most `REACH_PX`^2.

    Exact: two sweeps give the distances along columns, then each row takes the minimum of (distance along a column)^2 +
    (column offset)^2.
    """

    def up(below: Array, lines: tuple[Array, Array]) -> tuple[Array, Array]:
        below = _away(below, lines[0])
        return below, _across(jnp.minimum(below, lines[1]))

    return lax.scan(up, _unreached(target), (target, _above(target)), reverse=True)[1]


def extreme_distance_px2(
    pick: Callable[[Array, Array], Array], target: Array, planes: Array, start: int, reach_px: int = REACH_PX
) -> Array:
    """Return `extreme(pick, distance_px2(target), planes, start)`, int16 `[B]`, without storing the distance map.

    Distances are measured up to `reach_px`.
    """

    def up(state: tuple[Array, Array], lines: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], None]:
        below = _away(state[0], lines[0], reach_px)
        distance = _across(jnp.minimum(below, lines[1]), reach_px)
        return (below, pick(state[1], jnp.where(pixels(lines[2]), distance, none))), None

    none = jnp.int16(start)
    far = _unreached(target, reach_px)
    lines = (target, _above(target, reach_px), planes)
    (_, best), _ = lax.scan(up, (far, jnp.full(far.shape, none)), lines, reverse=True)
    return lax.reduce(best, none, pick, (0,))


def perimeter_px(planes: Array) -> Array:
    """Return the perimeter `[B]` by Crofton's formula in four directions; masks must not touch the frame's edge."""
    ways = [(0, 1), (1, 0), (1, 1), (1, -1)]
    rows, columns, falling, rising = count(*[planes & ~shifted(planes, *way) for way in ways])
    return jnp.pi / 4 * (rows + columns + (falling + rising) / jnp.sqrt(2.0))


def _convex_envelope(values: Array, rows: Array) -> Array:
    """Lower convex envelope `[K, H, B]` along the rows of `values [K, H, B]`, which are `_FAR` in rows without a value.

    No two rows with a value may be more than `rows` apart. A row is a vertex if no slope to a later row is below the
    steepest slope from an earlier row. The envelope is the highest of the lines through the vertices along these
    slopes. It is undefined beyond the outermost vertices.
    """
    size = values.shape[1]

    def near(padded: Array, offset: Array) -> Array:
        return lax.dynamic_slice_in_dim(padded, size + offset, size, 1)

    def padded(rows: Array, fill: float) -> Array:
        return jnp.pad(rows, ((0, 0), (size, size), (0, 0)), constant_values=fill)

    def slopes(offset: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        length = offset.astype(values.dtype)
        before, after = (values - near(wide, -offset)) / length, (near(wide, offset) - values) / length
        return jnp.maximum(state[0], before), jnp.minimum(state[1], after)

    def lines(offset: Array, envelope: Array) -> Array:
        length = offset.astype(values.dtype)
        onward = near(height, -offset) + length * near(rise, -offset)
        back = near(height, offset) - length * near(fall, offset)
        return jnp.maximum(envelope, jnp.maximum(onward, back))

    wide = padded(values, _FAR)
    steepest = (jnp.full_like(values, -_FAR), jnp.full_like(values, _FAR))
    before, after = lax.fori_loop(1, rows + 1, slopes, steepest)
    vertex = (values < _FAR) & (before <= after)
    height = padded(jnp.where(vertex, values, -_FAR), -_FAR)
    rise, fall = padded(jnp.where(vertex, after, 0.0), 0.0), padded(jnp.where(vertex, before, 0.0), 0.0)
    return lax.fori_loop(1, rows + 1, lines, height[:, size : 2 * size])


def _unreached(target: Array, reach_px: int = REACH_PX) -> Array:
    return jnp.full((target.shape[1], target.shape[2] * WORD), reach_px, jnp.int8)


def _away(before: Array, line: Array, reach_px: int = REACH_PX) -> Array:
    """Distance along columns, int8 `[W, B]`, from that of the previous row."""
    return jnp.where(pixels(line), jnp.int8(0), jnp.minimum(before + jnp.int8(1), jnp.int8(reach_px)))


def _above(target: Array, reach_px: int = REACH_PX) -> Array:
    """Distance to the nearest pixel of `target` in the same column and the same row or above, int8 `[H, W, B]`."""

    def down(above: Array, line: Array) -> tuple[Array, Array]:
        above = _away(above, line, reach_px)
        return above, above

    return lax.scan(down, _unreached(target, reach_px), target)[1]


def _across(straight: Array, reach_px: int = REACH_PX) -> Array:
    """Squared distances of one row of pixels, int16 `[W, B]`, from their distances along columns."""
    best = jnp.square(straight.astype(jnp.int16))
    wide = jnp.pad(best, ((reach_px, reach_px), (0, 0)), constant_values=reach_px**2)
    for offset in range(1, reach_px):
        left, right = (wide[reach_px + side : reach_px + side + straight.shape[0]] for side in (-offset, offset))
        best = jnp.minimum(best, jnp.minimum(left, right) + jnp.int16(offset**2))
    return best
