"""The anatomical check of a short-axis slice with LV, myocardium and RV, batched.

The 16 criteria of Painchaud et al. 2020 ("Cardiac segmentation with strong anatomical guarantees", IEEE TMI; VITAL),
and three more: which structures may be present, smallest areas and the widest opening. Tissue is 8-connected,
background 4-connected, as in `wall_check.py`. The image has an infinite background. X is any of the three structures.
Labels other than 1, 2, 3 are background.

- structures: LV without Myo always fails. Flags allow Myo without LV (below the apex of the cavity), Myo without RV
  (apex), RV alone (its outflow, above the LV) and an empty slice. VITAL lacks this criterion, but an LV without Myo
  touches background.
- holes of X: pixels of any label enclosed by X alone; for Myo, only their connected components without LV.
- holes between LV and Myo: pixels enclosed by the union of the two that are holes of neither. Holes between RV and Myo:
  pixels enclosed by their union, but by neither alone, that are not LV (an LV may lie between an open Myo and the RV).
- X disconnected: pixels outside the largest component of X. VITAL's "more than one X".
- RV apart from Myo: the gap between them, 0 if they touch at a corner; else distance of pixel centres minus one pixel.
- LV touches RV, LV touches background: pixels of LV with such a pixel among their 8 neighbours.
- opening of Myo: LV pixels, at most `mouth_mm` deep in the epicardium's hull, with a 4-neighbour of background that Myo
  does not enclose; and their 8-neighbours in LV that touch background. VITAL allows no opening. Near the base Myo is a
  C. LV pixels at the opening may touch background if the opening is at least `opening_mm` wide (a smaller one is a
  crack) and at most `open_share` of the LV's contour (half: with less Myo the slice is atrium by clinical convention).
  A connected Myo has at most one opening. Its span is the diagonal between its outermost rows and columns, plus one
  pixel; the opening ratio is the span divided by the diameter of a disc with the area of the LV, as in `wall_check.py`.
- epicardium: Myo, LV and the pixels enclosed by the two; empty without Myo. It replaces Myo in the criteria below.
- concavity of X: the largest depth of a pixel in X's hull that is neither X nor enclosed by X. Hull and depth are as in
  `wall_check.py`. VITAL erodes first (depths are one pixel smaller, dents under three pixels wide vanish) and allows no
  concavity of Myo.
- circularity of LV and of Myo: 4 pi A / P^2 with the enclosed pixels, perimeter by Crofton's formula.

An absent structure passes all its criteria. VITAL does not check the first and last slices of a patient; callers can
pass other limits for them. VITAL has no criterion for wall thickness; see `wall_check.py`. Distances saturate at 16
pixels, the RV's concavity at 32: use pixels of 1 to 2 mm. Values equal to a limit pass. Under these limits 2.1% of the
gold standards of ACDC fail (756 slices of 40 patients, at their own pixels of 1.2 to 1.9 mm).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cardiac_jax.anatomy.heart_measure import SLACK_MM, Measured, measure


class Limits(NamedTuple):
    """Thresholds of VITAL, unless the module docstring says otherwise. All may be traced.

    Attributes:
      holes_px, between_px: largest number of hole pixels of each structure, and between two (VITAL: H W / 2^14).
      disconnected_px: largest number of pixels outside the largest component of each structure.
      rv_gap_mm: largest gap between RV and Myo.
      lv_rv_px, lv_background_px: largest number of LV pixels that touch RV, or background.
      rv_concavity_mm, myo_concavity_mm, lv_concavity_mm: largest depths; an LV without its papillary muscles has more.
      myo_circularity, lv_circularity: smallest 4 pi A / P^2.
      c_shaped: whether Myo may be open.
      opening_mm, open_share: smallest width of the opening, and its largest share of the LV's contour.
      no_rv, no_lv, rv_alone, empty: whether such slices pass.
      mouth_mm: largest depth of an opening in the hull.
      gap_px: largest number of hole pixels between LV and Myo; `between_px` is for RV and Myo.
      widest_opening_mm, widest_opening: largest span and ratio of the opening of Myo; see `wall_check.Limits`.
      least_wall_mm2, least_area_mm2, least_pool_mm2, least_rv_mm2: smallest areas of Myo, of the epicardium, LV and RV
        where there are any. (The smallest RV in ACDC: 17.)
    """

    holes_px: int | Array = 0
    between_px: int | Array = 4
    disconnected_px: int | Array = 0
    rv_gap_mm: float | Array = 0.0
    lv_rv_px: int | Array = 1
    lv_background_px: int | Array = 1
    rv_concavity_mm: float | Array = 30.0
    myo_concavity_mm: float | Array = 4.0
    lv_concavity_mm: float | Array = 4.0
    myo_circularity: float | Array = 0.2
    lv_circularity: float | Array = 0.2
    c_shaped: bool | Array = True
    opening_mm: float | Array = 5.0
    open_share: float | Array = 0.5
    no_rv: bool | Array = True
    no_lv: bool | Array = True
    rv_alone: bool | Array = True
    empty: bool | Array = False
    mouth_mm: float | Array = 5.0
    gap_px: int | Array = 0
    widest_opening_mm: float | Array = 38.8
    widest_opening: float | Array = 1.02
    least_wall_mm2: float | Array = 125.0
    least_area_mm2: float | Array = 160.0
    least_pool_mm2: float | Array = 12.0
    least_rv_mm2: float | Array = 12.0


DEFAULT = Limits()


class Verdict(NamedTuple):
    """Whether each slice passes each criterion, bool `[N]`. `valid` is the conjunction of all criteria."""

    valid: Array
    structures: Array
    rv_holes: Array
    myo_holes: Array
    lv_holes: Array
    lv_myo_holes: Array
    rv_myo_holes: Array
    rv_disconnected: Array
    myo_disconnected: Array
    lv_disconnected: Array
    rv_myo_apart: Array
    lv_touches_rv: Array
    lv_touches_background: Array
    rv_concavity: Array
    myo_concavity: Array
    lv_concavity: Array
    myo_circularity: Array
    lv_circularity: Array
    least_area: Array
    opening: Array
    measured: Measured


@jax.jit
def check(labels: Array, spacing_mm: float | Array, limits: Limits = DEFAULT) -> Verdict:
    """Check slices `[N, H, W]` (0 background, 1 RV, 2 Myo, 3 LV) with square pixels of `spacing_mm`.

    Compiled once per shape of `labels`, so pass batches of one size, padded with empty slices.
    """
    return judge(measure(labels, spacing_mm, limits.mouth_mm), limits)


def judge(measured: Measured, limits: Limits = DEFAULT) -> Verdict:
    """Return the verdict on measurements made with the same `limits.mouth_mm`."""
    m, most = measured, limits
    has_rv, has_myo, has_lv = m.rv_px > 0, m.myo_px > 0, m.lv_px > 0
    without_myo = ~has_lv & jnp.where(has_rv, most.rv_alone, most.empty)
    structures = jnp.where(has_myo, (has_lv | most.no_lv) & (has_rv | most.no_rv), without_myo)
    wide = m.opening_mm >= most.opening_mm - SLACK_MM
    is_c = most.c_shaped & wide & (m.open_share <= most.open_share + SLACK_MM)
    heart = (m.myo_mm2 >= most.least_wall_mm2) & (m.heart_mm2 >= most.least_area_mm2)
    narrow = m.opening_span_mm <= most.widest_opening_mm + SLACK_MM
    passed = Verdict(
        valid=structures,
        structures=structures,
        rv_holes=m.rv_holes_px <= most.holes_px,
        myo_holes=m.myo_holes_px <= most.holes_px,
        lv_holes=m.lv_holes_px <= most.holes_px,
        lv_myo_holes=m.lv_myo_holes_px <= most.gap_px,
        rv_myo_holes=m.rv_myo_holes_px <= most.between_px,
        rv_disconnected=m.rv_disconnected_px <= most.disconnected_px,
        myo_disconnected=m.myo_disconnected_px <= most.disconnected_px,
        lv_disconnected=m.lv_disconnected_px <= most.disconnected_px,
        rv_myo_apart=m.rv_gap_mm <= most.rv_gap_mm + SLACK_MM,
        lv_touches_rv=m.lv_rv_px <= most.lv_rv_px,
        lv_touches_background=jnp.where(is_c, m.lv_inner_px, m.lv_background_px) <= most.lv_background_px,
        rv_concavity=m.rv_concavity_mm <= most.rv_concavity_mm + SLACK_MM,
        myo_concavity=m.myo_concavity_mm <= most.myo_concavity_mm + SLACK_MM,
        lv_concavity=m.lv_concavity_mm <= most.lv_concavity_mm + SLACK_MM,
        myo_circularity=~has_myo | (m.myo_circularity >= most.myo_circularity),
        lv_circularity=~has_lv | (m.lv_circularity >= most.lv_circularity),
        least_area=(~has_myo | heart)
        & (~has_lv | (m.lv_mm2 >= most.least_pool_mm2))
        & (~has_rv | (m.rv_mm2 >= most.least_rv_mm2)),
        opening=narrow & (m.opening_ratio <= most.widest_opening + SLACK_MM),
        measured=m,
    )
    return passed._replace(valid=jnp.stack(passed[:-1]).all(0))
