"""One structure in two label maps: what every metric of a case is computed from, each part computed once."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from cardiac_jax.metrics import overlap, surface
from cardiac_jax.metrics.lesions import Lesions, is_lesion, lesions
from cardiac_jax.metrics.overlap import Counts
from cardiac_jax.metrics.surface import Annotated, SurfaceDistances

TOLERANCE_MM = 2.0  # of surface Dice: between one and two pixels of a cine
NAN = float("nan")


class StructurePair:
    """One structure in prediction and gold standard.

    Args:
      name: the structure.
      counts: true positives, false positives and false negatives, each `[1]`.
      voxels: annotated voxels in all.
      masks: prediction and gold standard `[*S]` bool.
      spacing_mm: voxel size along each axis of the masks.
      voxel_ml: volume of one voxel.
      given: the annotated voxels; None: all.
      complete: whether all of the structure is annotated; else it has no volume and its lesions no number.
    """

    def __init__(
        self,
        name: str,
        counts: Counts,
        voxels: int,
        masks: tuple[np.ndarray, np.ndarray],
        spacing_mm: Sequence[float],
        voxel_ml: float,
        given: Annotated | None = None,
        complete: bool = True,
    ) -> None:
        self.name, self.counts, self.voxels, self.masks = name, counts, voxels, masks
        self.spacing_mm, self.voxel_ml = spacing_mm, voxel_ml
        self.given, self.complete = given, complete

    @cached_property
    def distances(self) -> SurfaceDistances:
        """Distances between the boundaries, mm; none if the gold standard may have the structure but shows none."""
        if not self.complete and not self.in_truth:
            return SurfaceDistances(np.zeros(0), np.zeros(0))
        return surface.surface_distances(*self.masks, self.spacing_mm, self.given)

    @cached_property
    def lesions(self) -> Lesions | None:
        """Numbers of lesions; None if the structure's components are no lesions, or not all is annotated."""
        return lesions(*self.masks) if is_lesion(self.name) and self.complete else None

    @property
    def in_truth(self) -> bool:
        """Whether an annotated voxel has the structure."""
        return bool(self.counts.true_positive[0] or self.counts.false_negative[0])

    @property
    def status(self) -> str:
        """ "ok", "missed", "spurious", "absent" or "unknown", see `evaluate.evaluate_case`."""
        tp, fp, _ = self.voxel_counts
        if self.in_truth:
            return "ok" if tp + fp else "missed"
        if not self.complete:
            return "unknown"
        return "spurious" if tp + fp else "absent"

    @property
    def voxel_counts(self) -> tuple[int, int, int]:
        """True positives, false positives, false negatives."""
        tp, fp, fn = (int(count[0]) for count in self.counts)
        return tp, fp, fn


def dice(pair: StructurePair) -> float:
    """Dice; NaN if the structure is in neither map."""
    return float(overlap.dice_of(pair.counts)[0])


def jaccard(pair: StructurePair) -> float:
    """Jaccard index; NaN if the structure is in neither map."""
    return float(overlap.jaccard_of(pair.counts)[0])


def balanced_accuracy(pair: StructurePair) -> float:
    """Mean of sensitivity and specificity; NaN if the gold standard lacks the structure."""
    return float(overlap.balanced_accuracy_of(pair.counts, pair.voxels)[0])


def sensitivity(pair: StructurePair) -> float:
    """Found share of the gold standard; NaN if it lacks the structure."""
    return float(overlap.sensitivity_of(pair.counts)[0])


def precision(pair: StructurePair) -> float:
    """Right share of the prediction; NaN if it lacks the structure."""
    return float(overlap.precision_of(pair.counts)[0])


def specificity(pair: StructurePair) -> float:
    """Share of the voxels outside the structure that are predicted so."""
    return float(overlap.specificity_of(pair.counts, pair.voxels)[0])


def hd_mm(pair: StructurePair) -> float:
    """Hausdorff distance."""
    return surface.hausdorff_mm(pair.distances)


def hd95_mm(pair: StructurePair) -> float:
    """95th percentile Hausdorff distance, the larger of the two directions."""
    return surface.hausdorff_mm(pair.distances, 95.0)


def asd_mm(pair: StructurePair) -> float:
    """Average surface distance, both directions pooled."""
    return surface.average_mm(pair.distances)


def assd_mm(pair: StructurePair) -> float:
    """Average surface distance, mean of the two directed means."""
    return surface.mean_of_directions_mm(pair.distances)


def surface_dice(pair: StructurePair) -> float:
    """Surface Dice at `TOLERANCE_MM`."""
    return surface.surface_dice(pair.distances, TOLERANCE_MM)


def volume_pred_ml(pair: StructurePair) -> float:
    """Volume of the prediction; NaN, like all volumes, if part of the structure may not be annotated."""
    tp, fp, _ = pair.voxel_counts
    return (tp + fp) * pair.voxel_ml if pair.complete else NAN


def volume_truth_ml(pair: StructurePair) -> float:
    """Volume of the gold standard."""
    tp, _, fn = pair.voxel_counts
    return (tp + fn) * pair.voxel_ml if pair.complete else NAN


def volume_error_ml(pair: StructurePair) -> float:
    """Volume of the prediction minus that of the gold standard."""
    _, fp, fn = pair.voxel_counts
    return (fp - fn) * pair.voxel_ml if pair.complete else NAN


def volume_abs_error_ml(pair: StructurePair) -> float:
    """Absolute volume error, e.g. of scar."""
    return abs(volume_error_ml(pair))


def volumetric_similarity(pair: StructurePair) -> float:
    """1 - |difference of the volumes| / their sum; NaN if the structure is in neither map."""
    return float(overlap.volumetric_similarity_of(pair.counts)[0]) if pair.complete else NAN


def relative_volume_difference(pair: StructurePair) -> float:
    """Volume error / volume of the gold standard, signed; NaN if the gold standard lacks the structure."""
    tp, fp, fn = pair.voxel_counts
    return (fp - fn) / (tp + fn) if pair.complete and tp + fn else NAN


def lesion_sensitivity(pair: StructurePair) -> float:
    """Detected share of the gold standard's lesions; NaN of what is no lesion."""
    return pair.lesions.sensitivity if pair.lesions else NAN


def lesion_precision(pair: StructurePair) -> float:
    """Right share of the predicted lesions."""
    return pair.lesions.precision if pair.lesions else NAN


def lesion_f1(pair: StructurePair) -> float:
    """Harmonic mean of `lesion_sensitivity` and `lesion_precision`."""
    return pair.lesions.f1 if pair.lesions else NAN
