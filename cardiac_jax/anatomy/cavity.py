"""The cavity (blood pool) of a myocardium in a slice: what the wall surrounds, or the pocket of an open wall."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from cardiac_jax.anatomy.bitmasks import WORD, count, extreme, grown, pack, pixels, shifted, words
from cardiac_jax.anatomy.components import components, flood
from cardiac_jax.anatomy.convex_hull import distance_px2, hull
from cardiac_jax.ops.largest import largest

SLACK_MM = 1e-3  # tolerance of comparisons, so that 2 pixels of 1.4 mm are 2.8 mm


class Parts(NamedTuple):
    """Parts of walls, by the definitions of `wall_check.py`.

    Attributes:
      objects: int32 `[B]`, number of components of the wall.
      main: planes of the largest component.
      enclosed: planes of the enclosed background.
      convex, depth_px2: planes of the hull, and each pixel's squared distance to its outside, `[H, W, B]`.
      is_c: bool `[B]`, whether the wall is C-shaped.
      cavity: planes of the pocket of a C, else of the lumen.
      opening: planes of the opening of a C.
    """

    objects: Array
    main: Array
    enclosed: Array
    convex: Array
    depth_px2: Array
    is_c: Array
    cavity: Array
    opening: Array


def parts(wall: Array, spacing_mm: Array, pocket_mm: float | Array) -> Parts:
    """Return the parts of walls, planes `[H, W, L]` whose outermost rows and columns are background."""
    outside = flood(jnp.broadcast_to(_frame(wall), wall.shape), ~wall)
    enclosed = ~wall & ~outside
    lanes = wall.shape[-1]
    corners = jnp.repeat(jnp.asarray([-1, 0], jnp.int32), lanes).astype(jnp.uint32)
    number, largest_piece = components(jnp.concatenate([wall, enclosed], -1), corners)
    main, lumen = largest_piece[..., :lanes], largest_piece[..., lanes:]

    convex = hull(wall)
    depth_px2 = distance_px2(~convex)
    pockets = convex & outside
    deepest_px2 = extreme(lax.max, depth_px2, pockets, 0)
    pocket = flood(words(depth_px2 == deepest_px2[None, None]), pockets)
    lumen_px, pocket_px = count(lumen, pocket)
    deepest_mm = jnp.sqrt(deepest_px2.astype(jnp.float32)) * spacing_mm
    is_c = (deepest_mm >= pocket_mm - SLACK_MM) & (pocket_px > lumen_px)
    c_bits = words(is_c)[None, None]
    interior = convex & shifted(convex, 1) & shifted(convex, -1) & shifted(convex, 0, 1) & shifted(convex, 0, -1)
    return Parts(
        objects=number[: lanes * WORD],
        main=main,
        enclosed=enclosed,
        convex=convex,
        depth_px2=depth_px2,
        is_c=is_c,
        cavity=(pocket & c_bits) | (lumen & ~c_bits),
        opening=pocket & c_bits & ~interior,
    )


@jax.jit
def chambers(walls: Array, spacing_mm: float | Array, pocket_mm: float | Array) -> tuple[Array, Array]:
    """Return the cavity and the opening of each wall, two bool `[N, H, W]`, by the definitions of `wall_check.py`.

    Args:
      walls: `[N, H, W]`, nonzero inside.
      spacing_mm: side of a pixel.
      pocket_mm: smallest depth of the cavity of a C.
    """
    number = walls.shape[0]
    planes = pack(jnp.pad(walls, ((0, -number % WORD), (1, 1), (1, 1))))
    found = parts(planes, jnp.asarray(spacing_mm, jnp.float32), pocket_mm)
    cavity, opening = (jnp.moveaxis(pixels(part)[1:-1, 1:-1, :number], -1, 0) for part in (found.cavity, found.opening))
    return cavity, opening


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
    outside = flood(jnp.broadcast_to(_frame(planes), planes.shape), ~planes)
    enclosed = ~planes & ~outside
    pocket = hull(planes) & ventricle & outside & ~planes
    interior = shifted(pocket, 1) & shifted(pocket, -1) & shifted(pocket, 0, 1) & shifted(pocket, 0, -1)
    pocket = pocket & grown(pocket & interior, jnp.zeros((1, 1, 1), jnp.uint32))
    pocket = pack(largest(jnp.moveaxis(pixels(pocket), -1, 0)))  # a blood pool is one piece
    enclosed_px, pocket_px = count(enclosed, pocket)
    result = enclosed | (pocket & words(pocket_px > enclosed_px)[None, None])
    return jnp.moveaxis(pixels(result)[1:-1, 1:-1, :number], -1, 0)


def _frame(planes: Array) -> Array:
    """Planes `[H, W, 1]` with all bits set on the frame's edge."""
    inner = jnp.ones((planes.shape[0] - 2, planes.shape[1] - 2, 1), jnp.uint32)
    return jnp.pad(inner, ((1, 1), (1, 1), (0, 0))) - 1
