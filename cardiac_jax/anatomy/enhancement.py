"""Post-processing of predicted enhancement (Abramson, Popescu et al. 2020, section "Evaluation"). Host side, NumPy."""

import numpy as np
from scipy import ndimage

from cardiac_jax.ops.pieces import kept

CROSS = ndimage.generate_binary_structure(2, 1)
"""Structuring element: an ellipse of 3 x 3."""


def cleaned(mask: np.ndarray, pixel_mm2: float, erode: int = 1, pieces: int = 5, least_mm2: float = 10.0) -> np.ndarray:
    """Return the cleaned enhancement of a slice, bool `[H, W]`: `mask` is eroded, then its largest components are kept.

    The paper keeps components "above" a minimum area, which it does not give: one of exactly `least_mm2` is dropped.

    Args:
      mask: bool `[H, W]`.
      pixel_mm2: area of a pixel.
      erode: number of erosions by an ellipse of 3 x 3.
      pieces: largest number of components kept (8-connected, largest first).
      least_mm2: area that a kept component exceeds.
    """
    if erode:
        mask = ndimage.binary_erosion(mask, CROSS, iterations=erode)
    above = np.floor(least_mm2 / pixel_mm2 + 1e-9) + 1  # pixels; an area equal to the limit is not above it
    return kept(mask, pieces, above, corners=True)
