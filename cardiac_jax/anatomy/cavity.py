"""The cavity (blood pool) of a myocardium in a slice."""

import jax.numpy as jnp
from jax import Array

from cardiac_jax.anatomy.bitmasks import WORD, count, grown, pack, pixels, shifted, words
from cardiac_jax.anatomy.components import flood
from cardiac_jax.anatomy.convex_hull import hull
from cardiac_jax.ops.largest import largest


def cavity(wall: Array, region: Array) -> Array:
    """Return the cavity of each mask, bool `[N, H, W]`, from `wall` and `region` `[N, H, W]`.

    The enclosed pixels are background that is not 4-connected to the slice's border. A ring with an open side encloses
    few or no pixels. Its pocket is the part of `region` (the ventricle from another segmentation) in the wall's convex
    hull, without dents of the contour narrower than three pixels; of several pieces the largest. The pocket is added if
    it is larger than the enclosed area.
    """
    number = wall.shape[0]
    padding = ((0, -number % WORD), (1, 1), (1, 1))
    planes, ventricle = pack(jnp.pad(wall, padding)), pack(jnp.pad(region, padding))
    edge = jnp.zeros((*planes.shape[:2], 1), jnp.uint32).at[1:-1, 1:-1].set(1) - 1  # all bits set on the frame
    outside = flood(jnp.broadcast_to(edge, planes.shape), ~planes)
    enclosed = ~planes & ~outside
    pocket = hull(planes) & ventricle & outside & ~planes
    interior = shifted(pocket, 1) & shifted(pocket, -1) & shifted(pocket, 0, 1) & shifted(pocket, 0, -1)
    pocket = pocket & grown(pocket & interior, jnp.zeros((1, 1, 1), jnp.uint32))
    pocket = pack(largest(jnp.moveaxis(pixels(pocket), -1, 0)))  # a blood pool is one piece
    enclosed_px, pocket_px = count(enclosed, pocket)
    result = enclosed | (pocket & words(pocket_px > enclosed_px)[None, None])
    return jnp.moveaxis(pixels(result)[1:-1, 1:-1, :number], -1, 0)
