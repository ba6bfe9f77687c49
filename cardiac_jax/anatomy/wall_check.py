"""The anatomical check of a myocardium in a short-axis slice (Abramson, Popescu et al. 2020, stage 3), batched.

Definitions for one mask in an infinite background. Tissue is 8-connected, background 4-connected: a wall whose pixels
touch only at a corner still closes a ring, and its thickness there is 0.41 pixels.

- outside: background connected to the surroundings of the mask. lumen: the largest component of enclosed background.
- hull: pixels whose centres lie in the convex hull of the mask's pixel centres. depth of a pixel: its distance to the
  nearest pixel outside the hull, so a concavity of one layer of pixels is one pixel deep.
- pocket: the part of the outside within the hull that is 4-connected to its deepest pixels.
- The mask is C-shaped if the pocket is at least `pocket_mm` deep and larger than the lumen. cavity: the pocket of a C,
  else the lumen; a solid mask has none. opening of a C: pixels of the pocket with a 4-neighbour outside the hull.
- filled: mask, cavity and all holes. holes: enclosed pixels that are not in the cavity.
- endocardium: the cavity; for a C only its pixels farther than `tip_mm` from the opening, so that the tips of the wall
  are not checked. Its concavity is the largest depth of a non-cavity pixel within the endocardium's own hull.
- epicardial concavity: the largest depth of a pixel of the hull that is not filled.
- thickness: the smallest distance between the endocardium and pixels that are not filled, minus one pixel.
- circularity: 4 pi A / P^2 of the filled mask, perimeter by Crofton's formula in four directions (1 for a disc).
- mean wall: the radius of a disc with the area of the filled mask, minus that of a disc with the area of the cavity. A
  solid mask consists of wall only. The paper has no such limit, so there a disc of any size passes.

Distances saturate at 16 pixels. Use pixels of 0.7 to 3 mm. Values equal to a limit pass.
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

BLOCK = 128  # masks processed at once: their planes and distances fit into the cache
_FRAME = 76  # a block whose masks all fit into this frame is cropped to it
_SLACK_MM = 1e-3  # tolerance of comparisons, so that 2 pixels of 1.4 mm are 2.8 mm


class Limits(NamedTuple):
    """Thresholds of the check, and two lengths used by its definitions (`pocket_mm`, `tip_mm`). All may be traced.

    Attributes:
      objects: largest number of connected components; a mask without pixels is judged by `empty` only.
      disconnected_px: largest number of pixels outside the largest component.
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
    """Measurements of the check, each `[N]`. An empty mask has zeros and an infinite thickness.

    Attributes:
      area_px, objects, disconnected_px, holes_px: int32.
      circularity, endo_concavity_mm, epi_concavity_mm, opening_mm: float32; 0 if there is nothing to measure.
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
    measured: Measured


@jax.jit
def check(masks: Array, spacing_mm: float | Array, limits: Limits = DEFAULT) -> Verdict:
    """Check masks `[N, H, W]`, nonzero in the myocardium, with square pixels of `spacing_mm`.

    Compiled once per shape of `masks`, so pass batches of one size, padded with empty masks.
    """
    return judge(measure(masks, spacing_mm, limits), limits)


def judge(measured: Measured, limits: Limits = DEFAULT) -> Verdict:
    """Return the verdict on measurements made with the same `limits.pocket_mm` and `limits.tip_mm`."""
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
    """Measure masks `[N, H, W]` with square pixels of `spacing_mm`, in blocks.

    Only `pocket_mm` and `tip_mm` of `limits` are used.
    """
    spacing_mm = jnp.asarray(spacing_mm, jnp.float32)

    def framed(masks: Array) -> Measured:
        return _measure_planes(jnp.pad(pack(masks), ((1, 1), (1, 1), (0, 0))), spacing_mm, limits)

    return in_blocks(masks, framed, BLOCK, _FRAME - 2)


def _measure_planes(wall: Array, spacing_mm: Array, limits: Limits) -> Measured:
    """Measure planes `[H, W, L]` whose outermost rows and columns are background."""
    edge = jnp.ones((wall.shape[0] - 2, wall.shape[1] - 2, 1), jnp.uint32)
    edge = jnp.pad(edge, ((1, 1), (1, 1), (0, 0))) - 1  # all bits are set on the frame's edge
    outside = flood(jnp.broadcast_to(edge, wall.shape), ~wall)
    enclosed = ~wall & ~outside
    lanes = wall.shape[-1]
    corners = jnp.repeat(jnp.asarray([-1, 0], jnp.int32), lanes).astype(jnp.uint32)
    number, largest = components(jnp.concatenate([wall, enclosed], -1), corners)
    objects, main, lumen = number[: lanes * WORD], largest[..., :lanes], largest[..., lanes:]

    convex = hull(wall)
    depth_px2 = distance_px2(~convex)
    pockets = convex & outside
    deepest_px2 = extreme(lax.max, depth_px2, pockets, 0)
    pocket = flood(words(depth_px2 == deepest_px2[None, None]), pockets)
    area, main_px, enclosed_px, lumen_px, pocket_px = count(wall, main, enclosed, lumen, pocket)

    is_c = (_mm(deepest_px2, spacing_mm) >= limits.pocket_mm - _SLACK_MM) & (pocket_px > lumen_px)
    c_bits = words(is_c)[None, None]
    cavity = (pocket & c_bits) | (lumen & ~c_bits)
    filled = wall | enclosed | cavity
    interior = convex & shifted(convex, 1) & shifted(convex, -1) & shifted(convex, 0, 1) & shifted(convex, 0, -1)
    opening = pocket & c_bits & ~interior
    endocardium = lax.cond(jnp.any(is_c), lambda: cavity & _farther(opening, limits.tip_mm, spacing_mm), lambda: cavity)

    inner = hull(endocardium)
    endo_px2 = extreme_distance_px2(lax.max, ~inner, inner & ~cavity, 0)
    epi_px2 = extreme(lax.max, depth_px2, convex & ~filled, 0)
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
