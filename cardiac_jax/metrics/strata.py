"""Results by slice location and by heart size, as in ACSNet (Tables 1 and 2, Fig. 2).

Both split an ordered list into thirds: the slices of a case from apex to base, or the patients by ascending volume. The
midpoint of an element decides its third: four elements split into 1, 2, 1, five into 2, 1, 2, one into 0, 1, 0.
"""

import math
from collections.abc import Sequence

import numpy as np

from cardiac_jax.core.types import IGNORE
from cardiac_jax.metrics.clinical import ML_PER_MM3
from cardiac_jax.metrics.evaluate import evaluate_structures
from cardiac_jax.metrics.rows import Row
from cardiac_jax.metrics.summary import Rows, by_patient

LOCATIONS = ("apex", "middle", "base")
TERTILES = ("lower", "middle", "upper")


def thirds(n: int) -> np.ndarray:
    """Third (0, 1 or 2) of each of n ordered elements: int `[n]`."""
    return (6 * np.arange(n) + 3) // (2 * max(n, 1))


def slice_rows(
    pred: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Sequence[float],
    classes: Sequence[str],
    ignore: int = IGNORE,
    within: np.ndarray | None = None,
) -> list[Row]:
    """Rows of 2D metrics for each slice of one case, with the slice's third of the structure.

    Args:
      pred, truth: `[Z, H, W]` label maps, apex first (as returned by `orientation.to_canonical`).
      spacing_mm: voxel size along Z, H, W (`Orientation.of`).
      classes: names by label value, background (not measured) first.
      within: bool `[Z]`, slices to split into thirds, e.g. those of the heart for a scar; by default the slices with
        the structure in the gold standard.

    Returns:
      One row per structure and slice with that structure, apex first: the columns of `evaluate_case` without
      `slices` and `surface_slices`, plus `location` and `slice`. Boundaries are 2D outlines. A slice outside `within`
      has no location and no row; by default these are slices with the structure only in the prediction. A partly
      annotated slice has distances where they are known, and no volume unless its unknown part lies apart.

    Raises:
      ValueError: the maps are not `[Z, H, W]` of one shape, or as `evaluate_case`.
    """
    if pred.shape != truth.shape or truth.ndim != 3:
        raise ValueError(f"prediction {pred.shape} and truth {truth.shape} are not [Z, H, W] of one shape")
    voxel_ml = math.prod(float(s) for s in spacing_mm) * ML_PER_MM3
    found: dict[str, list[Row]] = {name: [] for name in classes[1:]}
    for z, (p, t) in enumerate(zip(pred, truth, strict=True)):
        for row in evaluate_structures(p, t, spacing_mm[1:], voxel_ml, classes, ignore):
            if row["status"] not in ("absent", "unknown"):
                found[str(row["structure"])].append({**row, "slice": z})
    located: list[Row] = []
    for rows in found.values():
        in_truth = [int(row["slice"]) for row in rows if row["status"] != "spurious"]
        slices = in_truth if within is None else np.flatnonzero(within).tolist()
        third = dict(zip(slices, thirds(len(slices)), strict=True))
        located += [{**row, "location": LOCATIONS[third[int(row["slice"])]]} for row in rows if row["slice"] in third]
    return located


def tertiles(rows: Rows, structure: str) -> dict[str, str]:
    """patient -> "lower", "middle" or "upper" third by the gold-standard volume of one structure.

    The volume is the mean over the patient's cases (ED and ES). Patients without one have no third; ties sort by name.
    """
    volumes = {p: ml for p, ml in by_patient(rows, "volume_truth_ml", structure).items() if not math.isnan(ml)}
    order = sorted(volumes, key=lambda patient: (volumes[patient], patient))
    return {patient: TERTILES[third] for patient, third in zip(order, thirds(len(order)), strict=True)}


def union(labels: np.ndarray, values: Sequence[int], ignore: int = IGNORE) -> np.ndarray:
    """Mask uint8 `[*S]` of several structures, e.g. blood pool and myocardium: 1 if a label is in `values`, else 0.

    Voxels that are not annotated stay `ignore`.
    """
    return np.where(labels == ignore, ignore, np.isin(labels, values)).astype(np.uint8)
