"""One case measured: a row per structure with overlap, boundary distances and volumes."""

from collections.abc import Sequence

import numpy as np

from cardiac_jax.data.case import IGNORE
from cardiac_jax.metrics import overlap, surface

Row = dict[str, str | int | float]

ML_PER_MM3 = 1e-3


def evaluate_case(
    pred: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Sequence[float],
    classes: Sequence[str],
    ignore: int = IGNORE,
    slice_axis: int = -1,
) -> list[Row]:
    """Measures every structure of one case, per volume, on the grid of the truth.

    Voxels whose truth is `ignore` are left out of overlap and volumes. Boundaries need whole slices: one
    (along `slice_axis`) that holds any such voxel is taken out of both maps before boundaries are measured,
    and `surface_slices` says how many remain. With none, or with the structure in neither map there, the
    distances are NaN.

    Args:
      pred, truth: `[X, Y, Z]` label maps of one shape.
      spacing_mm: voxel size along each axis.
      classes: names by label value, background (not measured) first.

    Returns:
      One row per structure with `structure`, `status`, `dice`, `jaccard`, `hd_mm`, `hd95_mm`, `asd_mm`,
      `volume_pred_ml`, `volume_truth_ml`, `surface_slices`. Status: "ok"; "missed" (only the truth has it)
      and "spurious" (only the prediction has it): Dice 0, distances infinite; "absent" (neither): NaN.

    Raises:
      ValueError: shapes do not match, or a map holds a label value without a name.
    """
    labels = range(1, len(classes))
    counts = overlap.counts(pred, truth, labels, ignore)
    for name, values, allowed in (
        ("prediction", pred, range(len(classes))),
        ("truth", truth, (*labels, 0, ignore)),
    ):
        unknown = sorted(set(np.unique(values).tolist()) - set(allowed))
        if unknown:
            raise ValueError(f"{name} holds label values without a name: {unknown}")
    whole = _whole_slices(truth, ignore, slice_axis)
    dice, jaccard = overlap.dice_of(counts), overlap.jaccard_of(counts)
    voxel_ml = float(np.prod(np.asarray(spacing_mm, np.float64))) * ML_PER_MM3
    rows: list[Row] = []
    for i, label in enumerate(labels):
        tp, fp, fn = (int(count[i]) for count in counts)
        distances = surface.surface_distances((pred == label) & whole, (truth == label) & whole, spacing_mm)
        rows.append(
            {
                "structure": classes[label],
                "status": _status(tp + fp, tp + fn),
                "dice": float(dice[i]),
                "jaccard": float(jaccard[i]),
                "hd_mm": surface.hausdorff_mm(distances),
                "hd95_mm": surface.hausdorff_mm(distances, 95.0),
                "asd_mm": surface.average_mm(distances),
                "volume_pred_ml": (tp + fp) * voxel_ml,
                "volume_truth_ml": (tp + fn) * voxel_ml,
                "surface_slices": int(whole.sum()),
            }
        )
    return rows


def _status(predicted: int, actual: int) -> str:
    if predicted and actual:
        return "ok"
    if actual:
        return "missed"
    return "spurious" if predicted else "absent"


def _whole_slices(truth: np.ndarray, ignore: int, axis: int) -> np.ndarray:
    """bool, broadcastable against the truth along every other axis: slices annotated throughout."""
    others = tuple(a for a in range(truth.ndim) if a != axis % truth.ndim)
    return ~np.any(truth == ignore, axis=others, keepdims=True)
