"""Flood fill and connected components of a batch of masks, on planes (`anatomy/bitmasks.py`).

A fill consists of four sweeps (down, up, right, left), each a scan of H or W short steps, repeated until nothing
changes. A convex outline needs one round, a spiral one round per turn. For any mask, results are exact and every loop
ends.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cardiac_jax.anatomy.bitmasks import WORD, count, grown, pixels, words

PEELED = 8  # number of components filled one by one before all masks are labelled instead


class Components(NamedTuple):
    """Connected components of a batch of masks.

    Attributes:
      number: int32 `[B]`, number of components.
      largest: planes of the largest component (of equal ones the first in raster order); empty for an empty mask.
    """

    number: Array
    largest: Array


def flood(seed: Array, allowed: Array, corners: Array | bool = False) -> Array:
    """Return planes of the pixels of `allowed` that are connected to `seed` within `allowed`.

    Pixels are 4-connected, or 8-connected in masks whose bits are set in `corners`, words `[L]` (True: in all masks).
    """
    turned, diagonal = allowed.swapaxes(0, 1), _bits(corners, allowed)

    def sweep(inside: Array, allowed: Array, reverse: bool) -> Array:
        def line(before: Array, lines: tuple[Array, Array]) -> tuple[Array, Array]:
            now = (lines[0] | before | (_beside(before) & diagonal)) & lines[1]
            return now, now

        return lax.scan(line, jnp.zeros_like(inside[0]), (inside, allowed), reverse=reverse)[1]

    def spread(state: tuple[Array, Array]) -> tuple[Array, Array]:
        inside = sweep(sweep(state[0], allowed, False), allowed, True)
        inside = sweep(sweep(inside.swapaxes(0, 1), turned, False), turned, True).swapaxes(0, 1)
        return inside, jnp.any(grown(inside, diagonal[None]) & allowed & ~inside)

    return lax.while_loop(lambda state: state[1], spread, (seed & allowed, jnp.asarray(True)))[0]


def components(planes: Array, corners: Array | bool = False) -> Components:
    """Return the number of connected components of each mask and the largest one; `corners` as in `flood`.

    The first `PEELED` components are filled one by one. If a mask of the batch has more, all masks are labelled.
    """

    def more(state: tuple[Array, ...]) -> Array:
        return jnp.any(state[0]) & (state[1] < PEELED)

    def peel(state: tuple[Array, ...]) -> tuple[Array, ...]:
        rest, turn, number, size, largest = state
        piece = flood(_first(rest), rest, corners)
        (new,) = count(piece)
        better = words(new > size)[None, None]
        largest = (piece & better) | (largest & ~better)
        return rest & ~piece, turn + 1, number + (new > 0), jnp.maximum(size, new), largest

    nothing = jnp.zeros(planes.shape[-1] * WORD, jnp.int32)
    start = (planes, jnp.zeros((), jnp.int32), nothing, nothing, jnp.zeros_like(planes))
    rest, _, number, _, largest = lax.while_loop(more, peel, start)
    return lax.cond(
        jnp.any(rest),
        lambda: _by_labels(label(planes, corners)),
        lambda: Components(number, largest),
    )


def label(planes: Array, corners: Array | bool = False) -> Array:
    """Return labels `[H, W, B]`: the smallest raster index of each pixel's component, H W in the background.

    The type is int16 if it can hold H W, else int32. `corners` is as in `flood`.
    """
    inside, diagonal = pixels(planes), pixels(_bits(corners, planes))
    height, width = inside.shape[:2]
    dtype = jnp.int16 if height * width < 2**15 else jnp.int32
    none = jnp.asarray(height * width, dtype)

    def sweep(labels: Array, reverse: bool) -> Array:
        def line(before: Array, own: Array) -> tuple[Array, Array]:
            wide = jnp.pad(before, ((1, 1), (0, 0)), constant_values=height * width)
            diagonal_labels = jnp.where(diagonal, jnp.minimum(wide[:-2], wide[2:]), none)
            now = jnp.where(own < none, jnp.minimum(own, jnp.minimum(before, diagonal_labels)), none)
            return now, now

        return lax.scan(line, jnp.full_like(labels[0], none), labels, reverse=reverse)[1]

    def spread(state: tuple[Array, Array]) -> tuple[Array, Array]:
        labels = sweep(sweep(state[0], False), True).swapaxes(0, 1)
        labels = sweep(sweep(labels, False), True).swapaxes(0, 1)
        return labels, jnp.any(labels != state[0])

    first = jnp.where(inside, jnp.arange(height * width, dtype=dtype).reshape(height, width, 1), none)
    return lax.while_loop(lambda state: state[1], spread, (first, jnp.asarray(True)))[0]


def _bits(corners: Array | bool, planes: Array) -> Array:
    """`corners` as words `[1, L]`."""
    bits = -jnp.uint32(corners) if isinstance(corners, bool) else corners
    return jnp.broadcast_to(bits, (1, planes.shape[-1]))


def _beside(line: Array) -> Array:
    """Left and right neighbours within one line `[W, L]`."""
    wide = jnp.pad(line, ((1, 1), (0, 0)))
    return wide[:-2] | wide[2:]


def _first(planes: Array) -> Array:
    """Planes of the first pixel of each mask in raster order."""

    def leading(lines: Array) -> Array:
        def line(seen: Array, own: Array) -> tuple[Array, Array]:
            return seen | own, own & ~seen

        return lax.scan(line, jnp.zeros_like(lines[0]), lines)[1]

    row = leading(lax.reduce(planes, np.uint32(0), lax.bitwise_or, (1,)))[:, None]
    column = leading(lax.reduce(planes & row, np.uint32(0), lax.bitwise_or, (0,)))[None]
    return row & column


def _by_labels(labels: Array) -> Components:
    """Components from labels `[H, W, B]`."""
    flat = labels.reshape(-1, labels.shape[-1])
    lane = lax.broadcasted_iota(jnp.int32, flat.shape, 1)
    sizes = jnp.zeros(flat.shape, jnp.int32).at[flat, lane].add(1, mode="drop")
    most = sizes.max(0)
    index = lax.broadcasted_iota(jnp.int32, flat.shape, 0)
    root = jnp.where((sizes == most[None]) & (most > 0)[None], index, len(flat)).min(0)  # argmax is not vectorised
    largest = (labels == root[None, None]) & (most > 0)[None, None]
    return Components((sizes > 0).sum(0, dtype=jnp.int32), words(largest))
