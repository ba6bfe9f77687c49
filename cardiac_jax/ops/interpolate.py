"""Upsampling by interpolation to a grid that covers the same box: super-resolution without training."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

ORDERS = {"linear": 1, "bspline": 3}
"""Name of a method -> order of the spline that interpolates the voxels."""


def weights(count: int, factor: int, order: int) -> np.ndarray:
    """Interpolation weights `[count * factor, count]` of one axis; rows sum to 1.

    Finer index q lies at index (q - (factor - 1) / 2) / factor. The outermost voxels are repeated beyond the edge. The
    spline passes through the voxels' values (scipy.ndimage; its prefilter makes the rows of order 3 dense).

    Args:
      order: 1 linear, 3 cubic B-spline.
    """
    options = {"order": order, "mode": "nearest", "grid_mode": True}
    return np.stack([np.asarray(ndimage.zoom(column, factor, **options)) for column in np.eye(count)], axis=1)


def upsample(image: jax.Array, scale: tuple[int, ...], order: int) -> jax.Array:
    """`[*S, C]` -> `[*(S * scale), C]`, interpolated along each axis whose factor is not 1.

    Args:
      scale: voxels of the result per voxel of the image along each axis of S.
      order: as in `weights`.
    """
    for axis, factor in enumerate(scale):
        if factor != 1:
            table = jnp.asarray(weights(image.shape[axis], factor, order), image.dtype)
            # The full precision of float32 on every device.
            finer = jnp.tensordot(table, image, (1, axis), precision=jax.lax.Precision.HIGHEST)
            image = jnp.moveaxis(finer, 0, axis)
    return image
