"""Canonical orientation `[Z apex -> base, H, W]` of a short-axis volume, computed from the affine alone.

Axes are only permuted and flipped, never rotated, so the inverse is exact.
Directions are in RAS: right, anterior and superior are positive.
"""

from collections.abc import Sequence
from itertools import permutations, product
from typing import NamedTuple

import numpy as np

APEX_TO_BASE = np.array([1.0, -1.0, 1.0]) / np.sqrt(3.0)  # base: right, posterior, superior
ROWS = np.array([0.0, 0.0, -1.0])  # rows run towards the feet
COLUMNS = np.array([-1.0, -1.0, 0.0]) / np.sqrt(2.0)  # columns run towards left-posterior
CLEARLY_LARGER = 1.2  # the largest spacing marks the slice axis if its ratio to the second largest is above this
ALIGNED_DEG = 1.0  # axes closer than this to those of the scanner: no short-axis stack, which is oblique
APEX_UNKNOWN = (
    "have axes along those of the scanner or of a probe, as no short-axis stack has: their files cannot tell apex from "
    "base, so thirds of the heart and AHA segments are not given"
)
SLICE_ORDERS = ("affine", "base_first", "apex_first", "unknown")


class Orientation(NamedTuple):
    """Axis order and flips from `[X, Y, Z]` to `[Z apex -> base, H, W]`.

    `np.flip(array.transpose(axes), <axes with flips>)` is the canonical array. `apex_known` is False if the affine,
    from which apex and base were to be read, cannot tell them: its axes are those of the scanner, as in ACDC, in files
    without directions, and in axial scans; or if the slice order is "unknown", as in ultrasound from the apex. Z then
    has an arbitrary end first: no apex, base or AHA segment.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    apex_known: bool = True

    def of(self, spacing_mm: tuple[float, float, float]) -> tuple[float, float, float]:
        """Return the voxel size along Z, H, W from that along X, Y, Z."""
        z, h, w = self.axes
        return spacing_mm[z], spacing_mm[h], spacing_mm[w]


def slice_axis(spacing_mm: tuple[float, float, float], shape: Sequence[int] | None = None) -> int:
    """Return the axis along which slices are stacked.

    It is the axis of length 1, whatever its spacing, where `shape` has exactly one; else the axis of the largest
    spacing if that is `CLEARLY_LARGER` times the second largest; else the last axis.
    """
    if shape is not None and list(shape[:3]).count(1) == 1:
        return list(shape[:3]).index(1)
    order = np.argsort(spacing_mm)
    return int(order[2]) if spacing_mm[order[2]] > CLEARLY_LARGER * spacing_mm[order[1]] else 2


def orientation(affine: np.ndarray, slice_order: str, shape: Sequence[int] | None = None) -> Orientation:
    """Return the axis order and flips of the canonical short-axis frame.

    Args:
      affine: `[4, 4]` voxel index -> RAS mm.
      slice_order: "affine": the slice axis points along `APEX_TO_BASE`. Of the 8 in-plane permutations and flips, the
        one best aligned with `ROWS` and `COLUMNS` is chosen; on a tie, the one that "base_first" would choose.
        "base_first" or "apex_first": the affine lacks the orientation, but the slice order of the file is known.
        In-plane axes are not flipped, and the first file axis runs along columns, as pixels are stored in NIfTI and
        DICOM. "unknown": no axis of the file runs along the short axis; the last is Z, none is flipped.
      shape: `(X, Y, Z, ...)`, by which the slice axis of a single slice is known.

    Raises:
      ValueError: `slice_order` is unknown.
    """
    if slice_order not in SLICE_ORDERS:
        raise ValueError(f"slice_order {slice_order!r} is none of {SLICE_ORDERS}")
    if slice_order == "unknown":
        return Orientation((2, 1, 0), (False, False, False), False)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    z = slice_axis(tuple(spacing), shape)
    towards_apex = bool(direction[:, z] @ APEX_TO_BASE < 0)
    flip_z = towards_apex if slice_order == "affine" else slice_order == "base_first"
    in_plane = sorted({0, 1, 2} - {z}, reverse=True)
    signs = list(product((False, True), repeat=2))
    choices = [(h, w, flip_h, flip_w) for h, w in permutations(in_plane) for flip_h, flip_w in signs]

    def alignment(choice: tuple[int, int, bool, bool]) -> float:
        h, w, flip_h, flip_w = choice
        rows = direction[:, h] @ ROWS * (-1 if flip_h else 1)
        return round(float(rows + direction[:, w] @ COLUMNS * (-1 if flip_w else 1)), 6)

    # on a tie, max keeps the first choice
    h, w, flip_h, flip_w = max(choices, key=alignment) if slice_order == "affine" else choices[0]
    aligned = bool((np.abs(direction).max(axis=0) > np.cos(np.radians(ALIGNED_DEG))).all())
    return Orientation((z, h, w), (flip_z, flip_h, flip_w), slice_order != "affine" or not aligned)


def to_canonical(array: np.ndarray, frame: Orientation) -> np.ndarray:
    """Return a view `[Z, H, W, ...]` of `array` `[X, Y, Z, ...]` in the canonical frame."""
    rest = tuple(range(3, array.ndim))
    return np.flip(array.transpose(*frame.axes, *rest), tuple(i for i in range(3) if frame.flips[i]))


def from_canonical(array: np.ndarray, frame: Orientation) -> np.ndarray:
    """Return a view `[X, Y, Z, ...]` of `array` `[Z, H, W, ...]`; the inverse of `to_canonical`."""
    rest = tuple(range(3, array.ndim))
    flipped = np.flip(array, tuple(i for i in range(3) if frame.flips[i]))
    return flipped.transpose(*(int(i) for i in np.argsort(frame.axes)), *rest)
