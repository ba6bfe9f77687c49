"""Measures of a restored image against its reference, in the whole image and about the heart.

Data range: largest minus smallest intensity of the reference in the part that both images cover.
"""

from typing import Any

import jax
import numpy as np
from scipy import ndimage

from cardiac_jax.core.types import IGNORE
from cardiac_jax.metrics import restoration
from cardiac_jax.metrics.rows import Row

IMAGE, HEART = "image", "heart"
"""Parts that are measured, the column `structure`: all voxels that both images cover; the heart's box."""
MARGIN_MM = 10.0
"""From the outermost labelled voxel to the side of the heart's box."""
WINDOW = 2 * restoration.RADIUS + 1


def image_rows(
    image: np.ndarray, truth: np.ndarray, label: np.ndarray | None, spacing_mm: tuple[float, float, float]
) -> list[Row]:
    """Rows of one case, one for each part: `structure`, `ssim`, `plane_ssim`, `psnr_db`, `data_range`, `voxels`.

    SSIM covers voxels whose window lies in the part that both images cover; a volume thinner than the window has none
    in 3D. All are NaN where nothing is covered.

    Args:
      image, truth: `[Z, H, W]` intensities of one scale; NaN where there is none.
      label: `[Z, H, W]` classes, 255 not annotated; None, or without a structure: there is no row of the heart.
      spacing_mm: voxel size along Z, H, W.
    """
    covered = np.isfinite(image) & np.isfinite(truth)
    parts = {IMAGE: covered}
    box = None if label is None else heart_box(label, spacing_mm)
    if box is not None:
        about = np.zeros(covered.shape, bool)
        about[box] = True
        parts[HEART] = covered & about
    held = truth[covered]
    data_range = float(held.max() - held.min()) if held.size else 0.0
    pair = [np.where(covered, a, 0).astype(np.float32)[None] for a in (image, truth)]
    rows: list[Row] = []
    for name, part in parts.items():
        figures: dict[str, Any] = {"ssim": np.nan, "plane_ssim": np.nan}
        if min(covered.shape[1:]) >= WINDOW:
            figures["plane_ssim"] = _plane_ssim(*pair, data_range, (part & _windows(covered, planes=True))[None])[0]
            if covered.shape[0] >= WINDOW:
                figures["ssim"] = _ssim(*pair, data_range, (part & _windows(covered))[None])[0]
        figures["psnr_db"] = _psnr(*pair, data_range, part[None])[0]
        numbers = {key: float(value) for key, value in figures.items()}
        rows.append({"structure": name, **numbers, "data_range": data_range, "voxels": int(part.sum())})
    return rows


def heart_box(
    label: np.ndarray, spacing_mm: tuple[float, float, float], margin_mm: float = MARGIN_MM
) -> tuple[slice, slice, slice] | None:
    """Box of all structures of a label map `[Z, H, W]` with a margin, clipped to the map; None without a structure."""
    (box,) = ndimage.find_objects(((label != 0) & (label != IGNORE)).astype(np.uint8)) or (None,)
    if box is None:
        return None
    margins = [int(np.ceil(margin_mm / mm)) for mm in spacing_mm]
    z, h, w = (slice(max(s.start - m, 0), s.stop + m) for s, m in zip(box, margins, strict=True))
    return z, h, w


_ssim, _plane_ssim, _psnr = (jax.jit(f) for f in (restoration.ssim, restoration.plane_ssim, restoration.psnr))


def _windows(covered: np.ndarray, planes: bool = False) -> np.ndarray:
    """Voxels whose window, in 3D or in the plane, is covered."""
    size = (1 if planes else WINDOW, WINDOW, WINDOW)
    return ndimage.minimum_filter(covered, size, mode="constant", cval=False)
