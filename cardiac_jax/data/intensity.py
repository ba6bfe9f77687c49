"""Contrast of a stack evened out (CLAHE) or made like another's (histogram matching). Host side, NumPy.

Both belong before the z-score, on the stack as it was read: what padding adds later has no contrast to even out.
"""

import numpy as np
from skimage.exposure import equalize_adapthist, match_histograms

CLIP = 0.01  # largest share of a tile's pixels in one bin; the rest is spread over all bins
TILES = 8  # per side of a slice


def clahe(image: np.ndarray, *, slice_axis: int, clip: float = CLIP, tiles: int = TILES) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation, slice by slice (Zuiderveld, Graphics Gems IV, 1994).

    Args:
      image: `[X, Y, Z]` with `slice_axis` 2, or `[Z, H, W]` with `slice_axis` 0; finite.

    Returns:
      float32 of the same shape, each slice in [0, 1]. Rows and columns at the border of a slice that hold one value
      throughout are padding: they take no part and become 0. So does a slice that is constant.

    Raises:
      ValueError: not three dimensions, or `clip` or `tiles` not positive.
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
    """`image` with the distribution of intensities of `reference`; order among voxels is kept.

    Args:
      image: a whole stack, `[X, Y, Z]` or `[Z, H, W]`; slices keep their brightness relative to one another.
      reference: a stack of any shape of the same rank.

    Returns:
      float32 of the shape of `image`.
    """
    if image.ndim != reference.ndim:
        raise ValueError(f"image of shape {image.shape}, reference of shape {reference.shape}: one rank is expected")
    return match_histograms(image.astype(np.float32), reference.astype(np.float32)).astype(np.float32)


def _unpadded(plane: np.ndarray) -> tuple[slice, slice]:
    """The box of `[H, W]` between the first and the last row, and column, of more than one value; else all of it."""
    rows, columns = (np.flatnonzero(plane.min(axis) < plane.max(axis)) for axis in (1, 0))
    if not (rows.size and columns.size):
        return slice(None), slice(None)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
