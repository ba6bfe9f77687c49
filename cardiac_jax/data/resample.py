"""Separable in-plane resampling by sparse matrices with one row of weights per output pixel."""

import numpy as np
from scipy import sparse


def matrix(positions: np.ndarray, size: int, scale: float, *, cubic: bool) -> sparse.csr_array:
    """Return interpolation weights `[len(positions), size]`; rows sum to 1, or to 0 outside the image.

    A position on a pixel centre at scale 1 copies the pixel exactly. Weights beyond an edge go to the edge pixel.

    Args:
      positions: sampling positions in input pixels (0 is the centre of the first pixel).
      size: number of input pixels.
      scale: output pixel size / input pixel size; above 1 the kernel is widened by this factor against aliasing.
      cubic: use Keys' kernel with a = -1/2 (IEEE TASSP 29, 1981, eq. 15) instead of the triangle.
    """
    width = max(scale, 1.0)
    reach = int(np.ceil((2 if cubic else 1) * width))
    taps = np.floor(positions)[:, None] + np.arange(-reach, reach + 2)
    weights = (_keys if cubic else _triangle)((taps - positions[:, None]) / width)
    weights /= weights.sum(axis=1, keepdims=True)
    inside = (positions > -0.5 - 1e-6) & (positions < size - 0.5 + 1e-6)
    rows = np.broadcast_to(np.arange(len(positions))[:, None], taps.shape)
    keep = (weights != 0) & inside[:, None]
    columns = np.clip(taps, 0, size - 1).astype(int)
    entries = (weights[keep].astype(np.float32), (rows[keep], columns[keep]))
    return sparse.coo_array(entries, shape=(len(positions), size)).tocsr()


def planes(array: np.ndarray, rows: sparse.csr_array, columns: sparse.csr_array) -> np.ndarray:
    """Apply `rows` `[H', H]` and `columns` `[W', W]` to float32 `[Z, H, W, C]`; returns `[Z, H', W', C]`."""
    z, h, w, c = array.shape
    tall = (rows @ array.transpose(1, 0, 2, 3).reshape(h, -1)).reshape(-1, z, w, c)
    wide = (columns @ tall.transpose(2, 1, 0, 3).reshape(w, -1)).reshape(-1, z, tall.shape[0], c)
    return np.ascontiguousarray(wide.transpose(1, 2, 0, 3))


def along_first(array: np.ndarray, weights: sparse.csr_array) -> np.ndarray:
    """Applies `weights` `[Z', Z]` to float32 `[Z, ...]` -> `[Z', ...]`."""
    out = weights @ array.reshape(len(array), -1)
    return np.ascontiguousarray(out).reshape(-1, *array.shape[1:])


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, 1.0 - np.abs(x))


def _keys(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
