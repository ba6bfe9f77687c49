"""Label maps of hearts in one common frame: the spatial normalisation before a PCA of label maps.

Origin: the centroid of the left ventricle (cavity and wall). First axis: the line through the centroids of the left
ventricle's slices, from apex to base. Second axis: from the left to the right ventricle, perpendicular to the first.
Third: their vector product. Millimetres stay millimetres: size is information about the disease and is not normalised.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.labels import roles, wall_labels
from cardiac_jax.errors import InputError

SPACING_MM = 4.0
SIZE = (32, 48, 48)  # 128 mm along the long axis, 192 mm across
LEAST_MM = 1.0  # a right ventricle nearer to the long axis than this gives no direction
TOWARDS_RV = (0.0, 0.0, -1.0)  # in the canonical frame W points to left-posterior, away from the right ventricle


class HeartFrame(NamedTuple):
    """Where a heart lies in its stack.

    Attributes:
      origin_mm: `[3]` from the centre of the first voxel, along Z, H, W.
      axes: `[3, 3]`, rows are unit vectors along Z, H, W: to the base, to the right ventricle, and their product.
    """

    origin_mm: np.ndarray
    axes: np.ndarray


def heart_frame(label: np.ndarray, spacing_mm: Sequence[float], classes: Sequence[str]) -> HeartFrame:
    """Returns the frame of the heart in a label map `[Z, H, W]` in the canonical frame (`data/orientation.py`).

    Without a right ventricle the second axis points against W.

    Raises:
      InputError: there is no left ventricle, or voxels are not annotated.
    """
    if (label == IGNORE).any():
        raise InputError("label map", f"has {(label == IGNORE).sum()} voxels that are not annotated")
    known = roles(classes)
    left = np.isin(label, [*wall_labels(classes), *(known[name] for name in ("lv",) if name in known)])
    if not left.any():
        raise InputError("label map", "has no left ventricle, by which hearts are brought to a common frame")
    spacing = np.asarray(spacing_mm, np.float64)
    points = np.argwhere(left) * spacing
    origin = points.mean(0)
    along = points[:, 0] - origin[0]
    long = np.array([1.0, 0.0, 0.0])
    if along.any():  # regression on Z; a single slice keeps its normal
        long[1:] = along @ (points[:, 1:] - origin[1:]) / (along @ along)
    long /= np.linalg.norm(long)
    right = label == known["rv"] if "rv" in known else np.zeros(label.shape, bool)
    across = np.argwhere(right).mean(0) * spacing - origin if right.any() else np.zeros(3)
    across -= (across @ long) * long
    if np.linalg.norm(across) < LEAST_MM:
        across = np.array(TOWARDS_RV) - (np.array(TOWARDS_RV) @ long) * long
    across /= np.linalg.norm(across)
    return HeartFrame(origin, np.stack([long, across, np.cross(long, across)]))


def in_common_frame(
    label: np.ndarray,
    spacing_mm: Sequence[float],
    classes: Sequence[str],
    *,
    out_mm: float = SPACING_MM,
    size: Sequence[int] = SIZE,
) -> np.ndarray:
    """Returns the masks of a label map in the heart's frame: float32 `[K - 1, *size]` in [0, 1], background left out.

    Along axes with smaller voxels than the result's, masks are smoothed first, by a Gaussian of the SD of a box of
    that size. They are interpolated linearly, and 0 outside the image.

    Args:
      label: `[Z, H, W]` in the canonical frame.
      out_mm: voxel size of the result, along all three axes.

    Raises:
      InputError: as `heart_frame`.
    """
    frame, spacing = heart_frame(label, spacing_mm, classes), np.asarray(spacing_mm, np.float64)
    matrix = frame.axes.T * out_mm / spacing[:, None]
    offset = frame.origin_mm / spacing - matrix @ ((np.asarray(size) - 1) / 2)
    at = np.tensordot(matrix, np.indices(size), 1) + offset[:, None, None, None]
    out = np.empty((len(classes) - 1, *size), np.float32)
    for k in range(1, len(classes)):
        mask = (label == k).astype(np.float32)
        for axis, mm in enumerate(spacing_mm):
            if mm < out_mm:
                mask = ndimage.gaussian_filter1d(mask, out_mm / mm / math.sqrt(12), axis, mode="constant")
        ndimage.map_coordinates(mask, at, out[k - 1], order=1, mode="grid-constant")
    return out
