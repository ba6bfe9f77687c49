"""Distances between the boundaries of two masks, in mm.

The boundary of a mask is the mask less its erosion by the face-connected neighbourhood (6 neighbours in 3D,
4 in 2D); outside the image is background, so a mask that touches the image's edge has boundary there.
Distances run between voxel centres.

One mask empty: every distance is infinite, so a miss stays visible. Both empty: NaN, nothing to measure.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree


class SurfaceDistances(NamedTuple):
    """Distance of every boundary voxel of one mask to the nearest of the other, mm.

    Attributes:
      pred_to_truth: `[N]`, one for each boundary voxel of the prediction.
      truth_to_pred: `[M]`, one for each boundary voxel of the truth.
    """

    pred_to_truth: np.ndarray
    truth_to_pred: np.ndarray


def boundary(mask: np.ndarray) -> np.ndarray:
    """Mask less its face-connected erosion: bool `[*S]` -> bool `[*S]`."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(start, start + mask.shape[axis])
            inner &= padded[tuple(window)]
    return mask & ~inner


def surface_distances(pred: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Both directed sets of boundary distances.

    Args:
      pred, truth: `[*S]` masks of one shape.
      spacing_mm: voxel size along each axis of the masks.

    Raises:
      ValueError: the shapes, or the number of axes and spacings, differ.
    """
    if pred.shape != truth.shape or len(spacing_mm) != pred.ndim:
        raise ValueError(f"prediction {pred.shape}, truth {truth.shape} and spacing {tuple(spacing_mm)} do not match")
    pred, truth = pred.astype(bool, copy=False), truth.astype(bool, copy=False)
    box = _bounding_box(pred | truth)
    pred_edge, truth_edge = boundary(pred[box]), boundary(truth[box])
    scale = np.asarray(spacing_mm, np.float64)
    return SurfaceDistances(_directed(pred_edge, truth_edge, scale), _directed(truth_edge, pred_edge, scale))


def hausdorff_mm(distances: SurfaceDistances, percentile: float = 100.0) -> float:
    """HD: the larger of both directed maxima; with `percentile=95` HD95: the larger of both percentiles."""
    if not distances.pred_to_truth.size and not distances.truth_to_pred.size:
        return float("nan")
    if not distances.pred_to_truth.size or not distances.truth_to_pred.size:
        return float("inf")
    return float(max(np.percentile(directed, percentile) for directed in distances))


def average_mm(distances: SurfaceDistances) -> float:
    """ASD: the sum of both directed sets over the number of boundary voxels (Yue et al. 2019, sec. 3.1)."""
    together = np.concatenate(distances)
    return float(together.mean()) if together.size else float("nan")


def _directed(start: np.ndarray, end: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Distance of each voxel of `start` to the nearest of `end`; infinite where `end` is empty."""
    points = np.argwhere(start)
    if not end.any():
        return np.full(len(points), np.inf)
    distances = np.zeros(len(points))
    apart = ~end[start]  # coincident voxels, most of them in a good segmentation, need no search
    if apart.any():
        distances[apart] = KDTree(np.argwhere(end) * scale).query(points[apart] * scale)[0]
    return distances


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds the mask; an empty one for an empty mask."""
    box = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(hit[0], hit[-1] + 1) if hit.size else slice(0, 0))
    return tuple(box)
