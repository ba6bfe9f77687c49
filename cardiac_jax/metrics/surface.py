"""Distances between the boundaries of two masks, in mm.

The boundary of a mask is the mask minus its erosion by the face-connected neighbourhood (6 neighbours in 3D, 4 in
2D). Voxels outside the image are background, so a mask that touches the edge of the image has a boundary there.
Distances are measured between voxel centres.

If one mask is empty, every distance is infinite, so a miss stays visible. If both are empty, the result is NaN.

Partly annotated gold standards (`annotated`): a face towards an unknown voxel is unknown and not boundary, in both
masks; a voxel is boundary if a face neighbour is known background.
  Within a slice boundaries are trusted only where the slice is annotated within `CLEAR_MM`. The nearest boundary may be
  hidden in the unknown part, so a distance is exact up to about that length and an upper bound above it. To leave out
  single distances that are longer than the way to the unknown would keep the short ones, so places are left out.
  Scribbles have no such place: they have overlap and no distances.
  Across slices each annotated slice stands for the unannotated ones next to it, in both masks, as in interpolated
  volumes: an unknown voxel between two annotated slices takes the label of the nearer one. A step between them must lie
  somewhere in the gap, and lies half way. Without it only contours would be left, whose ASD is far above that of
  complete stacks (`benchmarks/partial_annotation.py`). Beyond the outermost annotated slices nothing is known.
If both masks have known voxels but one has no trusted boundary, there is nothing to measure: NaN.

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
from scipy import ndimage
from scipy.spatial import KDTree

MOST_STEPS = 120  # voxels searched around a boundary voxel before a k-d tree is used
FARTHEST = 7  # largest search distance in voxels along one axis
CLEAR_MM = 5.0  # distance from unannotated voxels of a slice at which its boundaries are measured


class SurfaceDistances(NamedTuple):
    """Distances in mm from each boundary voxel of one mask to the nearest boundary voxel of the other.

    Attributes:
      pred_to_truth: `[N]`, one per boundary voxel of the prediction.
      truth_to_pred: `[M]`, one per boundary voxel of the gold standard.
    """

    pred_to_truth: np.ndarray
    truth_to_pred: np.ndarray


class Annotated(NamedTuple):
    """What is known of masks `[*S]` whose gold standard is annotated in part.

    Attributes:
      known: bool `[*S]`, the annotated voxels.
      clear: bool `[*S]`, the voxels where boundaries are trusted; in a stack also those that `source` fills.
      source: int `[*S]`, slice of a stack whose label each voxel takes; None of a single slice.
      axis: axis along which slices are stacked.
    """

    known: np.ndarray
    clear: np.ndarray
    source: np.ndarray | None = None
    axis: int = 0


def annotated(known: np.ndarray, spacing_mm: Sequence[float], slice_axis: int = 0) -> Annotated:
    """What is known, from the annotated voxels, bool `[*S]`, of a stack along `slice_axis` (3D) or one slice (2D)."""
    is_stack = known.ndim == 3
    axis = slice_axis % known.ndim if is_stack else 0
    stack = np.moveaxis(known, axis, 0) if is_stack else known[None]
    in_plane = [float(s) for along, s in enumerate(spacing_mm) if not is_stack or along != axis]
    clear = stack.copy()
    for z, inside in enumerate(stack):
        if inside.any() and not inside.all():
            clear[z] = np.asarray(ndimage.distance_transform_edt(inside, sampling=in_plane)) > CLEAR_MM
    if not is_stack:
        return Annotated(known, clear[0])
    z, last = np.arange(len(stack)).reshape(-1, 1, 1), len(stack)
    below = np.maximum.accumulate(np.where(clear, z, -1), axis=0)
    above = np.minimum.accumulate(np.where(clear, z, last)[::-1], axis=0)[::-1]
    between = (below >= 0) & (above < last)
    source = np.where(between, np.where(z - below <= above - z, below, above), z)
    return Annotated(known, np.moveaxis(between, 0, axis), np.moveaxis(source, 0, axis), axis)


def boundary(mask: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Boundary of a mask, the mask minus its face-connected erosion: bool `[*S]` -> bool `[*S]`.

    Args:
      known: bool `[*S]`, the voxels whose label is known; None: all. Faces towards others are not boundary.
    """
    rest = ~mask if known is None else known & ~mask
    padded = np.pad(rest, 1, constant_values=True)
    exposed = np.zeros(mask.shape, bool)
    for axis in range(mask.ndim):
        for start in (0, 2):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(start, start + mask.shape[axis])
            exposed |= padded[tuple(window)]
    return mask & exposed if known is None else mask & known & exposed


def surface_distances(
    pred: np.ndarray, truth: np.ndarray, spacing_mm: Sequence[float], given: Annotated | None = None
) -> SurfaceDistances:
    """Boundary distances in mm, in both directions.

    Args:
      pred, truth: `[*S]` masks of one shape.
      spacing_mm: voxel size along each axis of the masks.
      given: the annotated voxels; None: all. See the module for the others.

    Raises:
      ValueError: the shapes, or the numbers of axes and spacings, differ.
    """
    if pred.shape != truth.shape or len(spacing_mm) != pred.ndim:
        raise ValueError(f"prediction {pred.shape}, truth {truth.shape} and spacing {tuple(spacing_mm)} do not match")
    if given is not None and given.known.shape != pred.shape:
        raise ValueError(f"prediction {pred.shape} and annotated voxels {given.known.shape} do not match")
    pred, truth = pred.astype(bool, copy=False), truth.astype(bool, copy=False)
    scale = tuple(float(s) for s in spacing_mm)
    if given is not None:
        return _partial_distances(pred & given.known, truth & given.known, scale, given)
    box = bounding_box(pred | truth)
    edges = boundary(pred[box]), boundary(truth[box])
    return _distances(edges, edges, scale)


def hausdorff_mm(distances: SurfaceDistances, percentile: float = 100.0) -> float:
    """Hausdorff distance in mm, the larger directed maximum; with `percentile=95` HD95, the larger percentile."""
    measured = [directed for directed in distances if directed.size]
    if not measured:
        return float("nan")
    if any(np.isinf(directed).any() for directed in measured):
        return float("inf")
    return float(max(np.percentile(directed, percentile) for directed in measured))


def average_mm(distances: SurfaceDistances) -> float:
    """ASD in mm: sum of the distances of both directions / number of boundary voxels (Yue et al. 2019, sec. 3.1)."""
    together = np.concatenate(distances)
    return float(together.mean()) if together.size else float("nan")


def mean_of_directions_mm(distances: SurfaceDistances) -> float:
    """ASSD in mm: the mean of the two directed means, so that both boundaries have one weight whatever their length."""
    means = [float(directed.mean()) for directed in distances if directed.size]
    return sum(means) / len(means) if means else float("nan")


def surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Share of the boundary voxels of both masks within `tolerance_mm` of the other boundary (Nikolov et al. 2018).

    0 if one mask is empty, NaN if both are. Each boundary voxel has one weight, as in MONAI (without subvoxels) and
    Metrics Reloaded; Nikolov's own code weights surface elements between voxels by their area.
    """
    together = np.concatenate(distances)
    return float((together <= tolerance_mm).mean()) if together.size else float("nan")


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box around the mask, a slice per axis; an empty box for an empty mask."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        rest = mask[tuple(box)]
        hit = np.flatnonzero(rest.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0))
    return tuple(box)


def _distances(
    starts: tuple[np.ndarray, np.ndarray], ends: tuple[np.ndarray, np.ndarray], scale: tuple[float, ...]
) -> SurfaceDistances:
    """Distances from the boundary voxels `starts` of either mask to the nearest of the other's `ends`, all `[*S]`."""
    frame = [(int(steps), int(steps)) for steps in _shells(scale).reach]
    framed = [np.pad(edge, frame) for edge in starts]
    others = framed if starts is ends else [np.pad(edge, frame) for edge in ends]
    return SurfaceDistances(_directed(framed[0], others[1], scale), _directed(framed[1], others[0], scale))


def _partial_distances(
    pred: np.ndarray, truth: np.ndarray, scale: tuple[float, ...], given: Annotated
) -> SurfaceDistances:
    """Distances between trusted boundaries; `pred` and `truth` hold known voxels only."""
    masks = [pred, truth]
    if not pred.any() or not truth.any():
        pred_mm, truth_mm = (np.full(int(mask.any()), np.inf) for mask in masks)
        return SurfaceDistances(pred_mm, truth_mm)
    known = given.known
    if given.source is not None:
        masks = [np.take_along_axis(mask, given.source, given.axis) & given.clear for mask in masks]
        known = given.clear
    inside = bounding_box(masks[0] | masks[1])
    box = tuple(slice(max(0, along.start - 1), along.stop + 1) for along in inside)  # neighbours decide the boundary
    pred, truth, known, clear = (array[box] for array in (*masks, known, given.clear))
    starts = boundary(pred, clear), boundary(truth, clear)
    ends = starts if given.source is not None else (boundary(pred, known), boundary(truth, known))
    if not (ends[0].any() and ends[1].any()):
        return SurfaceDistances(np.zeros(0), np.zeros(0))
    return _distances(starts, ends, scale)


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
