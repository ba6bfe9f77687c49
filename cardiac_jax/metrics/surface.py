"""Distances between the boundaries of two masks, in mm.

The boundary of a mask is the mask minus its erosion by the face-connected neighbourhood (6 neighbours in 3D, 4 in
2D). Voxels outside the image are background, so a mask that touches the edge of the image has a boundary there.
Distances are measured between voxel centres.

If one mask is empty, every distance is infinite, so a miss stays visible. If both are empty, the result is NaN.

Comparison with other libraries, tested in tests/metrics/test_peers_relations.py:
  MONAI: HD and symmetric ASD are the same, in float32, including infinite and NaN values. HD95 differs: MONAI rounds
    the rank of the percentile to float32, which changes HD95 by about 1e-5 between two distances far apart, and
    returns NaN if one mask is empty.
  SimpleITK: `HausdorffDistance` uses all voxels of its input images. It equals HD if the inputs are the two boundaries,
    but differs if they are the two masks (e.g. for a block inside a ring it measures from the block's centre). Its
    average is the mean of the two directed means; ASD here pools the distances of both directions, so the longer
    boundary has more weight.
  scikit-image: the Hausdorff distance ignores the spacing. Of the two boundaries it equals HD in voxels.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

MOST_STEPS = 120  # voxels searched around a boundary voxel before a k-d tree is used
FARTHEST = 7  # largest search distance in voxels along one axis


class SurfaceDistances(NamedTuple):
    """Distances in mm from each boundary voxel of one mask to the nearest boundary voxel of the other.

    Attributes:
      pred_to_truth: `[N]`, one per boundary voxel of the prediction.
      truth_to_pred: `[M]`, one per boundary voxel of the gold standard.
    """

    pred_to_truth: np.ndarray
    truth_to_pred: np.ndarray


def boundary(mask: np.ndarray) -> np.ndarray:
    """Boundary of a mask, the mask minus its face-connected erosion: bool `[*S]` -> bool `[*S]`."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(start, start + mask.shape[axis])
            inner &= padded[tuple(window)]
    return mask & ~inner


def surface_distances(pred: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Boundary distances in mm, in both directions.

    Args:
      pred, truth: `[*S]` masks of one shape.
      spacing_mm: voxel size along each axis of the masks.

    Raises:
      ValueError: the shapes, or the numbers of axes and spacings, differ.
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
    """Hausdorff distance in mm, the larger directed maximum; with `percentile=95` HD95, the larger percentile."""
    if not distances.pred_to_truth.size and not distances.truth_to_pred.size:
        return float("nan")
    if not distances.pred_to_truth.size or not distances.truth_to_pred.size:
        return float("inf")
    return float(max(np.percentile(directed, percentile) for directed in distances))


def average_mm(distances: SurfaceDistances) -> float:
    """ASD in mm: sum of the distances of both directions / number of boundary voxels (Yue et al. 2019, sec. 3.1)."""
    together = np.concatenate(distances)
    return float(together.mean()) if together.size else float("nan")


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box around the mask, a slice per axis; an empty box for an empty mask."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        rest = mask[tuple(box)]
        hit = np.flatnonzero(rest.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0))
    return tuple(box)


class _Shells(NamedTuple):
    """Steps from a voxel to its neighbours, grouped by distance (shells), nearest first, without gaps.

    Attributes:
      distance_mm: `[shells]`, ascending from 0.
      steps: per shell `[n, axes]`, in voxels.
      reach: `[axes]`, the longest step along each axis, in voxels.
    """

    distance_mm: tuple[float, ...]
    steps: tuple[np.ndarray, ...]
    reach: np.ndarray


@lru_cache(maxsize=64)
def _shells(scale: tuple[float, ...]) -> _Shells:
    """Shells that start within the first `MOST_STEPS` steps and are nearer than any step beyond `FARTHEST`."""
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
    """Distance in mm from each voxel of `start` to the nearest voxel of `end`; infinite if `end` is empty.

    Both masks have a frame of background as wide as the shells' reach. In a good segmentation the nearest voxel lies
    within a few shells for nearly every voxel; a k-d tree finds the others.
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
    # The tree serves one query, so a fast build matters more than a fast search.
    tree = KDTree(np.argwhere(end) * scale, leafsize=32, balanced_tree=False)
    distances[left] = tree.query(far * scale)[0]
    return distances
