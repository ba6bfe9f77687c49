"""One structure in two label maps: what every metric of a case is computed from, each part computed once."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from cardiac_jax.metrics import overlap, surface
from cardiac_jax.metrics.overlap import Counts
from cardiac_jax.metrics.surface import SurfaceDistances


class StructurePair:
    """One structure in prediction and gold standard.

    Args:
      counts: true positives, false positives and false negatives, each `[1]`.
      voxels: annotated voxels in all.
      masks: prediction and gold standard `[*S]` bool, of fully annotated slices only.
      spacing_mm: voxel size along each axis of the masks.
      voxel_ml: volume of one voxel.
    """

    def __init__(
        self,
        counts: Counts,
        voxels: int,
        masks: tuple[np.ndarray, np.ndarray],
        spacing_mm: Sequence[float],
        voxel_ml: float,
    ) -> None:
        self.counts, self.voxels, self.masks = counts, voxels, masks
        self.spacing_mm, self.voxel_ml = spacing_mm, voxel_ml

    @cached_property
    def distances(self) -> SurfaceDistances:
        """Distances between the boundaries, mm."""
        return surface.surface_distances(*self.masks, self.spacing_mm)

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


def hd_mm(pair: StructurePair) -> float:
    """Hausdorff distance."""
    return surface.hausdorff_mm(pair.distances)


def hd95_mm(pair: StructurePair) -> float:
    """95th percentile Hausdorff distance, the larger of the two directions."""
    return surface.hausdorff_mm(pair.distances, 95.0)


def asd_mm(pair: StructurePair) -> float:
    """Average surface distance, both directions pooled."""
    return surface.average_mm(pair.distances)


def volume_pred_ml(pair: StructurePair) -> float:
    """Volume of the prediction."""
    tp, fp, _ = pair.voxel_counts
    return (tp + fp) * pair.voxel_ml


def volume_truth_ml(pair: StructurePair) -> float:
    """Volume of the gold standard."""
    tp, _, fn = pair.voxel_counts
    return (tp + fn) * pair.voxel_ml


def volume_error_ml(pair: StructurePair) -> float:
    """Volume of the prediction minus that of the gold standard."""
    _, fp, fn = pair.voxel_counts
    return (fp - fn) * pair.voxel_ml
