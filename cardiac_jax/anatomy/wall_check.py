"""The anatomical check of a myocardium in a short-axis slice (Abramson, Popescu et al. 2020, stage 3), batched.

Definitions for one mask in an infinite background. Tissue is 8-connected, background 4-connected: a wall whose pixels
touch only at a corner still closes a ring, and its thickness there is 0.41 pixels.

- outside: background connected to the surroundings of the mask. lumen: the largest component of enclosed background.
- hull: pixels whose centres lie in the convex hull of the mask's pixel centres. depth of a pixel: its distance to the
  nearest pixel outside the hull, so a concavity of one layer of pixels is one pixel deep.
- pocket: the part of the outside within the hull that is 4-connected to its deepest pixels.
- The mask is C-shaped if the pocket is at least `pocket_mm` deep and larger than the lumen. cavity: the pocket of a C,
  else the lumen; a solid mask has none. opening of a C: pixels of the pocket with a 4-neighbour outside the hull; its
  width is the diagonal between its outermost rows and columns, plus one pixel.
- filled: mask, cavity and all holes. holes: enclosed pixels that are not in the cavity.
- endocardium: the cavity; for a C only its pixels farther than `tip_mm` from the opening, so that the tips of the wall
  are not checked. Its concavity is the largest depth of a non-cavity pixel within the endocardium's own hull.
- epicardial concavity: the largest depth of a pixel of the hull that is not filled.
- thickness: the smallest distance between the endocardium and pixels that are not filled, minus one pixel.
- circularity: 4 pi A / P^2 of the filled mask, perimeter by Crofton's formula in four directions (1 for a disc).
- mean wall: the radius of a disc with the area of the filled mask, minus that of a disc with the area of the cavity. A
  solid mask consists of wall only. The paper has no such limit, so there a disc of any size passes.
- opening ratio: the width of the opening, divided by the diameter of a disc with the area of the cavity: 1.4 for half
  a ring, .97 for two thirds, .74 for three quarters.

If a pool is given, it is judged with the wall, pixels of the wall left out:
- pool in pieces: pool pixels outside the largest 8-connected piece.
- pool gap: cavity without pool. In a C the largest depth of such a pixel (in the hull); infinite in a closed wall.
- pool outside: pool beyond the cavity. In a C the largest distance of such a pixel from the opening; infinite if the
  wall is closed or solid.

Distances saturate at 16 pixels. Use pixels of 0.7 to 3 mm. Values equal to a limit pass.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from cardiac_jax.anatomy.batching import in_blocks
from cardiac_jax.anatomy.bitmasks import count, extreme, pack, span_px, words
from cardiac_jax.anatomy.cavity import SLACK_MM, Parts, parts
from cardiac_jax.anatomy.components import components
from cardiac_jax.anatomy.convex_hull import REACH_PX, distance_px2, extreme_distance_px2, hull, perimeter_px

BLOCK = 128  # masks processed at once: their planes and distances fit into the cache
_FRAME = 76  # a block whose masks all fit into this frame is cropped to it
_WALL, _POOL = 1, 2  # bits of a pixel


class Limits(NamedTuple):
    """Thresholds of the check, and two lengths used by its definitions (`pocket_mm`, `tip_mm`). All may be traced.

    Attributes:
      objects: largest number of connected components; a mask without pixels is judged by `empty` only.
      disconnected_px: largest number of pixels outside the largest component, of the wall and of the pool.
      holes_px: largest number of enclosed pixels outside the cavity.
      circularity: smallest 4 pi A / P^2 of the filled mask.
      endo_concavity_mm, epi_concavity_mm: largest depths of the concavities of the two contours.
      thickness_mm: smallest wall thickness, away from the opening of a C.
      mean_wall_mm, area_mm2: largest mean wall, and largest area of the filled mask. (The largest values in the
        annotated slices of ACDC are 23.7 mm, below the apex of the cavity, and 7200 mm2.)
      opening_mm: smallest width of the opening of a C; a C with a smaller opening is a broken ring.
      c_shaped, solid, empty: whether a C, a mask without cavity (below the apex of the cavity), an empty mask passes.
      pocket_mm: smallest depth of the cavity of a C.
      tip_mm: distance from the opening of a C within which its wall is not checked.
      widest_opening_mm, widest_opening: largest width of the opening of a C, and largest opening ratio: third quartile
        of the open slices of the gold standards (5 of the 169 of MS-CMRSeg, 20.8 to 44.0 mm and .49 to 1.05, all among
        the three most basal slices; none of the 751 of ACDC).
      least_wall_mm2, least_area_mm2, least_pool_mm2: smallest areas of the wall, of the filled mask, and of the cavity
        if there is one. (The smallest in ACDC: 127, 161, 13.)
      gap_mm: largest pool gap of a C (median of the five); a closed wall may have none.
      outside_mm: largest distance of the pool of a C from its opening (largest of the five: 3.6).
    """

    objects: int | Array = 1
    disconnected_px: int | Array = 0
    holes_px: int | Array = 0
    circularity: float | Array = 0.2
    endo_concavity_mm: float | Array = 4.0
    epi_concavity_mm: float | Array = 4.0
    thickness_mm: float | Array = 2.0
    mean_wall_mm: float | Array = 25.0
    area_mm2: float | Array = 8000.0
    opening_mm: float | Array = 5.0
    c_shaped: bool | Array = True
    solid: bool | Array = True
    empty: bool | Array = False
    pocket_mm: float | Array = 8.0
    tip_mm: float | Array = 10.0
    widest_opening_mm: float | Array = 38.8
    widest_opening: float | Array = 1.02
    least_wall_mm2: float | Array = 125.0
    least_area_mm2: float | Array = 160.0
    least_pool_mm2: float | Array = 12.0
    gap_mm: float | Array = 2.2
    outside_mm: float | Array = 4.0


DEFAULT = Limits()


class Measured(NamedTuple):
    """Measurements of the check, each `[N]`. An empty mask has zeros and an infinite thickness.

    Attributes:
      area_px, objects, disconnected_px, holes_px: int32.
      circularity, endo_concavity_mm, epi_concavity_mm, opening_mm: float32; 0 if there is nothing to measure.
      thickness_mm: float32; infinite without an endocardium.
      mean_wall_mm, filled_mm2: float32.
      is_c_shaped, has_cavity: bool.
      opening_ratio, wall_mm2, cavity_mm2: float32.
      pool_disconnected_px, pool_gap_mm, pool_outside_mm: int32, float32; 0 if no pool was given.
    """

    area_px: Array
    objects: Array
    disconnected_px: Array
    holes_px: Array
    circularity: Array
    endo_concavity_mm: Array
    epi_concavity_mm: Array
    thickness_mm: Array
    mean_wall_mm: Array
    filled_mm2: Array
    opening_mm: Array
    is_c_shaped: Array
    has_cavity: Array
    opening_ratio: Array
    wall_mm2: Array
    cavity_mm2: Array
    pool_disconnected_px: Array
    pool_gap_mm: Array
    pool_outside_mm: Array


class Verdict(NamedTuple):
    """Whether each mask passes each criterion, bool `[N]`. `valid` is the conjunction of all criteria.

    `shape` is whether the kind of mask (ring, C, solid, empty) is allowed; it is the only criterion for an empty mask.
    """

    valid: Array
    shape: Array
    objects: Array
    disconnected: Array
    holes: Array
    circularity: Array
    endocardium: Array
    epicardium: Array
    thickness: Array
    mean_wall: Array
    area: Array
    least_area: Array
    opening: Array
    pool_pieces: Array
    pool_gap: Array
    pool_outside: Array
    measured: Measured


@jax.jit
def check(masks: Array, spacing_mm: float | Array, limits: Limits = DEFAULT, pools: Array | None = None) -> Verdict:
    """Check masks `[N, H, W]`, nonzero in the myocardium, with square pixels of `spacing_mm`.

    `pools [N, H, W]`, nonzero in the blood pool, are judged with the walls if they are given. Compiled once per shape
    of `masks`, so pass batches of one size, padded with empty masks.
    """
    return judge(measure(masks, spacing_mm, limits, pools), limits)


def judge(measured: Measured, limits: Limits = DEFAULT) -> Verdict:
    """Return the verdict on measurements made with the same `limits.pocket_mm` and `limits.tip_mm`."""
    m = measured
    empty = m.area_px == 0
    c_shape = limits.c_shaped & (m.opening_mm >= limits.opening_mm - SLACK_MM)
    shape = jnp.where(m.is_c_shaped, c_shape, m.has_cavity | limits.solid)
    shape = jnp.where(empty, limits.empty, shape)
    narrow = (m.opening_mm <= limits.widest_opening_mm + SLACK_MM) & (
        m.opening_ratio <= limits.widest_opening + SLACK_MM
    )
    passed = Verdict(
        valid=shape,
        shape=shape,
        objects=empty | (m.objects <= limits.objects),
        disconnected=empty | (m.disconnected_px <= limits.disconnected_px),
        holes=empty | (m.holes_px <= limits.holes_px),
        circularity=empty | (m.circularity >= limits.circularity),
        endocardium=empty | (m.endo_concavity_mm <= limits.endo_concavity_mm + SLACK_MM),
        epicardium=empty | (m.epi_concavity_mm <= limits.epi_concavity_mm + SLACK_MM),
        thickness=empty | (m.thickness_mm >= limits.thickness_mm - SLACK_MM),
        mean_wall=empty | (m.mean_wall_mm <= limits.mean_wall_mm + SLACK_MM),
        area=empty | (m.filled_mm2 <= limits.area_mm2),
        least_area=empty
        | (
            (m.wall_mm2 >= limits.least_wall_mm2)
            & (m.filled_mm2 >= limits.least_area_mm2)
            & (~m.has_cavity | (m.cavity_mm2 >= limits.least_pool_mm2))
        ),
        opening=narrow,
        pool_pieces=m.pool_disconnected_px <= limits.disconnected_px,
        pool_gap=m.pool_gap_mm <= limits.gap_mm + SLACK_MM,
        pool_outside=m.pool_outside_mm <= limits.outside_mm + SLACK_MM,
        measured=m,
    )
    return passed._replace(valid=jnp.stack(passed[:-1]).all(0))


@jax.jit
def measure(masks: Array, spacing_mm: float | Array, limits: Limits = DEFAULT, pools: Array | None = None) -> Measured:
    """Measure masks `[N, H, W]` with square pixels of `spacing_mm`, and their `pools` if given, in blocks.

    Only `pocket_mm` and `tip_mm` of `limits` are used.
    """
    spacing_mm = jnp.asarray(spacing_mm, jnp.float32)

    def framed(images: Array) -> Measured:
        bits = (_WALL,) if pools is None else (_WALL, _POOL)
        planes = [jnp.pad(pack(images & bit), ((1, 1), (1, 1), (0, 0))) for bit in bits]
        return _measure_planes(planes[0], planes[1] & ~planes[0] if len(planes) > 1 else None, spacing_mm, limits)

    images = jnp.where(masks != 0, jnp.uint8(_WALL), jnp.uint8(0))
    if pools is not None:
        images = images | jnp.where(pools != 0, jnp.uint8(_POOL), jnp.uint8(0))
    return in_blocks(images, framed, BLOCK, _FRAME - 2)


def _measure_planes(wall: Array, pool: Array | None, spacing_mm: Array, limits: Limits) -> Measured:
    """Measure planes `[H, W, L]` whose outermost rows and columns are background."""
    found = parts(wall, spacing_mm, limits.pocket_mm)
    convex, cavity, is_c = found.convex, found.cavity, found.is_c
    filled = wall | found.enclosed | cavity
    away_px2 = lax.cond(
        jnp.any(is_c),
        lambda: distance_px2(found.opening),
        lambda: jnp.full((*wall.shape[:2], is_c.shape[0]), REACH_PX**2, jnp.int16),
    )
    far = (away_px2 >= REACH_PX**2) | (away_px2 > jnp.square((limits.tip_mm + SLACK_MM) / spacing_mm))
    endocardium = cavity & words(far)

    inner = hull(endocardium)
    endo_px2 = extreme_distance_px2(lax.max, ~inner, inner & ~cavity, 0)
    epi_px2 = extreme(lax.max, found.depth_px2, convex & ~filled, 0)
    wall_px2 = extreme_distance_px2(lax.min, ~filled, endocardium, REACH_PX**2)
    area, main_px, enclosed_px, filled_px, endo_area, cavity_px = count(
        wall, found.main, found.enclosed, filled, endocardium, cavity
    )
    perimeter, opening_mm = perimeter_px(filled), span_px(found.opening) * spacing_mm
    nothing = jnp.zeros(area.shape, jnp.float32)
    pooled = (jnp.zeros_like(area), nothing, nothing)
    return Measured(
        area,
        found.objects,
        area - main_px,
        enclosed_px - jnp.where(is_c, 0, cavity_px),
        4 * jnp.pi * filled_px / jnp.maximum(jnp.square(perimeter), 1.0),
        _mm(endo_px2, spacing_mm),
        _mm(epi_px2, spacing_mm),
        jnp.where(endo_area > 0, _mm(wall_px2, spacing_mm) - spacing_mm, jnp.inf),
        (jnp.sqrt(filled_px / jnp.pi) - jnp.sqrt(cavity_px / jnp.pi)) * spacing_mm,
        filled_px * jnp.square(spacing_mm),
        opening_mm,
        is_c,
        is_c | (cavity_px > 0),
        opening_mm / jnp.maximum(2 * jnp.sqrt(cavity_px / jnp.pi) * spacing_mm, spacing_mm),
        area * jnp.square(spacing_mm),
        cavity_px * jnp.square(spacing_mm),
        *(pooled if pool is None else _measure_pool(pool, found, away_px2, spacing_mm)),
    )


def _measure_pool(pool: Array, found: Parts, away_px2: Array, spacing_mm: Array) -> tuple[Array, Array, Array]:
    """Pixels of the pool outside its largest piece, gap and distance from the opening in mm; all `[B]`."""
    missing, beyond = found.cavity & ~pool, pool & ~found.cavity
    pool_px, main_px, missing_px, beyond_px = count(pool, components(pool, True).largest, missing, beyond)
    gap_px2 = extreme(lax.max, found.depth_px2, missing, 0)
    beyond_px2 = extreme(lax.max, away_px2, beyond, 0)
    gap_mm = jnp.where(found.is_c | (missing_px == 0), _mm(gap_px2, spacing_mm), jnp.inf)
    outside_mm = jnp.where(found.is_c | (beyond_px == 0), _mm(beyond_px2, spacing_mm), jnp.inf)
    return pool_px - main_px, gap_mm, outside_mm


def _mm(px2: Array, spacing_mm: Array) -> Array:
    return jnp.sqrt(px2.astype(jnp.float32)) * spacing_mm
