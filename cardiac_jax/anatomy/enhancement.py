"""Post-processing of predicted enhancement (Abramson, Popescu et al. 2020, section "Evaluation"). Host side, NumPy."""

import numpy as np
from scipy import ndimage
from skimage.measure import label

CROSS = ndimage.generate_binary_structure(2, 1)
"""Structuring element: an ellipse of 3 x 3."""


def cleaned(mask: np.ndarray, pixel_mm2: float, erode: int = 1, pieces: int = 5, least_mm2: float = 10.0) -> np.ndarray:
    """Return the cleaned enhancement of a slice, bool `[H, W]`: `mask` is eroded, then its largest components are kept.

    Args:
      mask: bool `[H, W]`.
      pixel_mm2: area of a pixel.
      erode: number of erosions by an ellipse of 3 x 3.
      pieces: largest number of components kept (8-connected, largest first).
      least_mm2: smallest area of a kept component.
    """
    if erode:
        mask = ndimage.binary_erosion(mask, CROSS, iterations=erode)
    components = np.asarray(label(mask, connectivity=2))
    sizes = np.bincount(components.ravel())[1:] * pixel_mm2
    kept = [k + 1 for k in np.argsort(-sizes, kind="stable")[:pieces] if sizes[k] >= least_mm2]
    return np.isin(components, kept)
