"""What a wall surrounds in its slice: the blood pool of a myocardium."""

import jax.numpy as jnp
from jax import Array

from cardiac_jax.ops.components import flood
from cardiac_jax.ops.hull import hull
from cardiac_jax.ops.planes import WORD, pack, pixels


def cavity(wall: Array, region: Array) -> Array:
    """Masks `[N, H, W]` -> bool `[N, H, W]`: what `wall` encloses, and what of `region` lies in its convex hull.

    Enclosed is background that is not 4-connected to the slice's border; a ring that is open at one side encloses
    nothing, and its cavity is what `region`, the whole ventricle by another judgement, has of its hull.
    """
    number = wall.shape[0]
    filler = ((0, -number % WORD), (1, 1), (1, 1))
    planes, ventricle = pack(jnp.pad(wall, filler)), pack(jnp.pad(region, filler))
    edge = jnp.zeros((*planes.shape[:2], 1), jnp.uint32).at[1:-1, 1:-1].set(1) - 1  # all bits set on the frame
    outside = flood(jnp.broadcast_to(edge, planes.shape), ~planes)
    held = ~planes & (~outside | (hull(planes) & ventricle))
    return jnp.moveaxis(pixels(held)[1:-1, 1:-1, :number], -1, 0)
