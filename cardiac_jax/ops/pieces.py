"""Connected components of a mask by size, on the host; `largest.py` is the same on the device."""

import numpy as np
from scipy import ndimage


def kept(mask: np.ndarray, number: int | None = None, least: float = 0.0, corners: bool = False) -> np.ndarray:
    """The largest components of a mask, bool of its shape.

    Args:
      mask: any number of dimensions.
      number: at most this many components stay, the largest first; None: all.
      least: components of fewer elements than this are dropped.
      corners: whether elements that share only an edge or a corner are connected, not only those that share a face.
    """
    numbers = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, mask.ndim if corners else 1), output=numbers)
    sizes = np.bincount(numbers.ravel())[1:]
    order = np.argsort(-sizes, kind="stable")[:number]
    return np.isin(numbers, 1 + order[sizes[order] >= least])
