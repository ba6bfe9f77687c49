"""What a wall surrounds in its slice: the blood pool of a myocardium."""

import jax.numpy as jnp
from jax import Array

from cardiac_jax.anatomy.bitmasks import WORD, count, grown, pack, pixels, shifted, words
from cardiac_jax.anatomy.components import flood
from cardiac_jax.anatomy.convex_hull import hull


def cavity(wall: Array, region: Array) -> Array:
    """Masks `[N, H, W]` -> bool `[N, H, W]`: what `wall` encloses, and what of `region` lies in its convex hull.

    Enclosed is background that is not 4-connected to the slice's border. A ring that is open at one side encloses
    little or nothing: its cavity is what `region`, the whole ventricle by another judgement, has of its hull. That
    counts where it is larger than what is enclosed, and without the dents of the contour, narrower than three pixels.
    """
    number = wall.shape[0]
    filler = ((0, -number % WORD), (1, 1), (1, 1))
    planes, ventricle = pack(jnp.pad(wall, filler)), pack(jnp.pad(region, filler))
    edge = jnp.zeros((*planes.shape[:2], 1), jnp.uint32).at[1:-1, 1:-1].set(1) - 1  # all bits set on the frame
    outside = flood(jnp.broadcast_to(edge, planes.shape), ~planes)
    enclosed = ~planes & ~outside
    pocket = hull(planes) & ventricle & outside & ~planes
    beside = shifted(pocket, 1) & shifted(pocket, -1) & shifted(pocket, 0, 1) & shifted(pocket, 0, -1)
    pocket = pocket & grown(pocket & beside, jnp.zeros((1, 1, 1), jnp.uint32))
    enclosed_px, pocket_px = count(enclosed, pocket)
    held = enclosed | (pocket & words(pocket_px > enclosed_px)[None, None])
    return jnp.moveaxis(pixels(held)[1:-1, 1:-1, :number], -1, 0)
