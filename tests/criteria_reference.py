"""The criteria of a label map once more, one slice at a time, by scipy and scikit-image: `heart_check.py`'s yardstick.

Labelling by `scipy.ndimage`, convex hulls by Qhull, distances by the exact Euclidean distance transform, perimeter by
`skimage.measure`. Everything happens within the bounding box of the labels and a frame of one pixel.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import perimeter_crofton

from cardiac_jax.anatomy.heart_check import Limits
from cardiac_jax.anatomy.heart_measure import RV_REACH_PX, Measured
from tests.anatomy_reference import CORNERS, REACH_PX, hull_of

RV, MYO, LV = 1, 2, 3


def measure(labels: np.ndarray, spacing_mm: float, mouth_mm: float) -> Measured:
    """Measures one slice `[H, W]`: numbers instead of arrays."""
    labels = np.where((labels >= RV) & (labels <= LV), labels, 0)
    if not labels.any():
        labels = np.zeros((1, 1), int)
    else:
        labels = labels[ndimage.find_objects((labels > 0).astype(np.uint8))[0]]
    labels = np.pad(labels, 1)
    rv, myo, lv = labels == RV, labels == MYO, labels == LV
    heart = ndimage.binary_fill_holes(lv | myo) if myo.any() else np.zeros_like(myo)

    in_rv, in_myo, in_lv = enclosed(rv), enclosed(myo), enclosed(lv)
    pieces, _ = ndimage.label(in_myo)
    myo_holes = in_myo & ~np.isin(pieces, np.unique(pieces[lv & in_myo]))
    between_lv = enclosed(lv | myo) & ~in_lv & ~myo_holes
    between_rv = enclosed(rv | myo) & ~in_rv & ~in_myo & ~lv

    touch = lv & ndimage.binary_dilation(labels == 0, CORNERS)
    mouth = lv & ndimage.binary_dilation((labels == 0) & ~in_myo)
    deep_px = depth(hull_of(heart)) if heart.any() else np.zeros(labels.shape)
    mouth &= (deep_px * spacing_mm <= mouth_mm + 1e-3) & (deep_px < REACH_PX)
    mouth = touch & ndimage.binary_dilation(mouth, CORNERS)
    edge = lv & ndimage.binary_dilation(~lv, CORNERS)
    at = np.argwhere(mouth)
    span_mm = (np.hypot(*(at.max(0) - at.min(0))) + 1) * spacing_mm if len(at) else 0.0

    return Measured(
        rv_px=int(rv.sum()),
        myo_px=int(myo.sum()),
        lv_px=int(lv.sum()),
        rv_holes_px=int(in_rv.sum()),
        myo_holes_px=int(myo_holes.sum()),
        lv_holes_px=int(in_lv.sum()),
        lv_myo_holes_px=int(between_lv.sum()),
        rv_myo_holes_px=int(between_rv.sum()),
        rv_disconnected_px=disconnected(rv),
        myo_disconnected_px=disconnected(myo),
        lv_disconnected_px=disconnected(lv),
        rv_gap_mm=gap_px(rv, myo) * spacing_mm,
        lv_rv_px=int((lv & ndimage.binary_dilation(rv, CORNERS)).sum()),
        lv_background_px=int(touch.sum()),
        lv_inner_px=int((touch & ~mouth).sum()),
        opening_mm=int(mouth.sum()) * spacing_mm,
        open_share=mouth.sum() / max(int(edge.sum()), 1),
        rv_concavity_mm=concavity_px(rv | in_rv, RV_REACH_PX) * spacing_mm,
        myo_concavity_mm=concavity_px(heart) * spacing_mm,
        lv_concavity_mm=concavity_px(lv | in_lv) * spacing_mm,
        myo_circularity=circularity(heart),
        lv_circularity=circularity(lv | in_lv),
        opening_span_mm=span_mm,
        opening_ratio=span_mm / max(2 * np.sqrt(lv.sum() / np.pi) * spacing_mm, spacing_mm),
        **{
            f"{name}_mm2": mask.sum() * spacing_mm**2
            for name, mask in (("rv", rv), ("myo", myo), ("lv", lv), ("heart", heart))
        },
    )


def enclosed(mask: np.ndarray) -> np.ndarray:
    """Pixels outside the mask that are not 4-connected to its surroundings."""
    background = ndimage.label(~mask)[0]
    return ~mask & (background != background[0, 0])


def disconnected(mask: np.ndarray) -> int:
    sizes = np.bincount(ndimage.label(mask, CORNERS)[0].ravel())[1:]
    return int(sizes.sum() - sizes.max()) if sizes.size else 0


def gap_px(rv: np.ndarray, myo: np.ndarray) -> float:
    if not rv.any() or not myo.any():
        return 0.0
    nearest = min(ndimage.distance_transform_edt(~myo)[rv].min(), REACH_PX)
    return 0.0 if nearest < 1.5 else nearest - 1


def depth(hull: np.ndarray, reach_px: int = REACH_PX) -> np.ndarray:
    """Distance in pixels of every pixel to the nearest one outside `hull`, at most `reach_px`."""
    return np.minimum(ndimage.distance_transform_edt(np.pad(hull, 1))[1:-1, 1:-1], reach_px)


def concavity_px(mask: np.ndarray, reach_px: int = REACH_PX) -> float:
    if not mask.any():
        return 0.0
    hull = hull_of(mask)
    return np.where(hull & ~mask, depth(hull, reach_px), 0).max()


def circularity(mask: np.ndarray) -> float:
    return 4 * np.pi * mask.sum() / perimeter_crofton(mask, 4) ** 2 if mask.any() else 0.0


def verdict(m: Measured, limits: Limits) -> dict[str, bool]:
    """The fields of `cardiac_jax.ops.criteria.Verdict` that are verdicts, for one slice."""
    slack = 1e-3
    has_rv, has_myo, has_lv = m.rv_px > 0, m.myo_px > 0, m.lv_px > 0
    structures = {
        (False, False, False): limits.empty,
        (True, False, False): limits.rv_alone,
        (False, True, False): limits.no_rv and limits.no_lv,
        (True, True, False): limits.no_lv,
        (False, True, True): limits.no_rv,
        (True, True, True): True,
    }.get((has_rv, has_myo, has_lv), False)
    is_c = limits.c_shaped and m.opening_mm >= limits.opening_mm - slack and m.open_share <= limits.open_share + slack
    passed = {
        "structures": bool(structures),
        "rv_holes": m.rv_holes_px <= limits.holes_px,
        "myo_holes": m.myo_holes_px <= limits.holes_px,
        "lv_holes": m.lv_holes_px <= limits.holes_px,
        "lv_myo_holes": m.lv_myo_holes_px <= limits.gap_px,
        "rv_myo_holes": m.rv_myo_holes_px <= limits.between_px,
        "rv_disconnected": m.rv_disconnected_px <= limits.disconnected_px,
        "myo_disconnected": m.myo_disconnected_px <= limits.disconnected_px,
        "lv_disconnected": m.lv_disconnected_px <= limits.disconnected_px,
        "rv_myo_apart": m.rv_gap_mm <= limits.rv_gap_mm + slack,
        "lv_touches_rv": m.lv_rv_px <= limits.lv_rv_px,
        "lv_touches_background": (m.lv_inner_px if is_c else m.lv_background_px) <= limits.lv_background_px,
        "rv_concavity": m.rv_concavity_mm <= limits.rv_concavity_mm + slack,
        "myo_concavity": m.myo_concavity_mm <= limits.myo_concavity_mm + slack,
        "lv_concavity": m.lv_concavity_mm <= limits.lv_concavity_mm + slack,
        "myo_circularity": not has_myo or m.myo_circularity >= limits.myo_circularity,
        "lv_circularity": not has_lv or m.lv_circularity >= limits.lv_circularity,
    }
    small = has_myo and (m.myo_mm2 < limits.least_wall_mm2 or m.heart_mm2 < limits.least_area_mm2)
    small |= (has_lv and m.lv_mm2 < limits.least_pool_mm2) or (has_rv and m.rv_mm2 < limits.least_rv_mm2)
    wide = m.opening_span_mm > limits.widest_opening_mm + slack or m.opening_ratio > limits.widest_opening + slack
    passed |= {"least_area": not small, "opening": not wide}
    passed = {name: bool(value) for name, value in passed.items()}
    return {"valid": all(passed.values())} | passed
