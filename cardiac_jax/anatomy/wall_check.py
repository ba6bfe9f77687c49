"""The anatomical check of a myocardium in a short-axis slice (Abramson, Popescu et al. 2020, stage 3), batched.

Definitions, for one mask in an endless background. Tissue is 8-connected, background 4-connected: a wall that holds
at a corner still closes a ring, and the wall's thickness there (0.41 pixels) tells it.

- outside: background connected to the mask's surroundings; lumen: the largest enclosed piece of background.
- hull: pixels whose centres lie in the convex hull of the mask's pixel centres. Depth of a pixel: its distance to the
  nearest pixel outside the hull, so a concavity of one layer of pixels is one pixel deep.
- pocket: the part of the outside within the hull that is 4-connected to its deepest pixels.
- The mask is C-shaped if the pocket is at least `pocket_mm` deep and larger than the lumen. Cavity: the pocket of a C,
  else the lumen, which a solid mask lacks. Opening of a C: pixels of the pocket beside the outside of the hull.
- filled: mask, cavity and every hole. Holes: enclosed pixels that are not cavity.
- endocardium: the cavity, of a C only where it is farther than `tip_mm` from the opening: the tips of the wall are
  not judged. Its concavity is the greatest depth of a pixel that is no cavity within the endocardium's own hull.
- epicardial concavity: the greatest depth of a pixel of the hull that is not filled.
- thickness: the smallest distance between the endocardium and what is not filled, less one pixel: pixels of wall.
- circularity: 4 pi A / P^2 of the filled mask, perimeter by Crofton's formula in four directions (1 for a disc).
- mean wall: the radius of a disc as large as the filled mask, less that of one as large as the cavity. A solid mask is
  all wall: without this limit, as published, a disc of any size passes.

Distances saturate at 16 pixels. Use pixels of 0.7 to 3 mm. Sizes that are equal to a limit pass.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from cardiac_jax.anatomy.batching import in_blocks
from cardiac_jax.anatomy.bitmasks import WORD, count, extreme, pack, shifted, words
from cardiac_jax.anatomy.components import components, flood
from cardiac_jax.anatomy.convex_hull import REACH_PX, distance_px2, extreme_distance_px2, hull, perimeter_px

BLOCK = 128  # masks in work at once: their planes and distances stay in the cache
_FRAME = 76  # a block whose masks all fit into this frame is checked in it
_SLACK_MM = 1e-3  # of comparisons: 2 pixels of 1.4 mm are 2.8 mm


class Limits(NamedTuple):
    """Thresholds of the check, and the two lengths its definitions need. All may be traced.

    Attributes:
      objects: most connected pieces; 0 tissue is `empty`.
      disconnected_px: most pixels outside the largest piece.
      holes_px: most enclosed pixels that are not the cavity.
      circularity: least 4 pi A / P^2 of the filled mask.
      endo_concavity_mm, epi_concavity_mm: greatest depths of the concavities of either contour.
      thickness_mm: least wall thickness, away from the open side of a C.
      mean_wall_mm, area_mm2: greatest mean wall, and greatest area of the filled mask. (Of the annotated slices of ACDC
        the largest are 23.7 mm, below the apex of the cavity, and 7200 mm2.)
      opening_mm: least width of the opening of a C; what opens less is a broken ring.
      c_shaped, solid, empty: whether a C, a mask without cavity (below the apex of the cavity), no mask passes.
      pocket_mm: least depth of the cavity of a C.
      tip_mm: how far from the opening of a C its wall is not judged.
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


DEFAULT = Limits()


class Measured(NamedTuple):
    """What the check looks at, each `[N]`. An empty mask has zeros and an infinite thickness.

    Attributes:
      area_px, objects, disconnected_px, holes_px: int32.
      circularity, endo_concavity_mm, epi_concavity_mm, opening_mm: float32; 0 where there is nothing to measure.
      thickness_mm: float32; infinite without an endocardium.
      mean_wall_mm, filled_mm2: float32.
      is_c_shaped, has_cavity: bool.
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


class Verdict(NamedTuple):
    """Whether a mask passes, bool `[N]`: `valid` is all of the others; `shape` is whether its kind is allowed.

    An empty mask passes or fails by its kind alone.
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
    measured: Measured


@jax.jit
def check(masks: Array, spacing_mm: float | Array, limits: Limits = DEFAULT) -> Verdict:
    """Checks masks `[N, H, W]`, nonzero where there is myocardium, with square pixels of `spacing_mm`.

    Compiled once per shape of `masks`: give batches of one size, padded with empty masks.
    """
    return judge(measure(masks, spacing_mm, limits), limits)


def judge(measured: Measured, limits: Limits = DEFAULT) -> Verdict:
    """The verdict on what was measured, under limits of the same `pocket_mm` and `tip_mm`."""
    m = measured
    empty = m.area_px == 0
    c_shape = limits.c_shaped & (m.opening_mm >= limits.opening_mm - _SLACK_MM)
    shape = jnp.where(m.is_c_shaped, c_shape, m.has_cavity | limits.solid)
    shape = jnp.where(empty, limits.empty, shape)
    passed = Verdict(
        valid=shape,
        shape=shape,
        objects=empty | (m.objects <= limits.objects),
        disconnected=empty | (m.disconnected_px <= limits.disconnected_px),
        holes=empty | (m.holes_px <= limits.holes_px),
        circularity=empty | (m.circularity >= limits.circularity),
        endocardium=empty | (m.endo_concavity_mm <= limits.endo_concavity_mm + _SLACK_MM),
        epicardium=empty | (m.epi_concavity_mm <= limits.epi_concavity_mm + _SLACK_MM),
        thickness=empty | (m.thickness_mm >= limits.thickness_mm - _SLACK_MM),
        mean_wall=empty | (m.mean_wall_mm <= limits.mean_wall_mm + _SLACK_MM),
        area=empty | (m.filled_mm2 <= limits.area_mm2),
        measured=m,
    )
    return passed._replace(valid=jnp.stack(passed[:-1]).all(0))


@jax.jit
def measure(masks: Array, spacing_mm: float | Array, limits: Limits = DEFAULT) -> Measured:
    """Measures masks `[N, H, W]`, in blocks; of `limits` only `pocket_mm` and `tip_mm` matter."""
    spacing_mm = jnp.asarray(spacing_mm, jnp.float32)

    def framed(masks: Array) -> Measured:
        return _measure_planes(jnp.pad(pack(masks), ((1, 1), (1, 1), (0, 0))), spacing_mm, limits)

    return in_blocks(masks, framed, BLOCK, _FRAME - 2)


def _measure_planes(wall: Array, spacing_mm: Array, limits: Limits) -> Measured:
    """Planes `[H, W, L]` whose outermost rows and columns are background."""
    edge = jnp.ones((wall.shape[0] - 2, wall.shape[1] - 2, 1), jnp.uint32)
    edge = jnp.pad(edge, ((1, 1), (1, 1), (0, 0))) - 1  # all bits set on the frame's edge
    outside = flood(jnp.broadcast_to(edge, wall.shape), ~wall)
    enclosed = ~wall & ~outside
    lanes = wall.shape[-1]
    corners = jnp.repeat(jnp.asarray([-1, 0], jnp.int32), lanes).astype(jnp.uint32)
    number, largest = components(jnp.concatenate([wall, enclosed], -1), corners)
    objects, main, lumen = number[: lanes * WORD], largest[..., :lanes], largest[..., lanes:]

    around = hull(wall)
    depth_px2 = distance_px2(~around)
    pockets = around & outside
    deepest_px2 = extreme(lax.max, depth_px2, pockets, 0)
    pocket = flood(words(depth_px2 == deepest_px2[None, None]), pockets)
    area, main_px, enclosed_px, lumen_px, pocket_px = count(wall, main, enclosed, lumen, pocket)

    is_c = (_mm(deepest_px2, spacing_mm) >= limits.pocket_mm - _SLACK_MM) & (pocket_px > lumen_px)
    c_bits = words(is_c)[None, None]
    cavity = (pocket & c_bits) | (lumen & ~c_bits)
    filled = wall | enclosed | cavity
    beside = around & shifted(around, 1) & shifted(around, -1) & shifted(around, 0, 1) & shifted(around, 0, -1)
    opening = pocket & c_bits & ~beside
    endocardium = lax.cond(jnp.any(is_c), lambda: cavity & _farther(opening, limits.tip_mm, spacing_mm), lambda: cavity)

    inner = hull(endocardium)
    endo_px2 = extreme_distance_px2(lax.max, ~inner, inner & ~cavity, 0)
    epi_px2 = extreme(lax.max, depth_px2, around & ~filled, 0)
    wall_px2 = extreme_distance_px2(lax.min, ~filled, endocardium, REACH_PX**2)
    filled_px, opening_px, endo_area, cavity_px = count(filled, opening, endocardium, cavity)
    perimeter = perimeter_px(filled)
    return Measured(
        area,
        objects,
        area - main_px,
        enclosed_px - jnp.where(is_c, 0, lumen_px),
        4 * jnp.pi * filled_px / jnp.maximum(jnp.square(perimeter), 1.0),
        _mm(endo_px2, spacing_mm),
        _mm(epi_px2, spacing_mm),
        jnp.where(endo_area > 0, _mm(wall_px2, spacing_mm) - spacing_mm, jnp.inf),
        (jnp.sqrt(filled_px / jnp.pi) - jnp.sqrt(cavity_px / jnp.pi)) * spacing_mm,
        filled_px * jnp.square(spacing_mm),
        opening_px * spacing_mm,
        is_c,
        is_c | (lumen_px > 0),
    )


def _farther(planes: Array, than_mm: float | Array, spacing_mm: Array) -> Array:
    """Planes of the pixels farther than `than_mm` from `planes`."""
    px2 = distance_px2(planes)
    return words((px2 >= REACH_PX**2) | (px2 > jnp.square((than_mm + _SLACK_MM) / spacing_mm)))


def _mm(px2: Array, spacing_mm: Array) -> Array:
    return jnp.sqrt(px2.astype(jnp.float32)) * spacing_mm
