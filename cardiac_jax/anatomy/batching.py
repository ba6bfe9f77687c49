"""Evaluation of a batch in blocks of a fixed size, with small objects cropped, so that a block fits into the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from cardiac_jax.anatomy.bitmasks import WORD

Tree = TypeVar("Tree")


def in_blocks(images: Array, function: Callable[[Array], Tree], block: int, size: int) -> Tree:
    """Return a tree of `[N]`: `function`, which maps `[B, h, w]` to a tree of `[B]`, applied to `images [N, H, W]`.

    `B` is `block`, a multiple of 32, or less if there are fewer images. Blocks are padded with zeros. If the nonzero
    part of every image of a block is at most `size` high and wide, the images are cropped to it and h = w = `size`.
    Otherwise h, w are H, W.
    """
    number, height, width = images.shape
    block = min(block, max(-(-number // WORD), 1) * WORD)
    blocks = max(-(-number // block), 1)
    images = jnp.pad(images, ((0, blocks * block - number), (0, max(size - height, 0)), (0, max(size - width, 0))))

    def in_order(values: Array) -> Array:
        return values.reshape(blocks * block)[:number]

    if images.shape[1:] == (size, size):
        small = images[:, :height, :width].reshape(blocks, block, height, width)
        return jax.tree.map(in_order, lax.map(function, small))

    (top, rows), (left, columns) = _extent(jnp.any(images, 2)), _extent(jnp.any(images, 1))
    large = (rows > size) | (columns > size)
    order = jnp.argsort(large)  # large images come last and share as few blocks as possible with small ones

    def crop(index: Array) -> Array:
        return lax.dynamic_slice(images, (index, top[index], left[index]), (1, size, size))[0]

    def one(index: Array) -> Tree:
        any_large = jnp.any(large[index])
        return lax.cond(any_large, lambda: function(images[index]), lambda: function(jax.vmap(crop)(index)))

    results = lax.map(one, order.reshape(blocks, block))
    back = jnp.argsort(order)
    return jax.tree.map(lambda values: in_order(values.reshape(-1)[back]), results)


def _extent(lines: Array) -> tuple[Array, Array]:
    """Index of the first true line and number of lines from it to the last: bool `[B, S]` -> `[B]`, `[B]`."""
    first = lines.argmax(1)
    return first, jnp.where(lines.any(1), lines.shape[1] - lines[:, ::-1].argmax(1) - first, 0)
