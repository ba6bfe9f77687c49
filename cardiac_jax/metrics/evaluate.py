"""One case measured: a row per structure with overlap, boundary distances and volumes.

Every column that is a measure stands in `registry.METRICS`.
"""

from collections.abc import Sequence

import numpy as np

from cardiac_jax.core.types import IGNORE
from cardiac_jax.metrics import overlap, surface
from cardiac_jax.metrics.clinical import ML_PER_MM3

Row = dict[str, str | int | float]


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
      One row per structure with `structure`, `status`, `dice`, `jaccard`, `balanced_accuracy`, `hd_mm`, `hd95_mm`,
      `asd_mm`, `volume_pred_ml`, `volume_truth_ml`, `volume_error_ml` (prediction less truth), `surface_slices`.
      Status: "ok"; "missed" (only the truth has it) and "spurious" (only the prediction has it): Dice 0, distances
      infinite; "absent" (neither): NaN. Balanced accuracy is NaN wherever the truth lacks the structure.

    Raises:
      ValueError: shapes do not match, or a map holds a label value without a name.
    """
    across = tuple(a for a in range(truth.ndim) if a != slice_axis % truth.ndim)
    whole = ~np.any(truth == ignore, axis=across, keepdims=True)
    voxel_ml = float(np.prod(np.asarray(spacing_mm, np.float64))) * ML_PER_MM3
    rows = evaluate_structures(pred, truth, whole, spacing_mm, voxel_ml, classes, ignore)
    return [{**row, "surface_slices": int(whole.sum())} for row in rows]


def evaluate_structures(
    pred: np.ndarray,
    truth: np.ndarray,
    whole: np.ndarray,
    spacing_mm: Sequence[float],
    voxel_ml: float,
    classes: Sequence[str],
    ignore: int = IGNORE,
) -> list[Row]:
    """The rows of `evaluate_case`, without `surface_slices`, for `[*S]` label maps of a volume or of one slice.

    Args:
      whole: bool, broadcastable against the maps: where boundaries are measured.
    """
    if pred.shape != truth.shape:
        raise ValueError(f"prediction {pred.shape} and truth {truth.shape} differ in shape")
    # Both are background outside of this box: nothing there counts, but as true negatives.
    box = surface.bounding_box((pred != 0) | (truth != 0))
    outside = pred.size
    whole = np.broadcast_to(whole, pred.shape)[box]
    pred, truth = pred[box], truth[box]
    outside -= pred.size
    labels = range(1, len(classes))
    _check(pred, truth, (*labels, 0), ignore)
    counts = overlap.counts(pred, truth, labels, ignore)
    dice, jaccard = overlap.dice_of(counts), overlap.jaccard_of(counts)
    balanced = overlap.balanced_accuracy_of(counts, outside + int(np.count_nonzero(truth != ignore)))
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
                "balanced_accuracy": float(balanced[i]),
                "hd_mm": surface.hausdorff_mm(distances),
                "hd95_mm": surface.hausdorff_mm(distances, 95.0),
                "asd_mm": surface.average_mm(distances),
                "volume_pred_ml": (tp + fp) * voxel_ml,
                "volume_truth_ml": (tp + fn) * voxel_ml,
                "volume_error_ml": (fp - fn) * voxel_ml,
            }
        )
    return rows


def _check(pred: np.ndarray, truth: np.ndarray, known: Sequence[int], ignore: int) -> None:
    for name, values, allowed in (("prediction", pred, known), ("truth", truth, (*known, ignore))):
        unknown = sorted(set(np.unique(values).tolist()) - set(allowed))
        if unknown:
            raise ValueError(f"{name} holds label values without a name: {unknown}")


def _status(predicted: int, actual: int) -> str:
    if predicted and actual:
        return "ok"
    if actual:
        return "missed"
    return "spurious" if predicted else "absent"
