"""Scar on late gadolinium enhancement: thresholds, volumes, transmurality by AHA segment.

Intensities are those acquired, where nulled myocardium is near 0: half of a maximum means nothing after z-scoring.
Masks and images are `[*S]` of one shape; what lies outside the myocardium is never scar. Flett et al. 2011 compare
the thresholds: n = 2 to 6 standard deviations above remote myocardium, and full width at half maximum.
Where nothing enhances every mask is empty and every share 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cardiac_jax.metrics.clinical import volume_ml
from cardiac_jax.metrics.wall import MYO, RAYS, Wall, bullseye_segments, ray_points, segment_map

SEPARATES_SD = 5  # standard deviations above remote from which myocardium enhances where nobody has marked it
OUTLIER_SD = 3.0  # beyond this above the median, myocardium is not remote
SD_PER_MAD = 1.4826  # of a normal distribution
DEPTHS = (np.arange(40) + 0.5) / 40  # across the wall, endocardium to epicardium


class Scar(NamedTuple):
    """Amounts of scar.

    Attributes:
      scar_ml: enhanced myocardium, core and grey zone.
      core_ml, grey_ml: its two parts.
      myocardium_ml: of the wall, scar included.
      scar_percent, core_percent: of the myocardium's volume; NaN without myocardium.
    """

    scar_ml: float
    core_ml: float
    grey_ml: float
    myocardium_ml: float
    scar_percent: float
    core_percent: float


class Transmurality(NamedTuple):
    """Scar by AHA segment, shares `[17]`, number 1 first; NaN where a segment has no wall or no number.

    Attributes:
      extent: depth of the scar over the thickness of the wall, mean over the rays that meet scar, 0 if none does;
        NaN in the apex, which rays do not cross.
      area: scarred share of the segment's myocardium.
    """

    extent: np.ndarray
    area: np.ndarray


def remote_myocardium(image: np.ndarray, myocardium: np.ndarray) -> np.ndarray:
    """The myocardium that does not enhance, found by its intensity alone: bool `[*S]`.

    Starting from all of it, what exceeds median + 3 SD (SD from the median absolute deviation) is left out until
    nothing does. It fails where more than half of the myocardium enhances: then the remote region must be marked.
    """
    remote = myocardium.astype(bool)
    while remote.any():
        values = image[remote]
        middle = np.median(values)
        limit = middle + OUTLIER_SD * SD_PER_MAD * np.median(np.abs(values - middle))
        kept = remote & (image <= limit)
        if kept.sum() == remote.sum():
            break
        remote = kept
    return remote


def beyond_sd(image: np.ndarray, myocardium: np.ndarray, n: int, remote: np.ndarray | None = None) -> np.ndarray:
    """Myocardium brighter than mean + n SD of remote myocardium: bool `[*S]`.

    Args:
      image: `[*S]` intensities.
      myocardium: `[*S]` mask, scar included.
      n: 2 to 6.
      remote: `[*S]` mask of normal myocardium; by default `remote_myocardium`.

    Raises:
      ValueError: n is out of range, or the remote region that was given has fewer than two voxels.
    """
    if not 2 <= n <= 6:
        raise ValueError(f"n = {n} standard deviations: 2 to 6 are in use")
    inside = myocardium.astype(bool)
    if not inside.any():
        return inside
    if remote is None:
        remote = remote_myocardium(image, inside)
    elif np.count_nonzero(remote) < 2:
        raise ValueError("the remote region has fewer than two voxels: no standard deviation")
    values = image[remote.astype(bool)].astype(np.float64)
    return inside & (image > values.mean() + n * values.std())


def core_scar(image: np.ndarray, myocardium: np.ndarray, enhancement: np.ndarray | None = None) -> np.ndarray:
    """Dense scar by full width at half maximum (Amado et al. 2004): bool `[*S]`.

    These are the enhanced voxels at least half as bright as the brightest of them; one maximum for the volume.
    What enhances and is not core is grey zone.

    Args:
      image: `[*S]` intensities.
      myocardium: `[*S]` mask, scar included.
      enhancement: `[*S]` mask, drawn or predicted; by default what is more than 5 SD brighter than remote myocardium,
        since half of the maximum of a wall without scar would call noise scar.

    Raises:
      ValueError: the brightest enhanced voxel is not above 0.
    """
    inside = myocardium.astype(bool)
    enhanced = beyond_sd(image, inside, SEPARATES_SD) if enhancement is None else enhancement.astype(bool) & inside
    if not enhanced.any():
        return enhanced
    peak = float(image[enhanced].max())
    if peak <= 0:
        raise ValueError(f"the brightest enhanced voxel is {peak:.4g}: half maximum needs intensities as acquired")
    return enhanced & (image >= peak / 2)


def clean_enhancement(
    enhancement: np.ndarray, spacing_mm: Sequence[float], components: int = 5, min_area_mm2: float = 10.0
) -> np.ndarray:
    """ACSNet's clean-up of a predicted enhancement, slice by slice: `[Z, H, W]` -> bool `[Z, H, W]`.

    One erosion by the 3 x 3 ellipse (a cross), then at most `components` pieces, the largest, each larger than
    `min_area_mm2`. The paper gives no smallest area.
    """
    cleaned = np.zeros(enhancement.shape, bool)
    for z, plane in enumerate(enhancement.astype(bool)):
        pieces = np.zeros(plane.shape, np.int32)
        ndimage.label(ndimage.binary_erosion(plane), np.ones((3, 3)), output=pieces)
        area_mm2 = np.bincount(pieces.ravel())[1:] * spacing_mm[1] * spacing_mm[2]
        largest = np.argsort(-area_mm2, kind="stable")[:components]
        cleaned[z] = np.isin(pieces, largest[area_mm2[largest] > min_area_mm2] + 1)
    return cleaned


def quantify(core: np.ndarray, enhancement: np.ndarray, myocardium: np.ndarray, spacing_mm: Sequence[float]) -> Scar:
    """Volumes and shares of scar from three masks `[*S]`; core counts as enhancement."""
    inside = myocardium.astype(bool)
    core = core.astype(bool) & inside
    scar = (enhancement.astype(bool) & inside) | core
    scar_ml, core_ml, wall_ml = (volume_ml(mask, spacing_mm) for mask in (scar, core, inside))
    per_cent = 100 / wall_ml if wall_ml else float("nan")
    return Scar(scar_ml, core_ml, scar_ml - core_ml, wall_ml, scar_ml * per_cent, core_ml * per_cent)


def transmurality(scar: np.ndarray, label: np.ndarray, spacing_mm: Sequence[float], wall: Wall) -> Transmurality:
    """How far scar reaches through the wall, by AHA segment.

    Args:
      scar: `[Z, H, W]` mask in the canonical frame; what lies outside the myocardium of `label` does not count.
      label: `[Z, H, W]` canonical classes.
      spacing_mm: voxel size along Z, H, W.
      wall: `wall_thickness` of the same label.
    """
    muscular = label == MYO
    scar = scar.astype(bool) & muscular
    depth = np.full((len(label), RAYS), np.nan)
    for z in np.flatnonzero(~np.isnan(wall.endo_mm).all(axis=1)):
        radius = wall.endo_mm[z][:, None] + (wall.epi_mm[z] - wall.endo_mm[z])[:, None] * DEPTHS
        points = ray_points(wall.frame.centre[z], radius, spacing_mm[1:])
        points = np.where(np.isnan(points), -1.0, points)
        scarred, muscle = (
            ndimage.map_coordinates(mask[z].astype(np.uint8), points, order=0, mode="constant").sum(axis=1, dtype=int)
            for mask in (scar, muscular)
        )
        depth[z] = np.divide(scarred, muscle, out=depth[z], where=muscle > 0)
    numbers = segment_map(label, spacing_mm, wall.frame)
    pairs = [
        (_mean_depth(depth[wall.ray_segment == s.number]), _share(scar[numbers == s.number]))
        for s in bullseye_segments()
    ]
    extent, area = np.array(pairs).T
    return Transmurality(extent, area)


def _mean_depth(depth: np.ndarray) -> float:
    depth = depth[~np.isnan(depth)]
    if not depth.size:
        return float("nan")
    return float(depth[depth > 0].mean()) if depth.any() else 0.0


def _share(scar: np.ndarray) -> float:
    return float(scar.mean()) if scar.size else float("nan")
