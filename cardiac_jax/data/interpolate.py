"""Values of a stack at the voxels of another grid, wherever both lie in the patient."""

import numpy as np
from scipy import ndimage

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.orientation import to_canonical
from cardiac_jax.data.stack import Stack

DECIMALS = 5  # of an index; what differs by less is rounding of affines


def onto(stack: Stack, like: Stack, order: int = 1) -> np.ndarray:
    """Returns a stack `[Z, H, W]` at the voxel centres of `like`, float32 `[Z', H', W']`.

    Voxels are copied where the grids coincide. Outside the stack's voxels (half a voxel beyond their centres) the
    result is NaN.

    Args:
      order: 0 nearest voxel, 1 linear.
    """
    if stack.frame == like.frame and stack.data.shape == like.data.shape and np.array_equal(stack.affine, like.affine):
        return stack.data.astype(np.float32)
    data, shape = stack.to_file().astype(np.float32), like.to_file().shape
    to = np.round(np.linalg.inv(stack.affine) @ like.affine, DECIMALS)
    matrix, offset = to[:3, :3], to[:3, 3]
    options = {"offset": offset, "output_shape": shape, "order": order, "mode": "nearest"}
    # A diagonal matrix given as a vector is resampled axis by axis.
    diagonal = np.diag(matrix) if np.array_equal(matrix, np.diag(np.diag(matrix))) else matrix
    values = ndimage.affine_transform(data, diagonal, **options)
    corners = [range(n) for n in shape]
    at = [sum(matrix[k, i] * grid for i, grid in enumerate(np.ix_(*corners))) + offset[k] for k in range(3)]
    inside = [(index >= -0.5) & (index <= size - 0.5) for index, size in zip(at, data.shape, strict=True)]
    values[~(inside[0] & inside[1] & inside[2])] = np.nan
    return np.ascontiguousarray(to_canonical(values, like.frame))


def nearest_labels(label: Stack, like: Stack) -> np.ndarray:
    """Returns a label map `[Z, H, W]` at the voxel centres of `like`, of the nearest voxel; 255 outside."""
    values = onto(label, like, order=0)
    return np.where(np.isnan(values), IGNORE, values).astype(np.uint8)
