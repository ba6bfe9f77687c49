"""Metrics of one case: one row per structure with overlap, boundary distances and volumes.

`registry.METRICS` describes each column that holds a metric.
"""

from collections.abc import Sequence

import numpy as np

from cardiac_jax.core.types import IGNORE
from cardiac_jax.metrics import overlap, surface
from cardiac_jax.metrics.clinical import ML_PER_MM3
from cardiac_jax.metrics.pair import StructurePair
from cardiac_jax.metrics.registry import METRICS
from cardiac_jax.metrics.rows import Row


def evaluate_case(
    pred: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Sequence[float],
    classes: Sequence[str],
    ignore: int = IGNORE,
    slice_axis: int = -1,
) -> list[Row]:
    """One row of 3D metrics per structure of one case, on the grid of the gold standard.

    Overlap and volumes exclude voxels where `truth` is `ignore`. Boundary distances use fully annotated slices only:
    a slice (along `slice_axis`) with any such voxel is removed from both maps, and `surface_slices` counts the
    remaining slices. Distances are NaN if no slice remains, or if neither map has the structure in the remaining ones.

    Args:
      pred, truth: `[X, Y, Z]` label maps of one shape.
      spacing_mm: voxel size along each axis.
      classes: names by label value, background (not measured) first.

    Returns:
      Rows with `structure`, `status`, `dice`, `jaccard`, `balanced_accuracy`, `hd_mm`, `hd95_mm`, `asd_mm`,
      `volume_pred_ml`, `volume_truth_ml`, `volume_error_ml` (prediction minus gold standard), `surface_slices`.
      Status is "ok"; "missed" (only the gold standard has the structure) or "spurious" (only the prediction has it),
      both with Dice 0 and infinite distances; or "absent" (neither has it), with NaN. Balanced accuracy is NaN if the
      gold standard lacks the structure.

    Raises:
      ValueError: the shapes differ, or a map holds a label value without a name.
    """
    in_plane = tuple(a for a in range(truth.ndim) if a != slice_axis % truth.ndim)
    annotated = ~np.any(truth == ignore, axis=in_plane, keepdims=True)
    voxel_ml = float(np.prod(np.asarray(spacing_mm, np.float64))) * ML_PER_MM3
    rows = evaluate_structures(pred, truth, annotated, spacing_mm, voxel_ml, classes, ignore)
    return [{**row, "surface_slices": int(annotated.sum())} for row in rows]


def evaluate_structures(
    pred: np.ndarray,
    truth: np.ndarray,
    annotated: np.ndarray,
    spacing_mm: Sequence[float],
    voxel_ml: float,
    classes: Sequence[str],
    ignore: int = IGNORE,
) -> list[Row]:
    """Rows of `evaluate_case`, without `surface_slices`, for `[*S]` label maps of a volume or of one slice.

    Args:
      annotated: bool, broadcastable to the maps; boundaries are measured where it is True.
      voxel_ml: volume of one voxel.

    Raises:
      ValueError: as `evaluate_case`.
    """
    if pred.shape != truth.shape:
        raise ValueError(f"prediction {pred.shape} and truth {truth.shape} differ in shape")
    # Both maps are background outside this box, so voxels there count only as true negatives.
    box = surface.bounding_box((pred != 0) | (truth != 0))
    outside = pred.size
    annotated = np.broadcast_to(annotated, pred.shape)[box]
    pred, truth = pred[box], truth[box]
    outside -= pred.size
    labels = range(1, len(classes))
    _check(pred, truth, (*labels, 0), ignore)
    counts = overlap.counts(pred, truth, labels, ignore)
    voxels = outside + int(np.count_nonzero(truth != ignore))
    measured = {name: metric.function for name, metric in METRICS.items() if metric.function and metric.of == "case"}
    rows: list[Row] = []
    for i, label in enumerate(labels):
        own = overlap.Counts(*(count[i : i + 1] for count in counts))
        masks = (pred == label) & annotated, (truth == label) & annotated
        pair = StructurePair(own, voxels, masks, spacing_mm, voxel_ml)
        tp, fp, fn = (int(count[0]) for count in own)
        head: Row = {"structure": classes[label], "status": _status(tp + fp, tp + fn)}
        rows.append(head | {name: function(pair) for name, function in measured.items()})
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
