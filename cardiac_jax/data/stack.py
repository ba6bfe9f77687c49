"""`Stack`: an array in the canonical short-axis frame, with its geometry.

Data are converted to the canonical frame once, after reading (`from_volume`), and back once, before writing
(`to_file`). Code in between does not depend on the file's axis order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cardiac_jax.data.io.volume import Volume
from cardiac_jax.data.orientation import Orientation, from_canonical, orientation, to_canonical


class Stack(NamedTuple):
    """An array in the canonical frame.

    Attributes:
      data: `[Z, H, W, ...]`, Z from apex to base, H towards the feet, W towards left-posterior.
      frame: axis order and flips between file and canonical frame.
      affine: `[4, 4]` float64, index in the file's axis order -> RAS millimetres.
    """

    data: np.ndarray
    frame: Orientation
    affine: np.ndarray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in mm along Z, H, W."""
        x, y, z = (float(v) for v in np.linalg.norm(self.affine[:3, :3], axis=0))
        return self.frame.of((x, y, z))

    @property
    def to_ras(self) -> np.ndarray:
        """`[4, 4]`: index (Z, H, W) in the canonical frame -> RAS millimetres."""
        return self.affine @ to_file_index(self.frame, self.data.shape)

    def with_data(self, data: np.ndarray) -> "Stack":
        """Returns a stack of other data on the same grid."""
        return self._replace(data=data)

    def part(self, start: Sequence[int], size: Sequence[int]) -> "Stack":
        """Returns the box of `size` (Z, H, W) from voxel `start`, in its place."""
        inside = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
        moved = np.eye(4)
        moved[:3, 3] = start
        return Stack(
            self.data[inside], self.frame, self.to_ras @ moved @ np.linalg.inv(to_file_index(self.frame, size))
        )

    def to_file(self) -> np.ndarray:
        """Returns the data `[X, Y, Z, ...]` in the file's axis order, contiguous."""
        return np.ascontiguousarray(from_canonical(self.data, self.frame))

    def volume(self) -> Volume:
        """Returns the stack as a `Volume` in the file's axis order, without a header."""
        return Volume(from_canonical(self.data, self.frame), self.affine, None)


def from_volume(data: np.ndarray, affine: np.ndarray, slice_order: str) -> Stack:
    """Returns the stack of an array `[X, Y, Z, ...]` in a file's axis order.

    Args:
      affine: `[4, 4]` voxel index -> RAS millimetres.
      slice_order: how the apex is found, see `orientation`.
    """
    frame = orientation(affine, slice_order, data.shape)
    return Stack(np.ascontiguousarray(to_canonical(data, frame)), frame, affine)


def to_file_index(frame: Orientation, shape: Sequence[int]) -> np.ndarray:
    """Returns `[4, 4]`: index in the canonical frame -> index in the file's axis order, for an array of `shape`.

    Args:
      shape: (Z, H, W, ...).
    """
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for k, (axis, flip) in enumerate(zip(frame.axes, frame.flips, strict=True)):
        matrix[axis, k], matrix[axis, 3] = (-1, shape[k] - 1) if flip else (1, 0)
    return matrix
