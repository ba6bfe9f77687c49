"""Distances between the boundaries of two masks, in mm.

The boundary of a mask is the mask less its erosion by the face-connected neighbourhood (6 neighbours in 3D,
4 in 2D); outside the image is background, so a mask that touches the image's edge has boundary there.
Distances run between voxel centres.

One mask empty: every distance is infinite, so a miss stays visible. Both empty: NaN, nothing to measure.

Against other libraries, each relation held by tests/test_metrics_peers_relations.py:
  MONAI: HD and the symmetric ASD are these, in float32, infinite and NaN as here. Its HD95 rounds the rank of the
    percentile to float32, which between two distances far apart moves it by some 1e-5, and is NaN where one mask
    is empty.
  SimpleITK's `HausdorffDistance` counts all voxels of the images it is given: of two masks it is another number (of
    a block inside a ring, from its centre), of the two boundaries it is HD. Its average is the mean of the two
    directed means; ASD here pools the distances of both directions, so that the longer boundary weighs more.
  scikit-image knows no spacing: given the two boundaries, its Hausdorff distance is HD in voxels.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

MOST_STEPS = 120  # voxels looked at around a boundary voxel before a tree takes over
FARTHEST = 7  # voxels along one axis


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
    box = bounding_box(pred | truth)
    scale = tuple(float(s) for s in spacing_mm)
    frame = [(int(steps), int(steps)) for steps in _shells(scale).reach]
    pred_edge, truth_edge = (np.pad(boundary(mask[box]), frame) for mask in (pred, truth))
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


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds the mask; an empty one for an empty mask."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        rest = mask[tuple(box)]
        hit = np.flatnonzero(rest.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0))
    return tuple(box)


class _Shells(NamedTuple):
    """Steps around a voxel, nearest first, all those of one distance together and none left out between them.

    Attributes:
      distance_mm: `[shells]`, ascending from 0.
      steps: for each shell `[n, axes]` voxels.
      reach: `[axes]`, the longest step along each axis.
    """

    distance_mm: tuple[float, ...]
    steps: tuple[np.ndarray, ...]
    reach: np.ndarray


@lru_cache(maxsize=64)
def _shells(scale: tuple[float, ...]) -> _Shells:
    """The shells of the first `MOST_STEPS` steps that no step beyond `FARTHEST` could precede."""
    axes = len(scale)
    cube = np.indices((2 * FARTHEST + 1,) * axes).reshape(axes, -1).T - FARTHEST
    length = np.sqrt(((cube * scale) ** 2).sum(axis=1))
    nearest = np.flatnonzero(length < (FARTHEST + 1) * min(scale))
    nearest = nearest[np.argsort(length[nearest], kind="stable")]
    distance, first = np.unique(length[nearest], return_index=True)
    kept = int(np.searchsorted(first, MOST_STEPS))
    steps = tuple(np.split(cube[nearest], first[1:])[:kept])
    return _Shells(tuple(distance[:kept].tolist()), steps, np.abs(np.concatenate(steps)).max(axis=0))


def _directed(start: np.ndarray, end: np.ndarray, scale: tuple[float, ...]) -> np.ndarray:
    """Distance of each voxel of `start` to the nearest of `end`; infinite where `end` is empty.

    Both have a frame of background as wide as the shells reach. In a good segmentation nearly every voxel finds
    its nearest within a few shells; what is farther is left to a tree.
    """
    at, ends = np.flatnonzero(start), end.ravel()
    distances = np.full(len(at), np.inf)
    if not end.any():
        return distances
    strides = np.cumprod((1, *end.shape[:0:-1]))[::-1]
    shells = _shells(scale)
    left = np.arange(len(at))
    for distance, steps in zip(shells.distance_mm, shells.steps, strict=True):
        if not left.size:
            return distances
        hit = ends[at[left, None] + steps @ strides].any(axis=1)
        distances[left[hit]] = distance
        left = left[~hit]
    far = np.column_stack(np.unravel_index(at[left], end.shape))
    tree = KDTree(np.argwhere(end) * scale, leafsize=32, balanced_tree=False)  # built for one query: build it fast
    distances[left] = tree.query(far * scale)[0]
    return distances
