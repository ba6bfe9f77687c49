"""Intensity scaling to the range of a slice or of a region (Abramson, Popescu et al. 2020)."""

import jax.numpy as jnp
from jax import Array


def unit_range(low: Array) -> Array:
    """Slices of `[B, Z, H, W, 1]`, each scaled to [0, 1]; a constant slice becomes 0."""
    bottom, top = low.min((2, 3, 4), keepdims=True), low.max((2, 3, 4), keepdims=True)
    return (low - bottom) / jnp.where(top > bottom, top - bottom, 1.0)


def scaled_to_region(image: Array, region: Array) -> Array:
    """First channel divided by twice its median in `region`, scaled from the range in that region to [0, 1], clipped.

    `[B, Z, H, W, C], [B, Z, H, W] -> [B, Z, H, W, 1]`: the three maps of section "Stage 2", in their order. The minimum
    of the box is subtracted first. `region` is the segmented ventricle; an empty region is replaced by the entire box.
    """
    raw = image[..., 0]
    inside = jnp.where(jnp.any(region > 0, (1, 2, 3), keepdims=True), region > 0, True)
    raw = raw - raw.min((1, 2, 3), keepdims=True)
    median = jnp.nanmedian(jnp.where(inside, raw, jnp.nan).reshape(raw.shape[0], -1), 1)[:, None, None, None]
    raw = raw / jnp.where(median > 0, 2 * median, 1.0)
    bottom = jnp.where(inside, raw, jnp.inf).min((1, 2, 3), keepdims=True)
    top = jnp.where(inside, raw, -jnp.inf).max((1, 2, 3), keepdims=True)
    return jnp.clip((raw - bottom) / jnp.where(top > bottom, top - bottom, 1.0), 0.0, 1.0)[..., None]
