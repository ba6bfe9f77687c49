"""Metrics of one case: one row per structure with overlap, boundary distances and volumes.

`registry.METRICS` describes each column that holds a metric.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.labels import roles, wall_labels
from cardiac_jax.metrics import annotation, overlap, surface
from cardiac_jax.metrics.clinical import ML_PER_MM3
from cardiac_jax.metrics.pair import StructurePair
from cardiac_jax.metrics.registry import METRICS
from cardiac_jax.metrics.rows import Row

MYOCARDIUM, PATHOLOGY, INFARCTION = "myocardium", "scar + oedema", "scar + mvo"


def evaluate_case(
    pred: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Sequence[float],
    classes: Sequence[str],
    ignore: int = IGNORE,
    slice_axis: int = -1,
) -> list[Row]:
    """One row of metrics per structure of one case, on the grid of the gold standard: in 3D, of one slice in 2D.

    Voxels where `truth` is `ignore` are not annotated. Overlap and boundary distances exclude them, the latter as
    described in `surface.py`. Volumes, and what is computed from them, are NaN if part of the heart may lie in such
    voxels (`annotation.incomplete`): `annotation` is then "partial", else "full". A volume of one slice along
    `slice_axis` has contours: the two faces of a voxel across the slice are no boundary.

    Args:
      pred, truth: `[X, Y, Z]` label maps of one shape.
      spacing_mm: voxel size along each axis.
      classes: names by label value, background (not measured) first.

    Returns:
      Rows with `structure`, `status`, `annotation`, a column for each metric of the registry with `of="case"`,
      `slices` and `surface_slices` (those in which every voxel is annotated). For MyoPS-like classes also rows of
      `unions`.
      Status is "ok"; "missed" (only the gold standard has the structure) or "spurious" (only the prediction has it),
      both with Dice 0 and infinite distances; "absent" (neither has it), with NaN; or "unknown" (no annotated voxel has
      it, but others may), with NaN except for the overlap of the annotated voxels. Balanced accuracy is NaN if the
      gold standard lacks the structure.

    Raises:
      ValueError: the shapes differ, or a map holds a label value without a name.
    """
    if pred.shape != truth.shape:
        raise ValueError(f"prediction {pred.shape} and truth {truth.shape} differ in shape")
    axis = slice_axis % truth.ndim
    in_plane = tuple(a for a in range(truth.ndim) if a != axis)
    annotated = ~np.any(truth == ignore, axis=in_plane)
    voxel_ml = float(np.prod(np.asarray(spacing_mm, np.float64))) * ML_PER_MM3
    if truth.ndim == 3 and truth.shape[axis] == 1:
        pred, truth, spacing_mm = pred.take(0, axis), truth.take(0, axis), [spacing_mm[a] for a in in_plane]
    rows = evaluate_structures(pred, truth, spacing_mm, voxel_ml, classes, ignore, axis, unions(classes))
    return [{**row, "slices": annotated.size, "surface_slices": int(annotated.sum())} for row in rows]


def evaluate_structures(
    pred: np.ndarray,
    truth: np.ndarray,
    spacing_mm: Sequence[float],
    voxel_ml: float,
    classes: Sequence[str],
    ignore: int = IGNORE,
    slice_axis: int = 0,
    united: Mapping[str, Sequence[int]] | None = None,
) -> list[Row]:
    """Rows of `evaluate_case`, without numbers of slices, for `[*S]` label maps of a volume or of one slice.

    Args:
      voxel_ml: volume of one voxel.
      united: further structures, name -> label values.

    Raises:
      ValueError: as `evaluate_case`.
    """
    if pred.shape != truth.shape:
        raise ValueError(f"prediction {pred.shape} and truth {truth.shape} differ in shape")
    # Both maps are background outside this box, so voxels there count only as true negatives.
    box = surface.bounding_box((pred != 0) | (truth != 0))
    outside = pred.size
    pred, truth = pred[box], truth[box]
    outside -= pred.size
    values = range(1, len(classes))
    _check(pred, truth, (*values, 0), ignore)
    counts = overlap.counts(pred, truth, values, ignore)
    known = truth != ignore
    voxels = outside + int(np.count_nonzero(known))
    complete = not annotation.incomplete(truth, ignore)
    measured = {name: metric.function for name, metric in METRICS.items() if metric.function and metric.of == "case"}

    given = None if known.all() else surface.annotated(known, spacing_mm, slice_axis)

    def row(name: str, own: overlap.Counts, masks: tuple[np.ndarray, np.ndarray]) -> Row:
        masks = masks if given is None else (masks[0] & known, masks[1])
        pair = StructurePair(name, own, voxels, masks, spacing_mm, voxel_ml, given, complete)
        head: Row = {"structure": name, "status": pair.status}
        head["annotation"] = annotation.FULL if complete else annotation.PARTIAL
        return head | {column: function(pair) for column, function in measured.items()}

    rows = [
        row(classes[k], overlap.Counts(*(count[k - 1 : k] for count in counts)), (pred == k, truth == k))
        for k in values
    ]
    for name, members in (united or {}).items():
        masks = np.isin(pred, members), np.isin(truth, members)
        own = overlap.counts((masks[0] & known).astype(np.uint8), masks[1].astype(np.uint8), (1,))
        rows.append(row(name, own, masks))
    return rows


def unions(classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Structures that are several classes, as challenges score them: name -> label values.

    "myocardium", if there are Myo and classes inside it (oedema, scar): Myo alone is then the normal part of the wall.
    "scar + oedema", if there are both: the pathology of MyoPS. "scar + mvo" likewise: the infarction of EMIDEC, whose
    no-reflow (microvascular obstruction) is a class of its own.
    """
    known, wall = roles(classes), wall_labels(classes)
    found: dict[str, tuple[int, ...]] = {MYOCARDIUM: wall} if len(wall) > 1 else {}
    for name in (PATHOLOGY, INFARCTION):
        if all(part in known for part in name.split(" + ")):
            found[name] = tuple(known[part] for part in name.split(" + "))
    return found


def _check(pred: np.ndarray, truth: np.ndarray, known: Sequence[int], ignore: int) -> None:
    for name, values, allowed in (("prediction", pred, known), ("truth", truth, (*known, ignore))):
        unknown = sorted(set(np.unique(values).tolist()) - set(allowed))
        if unknown:
            raise ValueError(f"{name} holds label values without a name: {unknown}")
