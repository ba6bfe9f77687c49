"""Intensities brought to a range of their own: of the slice, or of a region (Abramson, Popescu et al. 2020)."""

import jax.numpy as jnp
from jax import Array


def unit_range(low: Array) -> Array:
    """Every slice `[B, Z, H, W, 1]` from 0 to 1; a constant one becomes 0."""
    bottom, top = low.min((2, 3, 4), keepdims=True), low.max((2, 3, 4), keepdims=True)
    return (low - bottom) / jnp.where(top > bottom, top - bottom, 1.0)


def scaled_to_region(image: Array, region: Array) -> Array:
    """The first channel divided by twice its median in `region`, brought from that region's range to [0, 1], clipped.

    `[B, Z, H, W, C], [B, Z, H, W] -> [B, Z, H, W, 1]`: the three maps of section "Stage 2", in their order; intensities
    start at the lowest of the box, the region is the ventricle found (the whole box where none is).
    """
    raw = image[..., 0]
    inside = jnp.where(jnp.any(region > 0, (1, 2, 3), keepdims=True), region > 0, True)
    raw = raw - raw.min((1, 2, 3), keepdims=True)
    median = jnp.nanmedian(jnp.where(inside, raw, jnp.nan).reshape(raw.shape[0], -1), 1)[:, None, None, None]
    raw = raw / jnp.where(median > 0, 2 * median, 1.0)
    bottom = jnp.where(inside, raw, jnp.inf).min((1, 2, 3), keepdims=True)
    top = jnp.where(inside, raw, -jnp.inf).max((1, 2, 3), keepdims=True)
    return jnp.clip((raw - bottom) / jnp.where(top > bottom, top - bottom, 1.0), 0.0, 1.0)[..., None]
