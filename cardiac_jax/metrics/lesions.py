"""Detection of single lesions: enhancement and oedema come in pieces, which overlap counts by their size alone.

A lesion is a connected component in 3D (26 neighbours; 8 in 2D) of the mask of one class, of any size. The rule is that
of the WMH challenge (Kuijf et al. 2019): a lesion of the gold standard is detected if the prediction has at least one
of its voxels; a predicted lesion is right if the gold standard has at least one of its voxels. One predicted lesion may
detect several. F1 is the harmonic mean of the two shares.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cardiac_jax.data.labels import IN_WALL

LESIONS = (*IN_WALL, "enhancement")
"""Classes, in lower case, whose components are lesions; also unions of these, written "a + b"."""


class Lesions(NamedTuple):
    """Numbers of lesions.

    Attributes:
      truth, pred: lesions of the gold standard and of the prediction.
      detected: lesions of the gold standard that the prediction touches.
      right: lesions of the prediction that the gold standard touches.
    """

    truth: int
    pred: int
    detected: int
    right: int

    @property
    def sensitivity(self) -> float:
        """Detected share of the gold standard's lesions; NaN if it has none."""
        return self.detected / self.truth if self.truth else float("nan")

    @property
    def precision(self) -> float:
        """Right share of the predicted lesions; NaN if there are none."""
        return self.right / self.pred if self.pred else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision; 0 if either map has lesions and none match; NaN without any."""
        if not self.truth and not self.pred:
            return float("nan")
        if not self.detected:
            return 0.0
        return 2 * self.sensitivity * self.precision / (self.sensitivity + self.precision)


def is_lesion(name: str) -> bool:
    """Whether the components of a class or union of classes are lesions."""
    return all(part in LESIONS for part in name.casefold().split(" + "))


def lesions(pred: np.ndarray, truth: np.ndarray) -> Lesions:
    """Counts the lesions of two masks `[*S]` of one shape."""
    (in_truth, detected), (in_pred, right) = _touched(truth, pred), _touched(pred, truth)
    return Lesions(in_truth, in_pred, detected, right)


def _touched(mask: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """Number of components of `mask`, and of those with a voxel in `other`."""
    numbered = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, mask.ndim), output=numbered)
    return int(numbered.max(initial=0)), int(np.count_nonzero(np.unique(numbered[other.astype(bool)])))
