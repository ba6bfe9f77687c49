"""The anatomical check of a whole short-axis slice: LV, myocardium and RV, batched.

The 16 criteria of Painchaud et al. 2020 ("Cardiac segmentation with strong anatomical guarantees", IEEE TMI; VITAL),
and a 17th: which structures may be there. Tissue is 8-connected, what surrounds it 4-connected, as in `wall_check.py`;
the image lies in an endless background. X stands for any of the three. Labels other than 1, 2, 3 are background.

- structures: LV never without Myo; Myo without LV (below the apex of the cavity), without RV (apex), RV alone (its
  outflow, above the LV) and an empty slice by flags. VITAL does not ask; the LV then touches background.
- holes of X: pixels, whatever they are, enclosed by X alone; of Myo, only those pieces of them without LV.
- holes between LV and Myo: pixels enclosed by the two together, that are holes of neither. Between RV and Myo: those
  enclosed by these two, but by neither alone, that are not LV (an LV may lie between an open Myo and the RV).
- X disconnected: pixels outside its largest piece. VITAL's "more than one X".
- RV apart from Myo: the gap between them, 0 if they touch at a corner; else distance of pixel centres less one pixel.
- LV touches RV, LV touches background: pixels of LV with such a pixel among their 8 neighbours.
- The opening of Myo: pixels of LV that touch background beside them, which is not enclosed by Myo, at most `mouth_mm`
  deep in the epicardium's hull, and those next to them that touch it at a corner. VITAL forbids any. Near the base the
  Myo is a C: if it opens `opening_mm` or more (less is a crack), over at most `open_share` of the LV's contour (half:
  with less Myo than that the slice is atrium by clinical convention), only the LV's other pixels may not touch
  background. Myo of one piece has one opening at most.
- epicardium: Myo, LV and what the two enclose; nothing where there is no Myo. It stands for Myo in what follows.
- concavity of X: the greatest depth of a pixel of X's hull that is neither X nor enclosed by it. Hull and depth as in
  `wall_check.py`. VITAL erodes first (depths a pixel less, no dents under three pixels wide) and allows Myo none.
- circularity of LV and of Myo: 4 pi A / P^2 with what they enclose, perimeter by Crofton's formula.

A structure that is absent passes all that is asked of it. What VITAL says of a patient's first and last slices, namely
nothing, is the caller's: pass other limits there. Wall thickness is no criterion of theirs; see `wall_check.py`.
Distances saturate at 16 pixels, the RV's concavity at 32: give pixels of 1 to 2 mm. Sizes equal to a limit pass.
Of the gold standards of ACDC (756 slices of 40 patients, at their own 1.2 to 1.9 mm) 2.1% fail under these limits.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cardiac_jax.anatomy.heart_measure import SLACK_MM, Measured, measure


class Limits(NamedTuple):
    """Thresholds, those of VITAL unless the module says otherwise. All may be traced.

    Attributes:
      holes_px, between_px: most pixels of holes of each structure, and between each two (VITAL: H W / 2^14).
      disconnected_px: most pixels outside the largest piece of each structure.
      rv_gap_mm: widest gap between RV and Myo.
      lv_rv_px, lv_background_px: most pixels of LV that touch what they should not.
      rv_concavity_mm, myo_concavity_mm, lv_concavity_mm: greatest depths; an LV less its papillary muscles has more.
      myo_circularity, lv_circularity: least 4 pi A / P^2.
      c_shaped: whether Myo may be open; opening_mm, open_share: least width and greatest part of the LV's contour.
      no_rv, no_lv, rv_alone, empty: whether such slices pass.
      mouth_mm: how far behind the hull's edge an opening may lie.
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


DEFAULT = Limits()


class Verdict(NamedTuple):
    """Whether a slice passes, bool `[N]`: `valid` is all of the others; a criterion is true where it is kept."""

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
    measured: Measured


@jax.jit
def check(labels: Array, spacing_mm: float | Array, limits: Limits = DEFAULT) -> Verdict:
    """Checks slices `[N, H, W]` (0 background, 1 RV, 2 Myo, 3 LV) with square pixels of `spacing_mm`.

    Compiled once per shape of `labels`: give batches of one size, padded with empty slices.
    """
    return judge(measure(labels, spacing_mm, limits.mouth_mm), limits)


def judge(measured: Measured, limits: Limits = DEFAULT) -> Verdict:
    """The verdict on what was measured, under limits of the same `mouth_mm`."""
    m, most = measured, limits
    has_rv, has_myo, has_lv = m.rv_px > 0, m.myo_px > 0, m.lv_px > 0
    without_myo = ~has_lv & jnp.where(has_rv, most.rv_alone, most.empty)
    structures = jnp.where(has_myo, (has_lv | most.no_lv) & (has_rv | most.no_rv), without_myo)
    wide = m.opening_mm >= most.opening_mm - SLACK_MM
    is_c = most.c_shaped & wide & (m.open_share <= most.open_share + SLACK_MM)
    passed = Verdict(
        valid=structures,
        structures=structures,
        rv_holes=m.rv_holes_px <= most.holes_px,
        myo_holes=m.myo_holes_px <= most.holes_px,
        lv_holes=m.lv_holes_px <= most.holes_px,
        lv_myo_holes=m.lv_myo_holes_px <= most.between_px,
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
        measured=m,
    )
    return passed._replace(valid=jnp.stack(passed[:-1]).all(0))
