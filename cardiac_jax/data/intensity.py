"""Intensity operations on stacks `[Z, H, W]`, by name, and chains of them. Host side, NumPy.

They are applied to the image as read, before resampling, cropping and padding.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
from skimage.exposure import equalize_adapthist, match_histograms

from cardiac_jax.errors import InputError

CLIP = 0.01  # largest share of a tile's pixels in one bin; the excess is spread over all bins
TILES = 8  # number of tiles along each side of a slice
PERCENTILES = (1.0, 99.0)


def chain(names: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that applies the operations `names` of `OPERATIONS` in order.

    Raises:
      InputError: a name is unknown.
    """
    for name in names:
        if name not in OPERATIONS:
            raise InputError("data.intensity", f"{name!r} is not one of {', '.join(OPERATIONS)}")
    return lambda stack: reduce(lambda image, name: OPERATIONS[name](image), names, stack)


def is_affine(names: Sequence[str]) -> bool:
    """Whether the operations map a whole image by one gain and one offset."""
    return all(name in AFFINE for name in names)


def gain_offset(names: Sequence[str], image: np.ndarray) -> tuple[float, float]:
    """Returns (gain, offset) with which the operations `names` map `image`: gain * image + offset.

    Both are NaN if an operation is not affine, or differs between slices.
    """
    gain, offset = (1.0, 0.0) if is_affine(names) else (np.nan, np.nan)
    for name in names if is_affine(names) else ():
        factor, added = AFFINE[name](image)
        gain, offset, image = gain * factor, offset * factor + added, OPERATIONS[name](image)
    return gain, offset


def z_score(image: np.ndarray) -> np.ndarray:
    """Returns the volume with zero mean and unit variance, computed in float64; zeros if it is constant."""
    mean, sd = _mean_sd(image)
    return (image - np.float32(mean)) / np.float32(sd)


def _mean_sd(image: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation in float64; the latter is 1 if the image is constant."""
    return float(image.mean(dtype=np.float64)), float(image.std(dtype=np.float64)) or 1.0


def _z_score_affine(image: np.ndarray) -> tuple[float, float]:
    mean, sd = _mean_sd(image)
    return 1 / sd, -mean / sd


def percentile(image: np.ndarray, low: float = PERCENTILES[0], high: float = PERCENTILES[1]) -> np.ndarray:
    """Returns `[Z, H, W]` with each slice mapped linearly: its two percentiles become 0 and 1, without clipping."""
    bottom, top = np.percentile(image, (low, high), axis=(1, 2), keepdims=True).astype(np.float32)
    return (image - bottom) / np.where(top > bottom, top - bottom, np.float32(1))


def clahe(image: np.ndarray, *, slice_axis: int, clip: float = CLIP, tiles: int = TILES) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation, slice by slice (Zuiderveld, Graphics Gems IV, 1994).

    Args:
      image: `[X, Y, Z]` with `slice_axis` 2, or `[Z, H, W]` with `slice_axis` 0; finite.

    Returns:
      float32 of the same shape, each slice in [0, 1]. Constant rows and columns at the border of a slice are padding:
      they are not used and become 0. A constant slice becomes 0.

    Raises:
      ValueError: `image` does not have three dimensions, or `clip` or `tiles` is not positive.
    """
    if image.ndim != 3:
        raise ValueError(f"image of shape {image.shape}, three dimensions are expected")
    if clip <= 0 or tiles < 1:
        raise ValueError(f"clip {clip} and tiles {tiles} must be positive")
    out = np.zeros(image.shape, np.float32)
    for plane, result in zip(np.moveaxis(image, slice_axis, 0), np.moveaxis(out, slice_axis, 0), strict=True):
        box = _unpadded(plane)
        inside = plane[box].astype(np.float64)
        low, high = inside.min(), inside.max()
        if high > low:
            kernel = tuple(max(1, -(-n // tiles)) for n in inside.shape)
            result[box] = equalize_adapthist((inside - low) / (high - low), kernel, clip_limit=clip)
    return out


def match(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Matches the histogram of `image` to that of `reference`; the order of the voxels' intensities is kept.

    Args:
      image: a stack, `[X, Y, Z]` or `[Z, H, W]`, matched as one histogram: slices keep their relative brightness.
      reference: a stack of any shape with the same number of dimensions.

    Returns:
      float32 of the shape of `image`.

    Raises:
      ValueError: the numbers of dimensions differ.
    """
    if image.ndim != reference.ndim:
        raise ValueError(f"image of shape {image.shape}, reference of shape {reference.shape}: one rank is expected")
    return match_histograms(image.astype(np.float32), reference.astype(np.float32)).astype(np.float32)


def _unpadded(plane: np.ndarray) -> tuple[slice, slice]:
    """The box of `[H, W]` between the first and last row, and column, that is not constant; all of it if none is."""
    rows, columns = (np.flatnonzero(plane.min(axis) < plane.max(axis)) for axis in (1, 0))
    if not (rows.size and columns.size):
        return slice(None), slice(None)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


OPERATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "z_score": z_score,
    "clahe": lambda image: clahe(image, slice_axis=0),
    "percentile": percentile,
}
AFFINE: dict[str, Callable[[np.ndarray], tuple[float, float]]] = {"z_score": _z_score_affine}
"""Operation -> the gain and offset with which it maps an image."""
