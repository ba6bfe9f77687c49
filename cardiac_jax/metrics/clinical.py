"""Clinical measures of label maps: volumes in ml, ventricular function, mass in g.

All functions take masks or label maps `[*S]` with one spacing per axis, on the grid of the file. None resamples
in-plane.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.labels import CLASSES

ML_PER_MM3 = 1e-3
DENSITY_G_PER_ML = 1.05  # density of myocardium
VENTRICLES = ("LV", "RV")


class Function(NamedTuple):
    """Function of one ventricle.

    Attributes:
      edv_ml, esv_ml: volume of the blood pool at end-diastole and end-systole.
      sv_ml: stroke volume, EDV - ESV.
      ef: ejection fraction (EDV - ESV) / EDV, a fraction; negative if ESV > EDV. NaN if EDV is 0: the ventricle was
        not found, which differs from a ventricle that does not eject.
    """

    edv_ml: float
    esv_ml: float
    sv_ml: float
    ef: float


def volume_ml(mask: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Volume of a mask `[*S]` in ml: voxel count x voxel volume; the slice spacing includes gaps between slices.

    Raises:
      ValueError: the numbers of axes and spacings differ.
    """
    _check(mask, spacing_mm)
    return float(np.count_nonzero(mask) * math.prod(spacing_mm) * ML_PER_MM3)


def interpolated_volume_ml(
    mask: np.ndarray, spacing_mm: Sequence[float], slice_axis: int = -1, annotated: np.ndarray | None = None
) -> float:
    """Volume in ml with nearest-neighbour interpolation between slices (Abramson et al. 2020, Methods).

    Each point between two slice centres belongs to the nearer slice, so the area of a slice extends half the
    distance to each neighbour. The result differs from `volume_ml` in two cases:
      - The first and last slice count for half their thickness, because there is no slice beyond them. This matters
        if the structure reaches the end of the stack, e.g. after the removal of unannotated slices. It has no effect
        if the outermost slices are empty.
      - A gap of one or more slices excluded by `annotated` is filled half from the slice below and half from the
        slice above. `volume_ml` counts a gap as empty.
    A single slice counts for its full thickness.

    Args:
      mask: `[*S]`; slices that are not annotated are ignored.
      spacing_mm: voxel size along each axis.
      slice_axis: the axis along which slices are stacked.
      annotated: bool `[slices]`, slices to use; all by default.

    Raises:
      ValueError: the numbers of axes and spacings, or of slices and flags, differ.
    """
    _check(mask, spacing_mm)
    axis = slice_axis % mask.ndim
    used = np.ones(mask.shape[axis], bool) if annotated is None else np.asarray(annotated, bool)
    if used.shape != (mask.shape[axis],):
        raise ValueError(f"{mask.shape[axis]} slices and annotated {used.shape} do not match")
    at = np.flatnonzero(used)
    if not at.size:
        return 0.0
    voxels = np.count_nonzero(mask, axis=tuple(a for a in range(mask.ndim) if a != axis))[at]
    if at.size == 1:
        thickness = np.ones(1)
    else:
        edges = np.concatenate([at[:1], (at[:-1] + at[1:]) / 2, at[-1:]])
        thickness = np.diff(edges)
    return float(voxels @ thickness * math.prod(spacing_mm) * ML_PER_MM3)


def mass_g(myocardium: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Mass in g of a mask `[*S]` of myocardium: 1.05 g/ml x volume; raises as `volume_ml`."""
    return DENSITY_G_PER_ML * volume_ml(myocardium, spacing_mm)


def bsa_m2(height_cm: float | None, weight_kg: float | None) -> float:
    """Body surface area in m2, sqrt(height x weight / 3600) (Mosteller 1987); NaN if either is not known."""
    if not height_cm or not weight_kg:
        return math.nan
    return math.sqrt(height_cm * weight_kg / 3600)


def index(value: float, bsa: float) -> float:
    """Volume (ml) or mass (g) by body surface area (m2): ml/m2 or g/m2; NaN if the area is not known."""
    return value / bsa


def function(
    ed_label: np.ndarray, es_label: np.ndarray, spacing_mm: Sequence[float], classes: Sequence[str] = CLASSES
) -> dict[str, Function]:
    """Function of each ventricle in `classes`, from the label maps `[*S]` of both phases on one grid.

    Args:
      classes: names by label value; "LV" and "RV" are measured.

    Raises:
      ValueError: the shapes differ, or a voxel is not annotated (255), which would make the volume too small.
    """
    if ed_label.shape != es_label.shape:
        raise ValueError(f"end-diastole {ed_label.shape} and end-systole {es_label.shape} differ in shape")
    if (ed_label == IGNORE).any() or (es_label == IGNORE).any():
        raise ValueError("a voxel is not annotated: the volume would be incomplete")
    names = [name for name in VENTRICLES if name in classes]
    masks = {name: classes.index(name) for name in names}
    return {
        name: function_of(volume_ml(ed_label == value, spacing_mm), volume_ml(es_label == value, spacing_mm))
        for name, value in masks.items()
    }


def function_of(edv_ml: float, esv_ml: float) -> Function:
    """Stroke volume and ejection fraction from two volumes in ml; the ejection fraction is NaN if EDV is 0."""
    stroke_ml = edv_ml - esv_ml
    return Function(edv_ml, esv_ml, stroke_ml, stroke_ml / edv_ml if edv_ml > 0 else math.nan)


def _check(mask: np.ndarray, spacing_mm: Sequence[float]) -> None:
    if mask.ndim != len(spacing_mm):
        raise ValueError(f"mask {mask.shape} and spacing {tuple(spacing_mm)} do not match")
