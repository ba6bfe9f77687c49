"""Clean-up of predicted enhancement (Abramson, Popescu et al. 2020, section "Evaluation"). Host side, NumPy."""

import numpy as np
from scipy import ndimage
from skimage.measure import label

CROSS = ndimage.generate_binary_structure(2, 1)
"""The ellipse of 3 x 3."""


def cleaned(mask: np.ndarray, pixel_mm2: float, erode: int = 1, pieces: int = 5, least_mm2: float = 10.0) -> np.ndarray:
    """Of the enhancement in a slice, bool `[H, W]`: eroded, then its largest pieces.

    Args:
      pixel_mm2: area of a pixel.
      erode: erosions by an ellipse of 3 x 3.
      pieces: most of them that stay, connected by sides or corners, largest first.
      least_mm2: least area of a piece.
    """
    if erode:
        mask = ndimage.binary_erosion(mask, CROSS, iterations=erode)
    numbers = np.asarray(label(mask, connectivity=2))
    sizes = np.bincount(numbers.ravel())[1:] * pixel_mm2
    kept = [k + 1 for k in np.argsort(-sizes, kind="stable")[:pieces] if sizes[k] >= least_mm2]
    return np.isin(numbers, kept)
