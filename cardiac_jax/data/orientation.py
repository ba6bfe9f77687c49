"""Which way a short-axis stack lies in the patient, from the affine alone.

Axes are only permuted and flipped, never rotated, so the way back is exact.
Directions are in RAS: right, anterior, superior positive.
"""

from itertools import permutations, product
from typing import NamedTuple

import numpy as np

APEX_TO_BASE = np.array([1.0, -1.0, 1.0]) / np.sqrt(3.0)  # base: right, posterior, superior
ROWS = np.array([0.0, 0.0, -1.0])  # rows run towards the feet
COLUMNS = np.array([-1.0, -1.0, 0.0]) / np.sqrt(2.0)  # columns run towards left-posterior
CLEARLY_LARGER = 1.2  # ratio of the largest to the second spacing from which the largest marks the slice axis
SLICE_ORDERS = ("affine", "base_first", "apex_first")


class Orientation(NamedTuple):
    """`np.flip(array.transpose(axes), where flips)` brings `[X, Y, Z]` to `[Z apex -> base, H, W]`."""

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def of(self, spacing_mm: tuple[float, float, float]) -> tuple[float, float, float]:
        """Voxel size along Z, H, W of a file's along X, Y, Z."""
        z, h, w = self.axes
        return spacing_mm[z], spacing_mm[h], spacing_mm[w]


def slice_axis(spacing_mm: tuple[float, float, float]) -> int:
    """The axis of largest spacing if clearly so, else the last."""
    order = np.argsort(spacing_mm)
    return int(order[2]) if spacing_mm[order[2]] > CLEARLY_LARGER * spacing_mm[order[1]] else 2


def orientation(affine: np.ndarray, slice_order: str) -> Orientation:
    """Axis order and flips of the canonical short-axis frame.

    Args:
      affine: `[4, 4]` voxel index -> RAS millimetres.
      slice_order: "affine": the sign of the slice axis follows `APEX_TO_BASE`, and in plane it is that of the 8
        permutations and flips which is best aligned with `ROWS` and `COLUMNS`; on a tie the one below.
        "base_first" or "apex_first": the affine lost its orientation and the file's own order is known. In plane
        nothing is flipped, the first file axis runs along columns, as pixels are stored in NIfTI and DICOM.
    """
    if slice_order not in SLICE_ORDERS:
        raise ValueError(f"slice_order {slice_order!r} is none of {SLICE_ORDERS}")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    z = slice_axis(tuple(spacing))
    towards_apex = bool(direction[:, z] @ APEX_TO_BASE < 0)
    flip_z = towards_apex if slice_order == "affine" else slice_order == "base_first"
    in_plane = sorted({0, 1, 2} - {z}, reverse=True)
    signs = list(product((False, True), repeat=2))
    choices = [(h, w, flip_h, flip_w) for h, w in permutations(in_plane) for flip_h, flip_w in signs]

    def alignment(choice: tuple[int, int, bool, bool]) -> float:
        h, w, flip_h, flip_w = choice
        rows = direction[:, h] @ ROWS * (-1 if flip_h else 1)
        return round(float(rows + direction[:, w] @ COLUMNS * (-1 if flip_w else 1)), 6)

    # max keeps the first of equals
    h, w, flip_h, flip_w = max(choices, key=alignment) if slice_order == "affine" else choices[0]
    return Orientation((z, h, w), (flip_z, flip_h, flip_w))


def to_canonical(array: np.ndarray, frame: Orientation) -> np.ndarray:
    """`[X, Y, Z, ...]` -> `[Z, H, W, ...]`, a view."""
    rest = tuple(range(3, array.ndim))
    return np.flip(array.transpose(*frame.axes, *rest), tuple(i for i in range(3) if frame.flips[i]))


def from_canonical(array: np.ndarray, frame: Orientation) -> np.ndarray:
    """The inverse: `[Z, H, W, ...]` -> `[X, Y, Z, ...]`, a view."""
    rest = tuple(range(3, array.ndim))
    flipped = np.flip(array, tuple(i for i in range(3) if frame.flips[i]))
    return flipped.transpose(*(int(i) for i in np.argsort(frame.axes)), *rest)
