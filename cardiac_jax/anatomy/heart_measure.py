"""Measurements for the check of a slice with LV, myocardium and RV, on planes; definitions in `heart_check.py`."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from cardiac_jax.anatomy.batching import in_blocks
from cardiac_jax.anatomy.bitmasks import count, grown, pack, span_px, words
from cardiac_jax.anatomy.components import components, flood
from cardiac_jax.anatomy.convex_hull import REACH_PX, distance_px2, extreme_distance_px2, hull, perimeter_px

BLOCK = 128  # slices processed at once
RV_REACH_PX = 32  # an RV crescent convex a large LV has a deep concavity
SLACK_MM = 1e-3
_FRAME = 96  # holds 99% of the hearts of ACDC at 1.4 mm


class Measured(NamedTuple):
    """Measurements of the check, each `[N]`: int32 `_px`, else float32; 0 if there is nothing to measure.

    Attributes:
      lv_background_px: number of LV pixels that touch background.
      lv_inner_px: number of these pixels that are not at the opening.
      opening_mm: number of LV pixels at the opening, times the pixel size.
      open_share: number of LV pixels at the opening, divided by that of the LV's contour.
      opening_span_mm, opening_ratio: span of the opening, absolutely and by the LV's diameter.
      rv_mm2, myo_mm2, lv_mm2, heart_mm2: areas; of the epicardium with all that it encloses.
    """

    rv_px: Array
    myo_px: Array
    lv_px: Array
    rv_holes_px: Array
    myo_holes_px: Array
    lv_holes_px: Array
    lv_myo_holes_px: Array
    rv_myo_holes_px: Array
    rv_disconnected_px: Array
    myo_disconnected_px: Array
    lv_disconnected_px: Array
    rv_gap_mm: Array
    lv_rv_px: Array
    lv_background_px: Array
    lv_inner_px: Array
    opening_mm: Array
    open_share: Array
    rv_concavity_mm: Array
    myo_concavity_mm: Array
    lv_concavity_mm: Array
    myo_circularity: Array
    lv_circularity: Array
    opening_span_mm: Array
    opening_ratio: Array
    rv_mm2: Array
    myo_mm2: Array
    lv_mm2: Array
    heart_mm2: Array


@jax.jit
def measure(labels: Array, spacing_mm: float | Array, mouth_mm: float | Array) -> Measured:
    """Measure slices `[N, H, W]` (0 background, 1 RV, 2 Myo, 3 LV) with square pixels of `spacing_mm`, in blocks.

    `mouth_mm` is the largest depth of an opening of Myo.
    """
    spacing_mm = jnp.asarray(spacing_mm, jnp.float32)

    def framed(labels: Array) -> Measured:
        rv, myo, lv = (jnp.pad(pack(labels == label), ((1, 1), (1, 1), (0, 0))) for label in (1, 2, 3))
        return _measure_planes(rv, myo, lv, spacing_mm, mouth_mm)

    return in_blocks(labels, framed, BLOCK, _FRAME - 2)


def _measure_planes(rv: Array, myo: Array, lv: Array, spacing_mm: Array, mouth_mm: float | Array) -> Measured:
    """Measure planes `[H, W, L]` whose outermost rows and columns are background."""
    in_rv, in_myo, in_lv, in_heart, in_right = _enclosed(rv, myo, lv, lv | myo, rv | myo)
    myo_holes = in_myo & ~flood(lv, in_myo)
    lv_myo_holes, rv_myo_holes = in_heart & ~in_lv & ~myo_holes, in_right & ~in_rv & ~in_myo & ~lv
    main = _split(components(jnp.concatenate([rv, myo, lv], -1), True).largest, 3)
    rv_px, myo_px, lv_px, rv_main_px, myo_main_px, lv_main_px = count(rv, myo, lv, *main)

    heart = (lv | myo | in_heart) & words(myo_px > 0)[None, None]
    solid = [heart, lv | in_lv, rv | in_rv]
    convex = hull(jnp.concatenate(solid, -1))
    dents = convex & ~jnp.concatenate(solid, -1)
    lanes = 2 * rv.shape[-1]
    left_px2 = extreme_distance_px2(lax.max, ~convex[..., :lanes], dents[..., :lanes], 0)
    rv_px2 = extreme_distance_px2(lax.max, ~convex[..., lanes:], dents[..., lanes:], 0, RV_REACH_PX)
    heart_px2, lv_px2 = jnp.split(left_px2, 2)
    gap_px2 = jnp.where((rv_px > 0) & (myo_px > 0), extreme_distance_px2(lax.min, myo, rv, REACH_PX**2), 0)

    corners, sides = jnp.full((1, 1, 1), 2**32 - 1, jnp.uint32), jnp.zeros((1, 1, 1), jnp.uint32)
    background = ~(rv | myo | lv)
    touching = lv & grown(background, corners)
    mouth = lv & grown(background & ~in_myo, sides)
    nearby = lax.cond(
        jnp.any(mouth),
        lambda: mouth & _within(~convex[..., : rv.shape[-1]], mouth_mm, spacing_mm),
        lambda: mouth,
    )
    opening = touching & grown(nearby, corners)
    contour = lv & grown(~lv, corners)
    touching_px, inner_px, opening_px, contour_px, lv_rv_px, heart_area, lv_area = count(
        touching, touching & ~opening, opening, contour, lv & grown(rv, corners), *solid[:2]
    )
    holes_px = count(in_rv, myo_holes, in_lv, lv_myo_holes, rv_myo_holes)
    heart_edge, lv_edge = jnp.split(perimeter_px(jnp.concatenate(solid[:2], -1)), 2)
    span_mm, pixel_mm2 = span_px(opening) * spacing_mm, jnp.square(spacing_mm)
    return Measured(
        rv_px=rv_px,
        myo_px=myo_px,
        lv_px=lv_px,
        rv_holes_px=holes_px[0],
        myo_holes_px=holes_px[1],
        lv_holes_px=holes_px[2],
        lv_myo_holes_px=holes_px[3],
        rv_myo_holes_px=holes_px[4],
        rv_disconnected_px=rv_px - rv_main_px,
        myo_disconnected_px=myo_px - myo_main_px,
        lv_disconnected_px=lv_px - lv_main_px,
        rv_gap_mm=jnp.where(gap_px2 > 2, _mm(gap_px2, spacing_mm) - spacing_mm, 0.0),
        lv_rv_px=lv_rv_px,
        lv_background_px=touching_px,
        lv_inner_px=inner_px,
        opening_mm=opening_px * spacing_mm,
        open_share=opening_px / jnp.maximum(contour_px, 1),
        rv_concavity_mm=_mm(rv_px2, spacing_mm),
        myo_concavity_mm=_mm(heart_px2, spacing_mm),
        lv_concavity_mm=_mm(lv_px2, spacing_mm),
        myo_circularity=_circularity(heart_area, heart_edge),
        lv_circularity=_circularity(lv_area, lv_edge),
        opening_span_mm=span_mm,
        opening_ratio=span_mm / jnp.maximum(2 * jnp.sqrt(lv_px / jnp.pi) * spacing_mm, spacing_mm),
        rv_mm2=rv_px * pixel_mm2,
        myo_mm2=myo_px * pixel_mm2,
        lv_mm2=lv_px * pixel_mm2,
        heart_mm2=heart_area * pixel_mm2,
    )


def _enclosed(*planes: Array) -> list[Array]:
    """Planes of the background enclosed by each of the given planes."""
    stack = jnp.concatenate(planes, -1)
    edge = jnp.ones((stack.shape[0] - 2, stack.shape[1] - 2, 1), jnp.uint32)
    edge = jnp.pad(edge, ((1, 1), (1, 1), (0, 0))) - 1  # all bits are set on the frame's edge
    return _split(~stack & ~flood(jnp.broadcast_to(edge, stack.shape), ~stack), len(planes))


def _split(planes: Array, parts: int) -> list[Array]:
    return jnp.split(planes, parts, axis=-1)


def _within(target: Array, of_mm: float | Array, spacing_mm: Array) -> Array:
    """Planes of the pixels at most `of_mm` from `target`."""
    px2 = distance_px2(target)
    return words((px2 < REACH_PX**2) & (px2 <= jnp.square((of_mm + SLACK_MM) / spacing_mm)))


def _mm(px2: Array, spacing_mm: Array) -> Array:
    return jnp.sqrt(px2.astype(jnp.float32)) * spacing_mm


def _circularity(area_px: Array, perimeter_px: Array) -> Array:
    return 4 * jnp.pi * area_px / jnp.maximum(jnp.square(perimeter_px), 1.0)
