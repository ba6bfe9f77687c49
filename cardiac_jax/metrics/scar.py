"""Scar on late gadolinium enhancement (LGE): thresholds, volumes, transmurality by AHA segment.

Intensities are those acquired, where nulled myocardium is near 0; half of a maximum has no meaning after z-scoring.
Masks and images are `[*S]` of one shape. Voxels outside the myocardium are never scar. Flett et al. 2011 compare the
thresholds: n = 2 to 6 standard deviations above remote myocardium, and full width at half maximum.
If nothing enhances, every mask is empty and every share is 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cardiac_jax.metrics.clinical import volume_ml
from cardiac_jax.metrics.wall import MYO, RAYS, Wall, bullseye_segments, ray_points, segment_map

SEPARATES_SD = 5  # SDs above remote myocardium that count as enhancement if no enhancement mask is given
OUTLIER_SD = 3.0  # myocardium brighter than median + this many SDs is not remote
SD_PER_MAD = 1.4826  # SD / median absolute deviation of a normal distribution
DEPTHS = (np.arange(40) + 0.5) / 40  # relative positions across the wall, endocardium to epicardium


class Scar(NamedTuple):
    """Volumes and shares of scar.

    Attributes:
      scar_ml: enhanced myocardium, the sum of core and grey zone.
      core_ml, grey_ml: core scar and grey zone.
      myocardium_ml: myocardium, scar included.
      scar_percent, core_percent: per cent of the myocardium's volume; NaN without myocardium.
    """

    scar_ml: float
    core_ml: float
    grey_ml: float
    myocardium_ml: float
    scar_percent: float
    core_percent: float


class Transmurality(NamedTuple):
    """Scar by AHA segment, fractions `[17]`, segment 1 first; NaN if a segment has no wall or no number.

    Attributes:
      extent: depth of the scar / thickness of the wall, mean over the rays that meet scar; 0 if no ray does. NaN in
        the apex, which no ray crosses.
      area: scarred fraction of the segment's myocardium.
    """

    extent: np.ndarray
    area: np.ndarray


def remote_myocardium(image: np.ndarray, myocardium: np.ndarray) -> np.ndarray:
    """Myocardium without enhancement, found from intensity alone: bool `[*S]`.

    Starts from the full mask and removes voxels above median + 3 SD (SD from the median absolute deviation) until
    none remain. It fails if more than half of the myocardium enhances; then the remote region must be given.
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
      n: number of standard deviations, 2 to 6.
      remote: `[*S]` mask of normal myocardium; by default `remote_myocardium`.

    Raises:
      ValueError: n is out of range, or the given remote region has fewer than two voxels.
    """
    if not 2 <= n <= 6:
        raise ValueError(f"n = {n} standard deviations is outside the range 2 to 6")
    inside = myocardium.astype(bool)
    if not inside.any():
        return inside
    if remote is None:
        remote = remote_myocardium(image, inside)
    elif np.count_nonzero(remote) < 2:
        raise ValueError("the remote region has fewer than two voxels, so it has no standard deviation")
    values = image[remote.astype(bool)].astype(np.float64)
    return inside & (image > values.mean() + n * values.std())


def core_scar(image: np.ndarray, myocardium: np.ndarray, enhancement: np.ndarray | None = None) -> np.ndarray:
    """Core scar by full width at half maximum (Amado et al. 2004): bool `[*S]`.

    Core scar is the enhanced voxels at least half as bright as the brightest enhanced voxel of the volume. The other
    enhanced voxels are the grey zone.

    Args:
      image: `[*S]` intensities.
      myocardium: `[*S]` mask, scar included.
      enhancement: `[*S]` mask, annotated or predicted. By default it is the myocardium more than 5 SD brighter than
        remote myocardium; without this threshold, noise in a wall without scar would count as scar.

    Raises:
      ValueError: the brightest enhanced voxel is not above 0.
    """
    inside = myocardium.astype(bool)
    enhanced = beyond_sd(image, inside, SEPARATES_SD) if enhancement is None else enhancement.astype(bool) & inside
    if not enhanced.any():
        return enhanced
    peak = float(image[enhanced].max())
    if peak <= 0:
        raise ValueError(f"the brightest enhanced voxel is {peak:.4g}, but half maximum needs intensities as acquired")
    return enhanced & (image >= peak / 2)


def quantify(core: np.ndarray, enhancement: np.ndarray, myocardium: np.ndarray, spacing_mm: Sequence[float]) -> Scar:
    """Volumes (ml) and shares (%) of scar from three masks `[*S]`; core counts as enhancement."""
    inside = myocardium.astype(bool)
    core = core.astype(bool) & inside
    scar = (enhancement.astype(bool) & inside) | core
    scar_ml, core_ml, wall_ml = (volume_ml(mask, spacing_mm) for mask in (scar, core, inside))
    per_cent = 100 / wall_ml if wall_ml else float("nan")
    return Scar(scar_ml, core_ml, scar_ml - core_ml, wall_ml, scar_ml * per_cent, core_ml * per_cent)


def transmurality(scar: np.ndarray, label: np.ndarray, spacing_mm: Sequence[float], wall: Wall) -> Transmurality:
    """Transmural extent and area of scar by AHA segment, `[17]` each.

    Args:
      scar: `[Z, H, W]` mask in the canonical frame; voxels outside the myocardium of `label` are ignored.
      label: `[Z, H, W]` canonical classes.
      spacing_mm: voxel size along Z, H, W.
      wall: `wall_thickness` of the same label map.
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
