"""Thickness of the left ventricular wall, and the 17 segments of the American Heart Association (Cerqueira 2002).

Label maps are `[Z, H, W]` in the canonical frame (`data/orientation.py`): Z from apex to base, rows towards the feet,
columns towards left-posterior. The frame, not the labels, defines the anterior and inferior sides. Angles are about
the centre of the slice's blood pool, counterclockwise as displayed, with 0 in the direction of increasing columns.

Levels: slices from the first to the last with blood pool are split by their centres into apical, mid and basal
thirds. Slices of myocardium directly below the first are the apex, segment 17.
Angular origin: mid septum, the direction halfway between the two insertions of the right ventricle. Sectors of 60
(apical: 90) degrees are counted from it. A slice without right ventricle uses the direction of the nearest slice that
has one. Sectors have no number if no slice has a right ventricle, or if it lies towards increasing columns: then labels
and frame contradict each other, as in a mirrored image.
Slices with unannotated voxels (255) are not measured, but their blood pool counts for the levels.

Thickness follows the centre-line method (Sheehan et al. 1986). 360 rays find the edges of the wall with sub-pixel
precision. The thickness at each point of the mid line is the shortest distance to the endocardial contour plus the
shortest distance to the epicardial contour, so a wall crossed obliquely by a ray is not measured too thick. A ray
without wall, e.g. in the open side of a C-shaped basal slice, has no thickness and is excluded from all means.
Thickness is measured in-plane: towards the apex the slice cuts the wall obliquely and it looks thicker than it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.labels import CLASSES
from cardiac_jax.ops.pieces import kept

RAYS = 360
RAY_RAD = np.arange(RAYS) * (2 * np.pi / RAYS)
STEPS_PER_PIXEL = 4
SMOOTHING_RAYS = 5.0  # SD of the Gaussian along a contour, smooths pixel steps
CONTACT_MM = 3.0  # a right ventricle within this distance of the wall touches it
BRIDGED_RAYS = 20  # longest gap in the contact that still counts as septum
FEWEST_CONTACT_RAYS = 30  # a shorter contact shows only part of the septum, so its middle is unknown
BASAL, MID, APICAL, APEX = 1, 7, 13, 17  # first segment of each level
RV, MYO, LV = (CLASSES.index(name) for name in ("RV", "Myo", "LV"))


class Segment(NamedTuple):
    """One segment of the bull's eye: in ring `level`, counterclockwise from `start_deg`; 90 is anterior (up)."""

    number: int
    name: str
    level: str
    start_deg: float
    width_deg: float


class Frame(NamedTuple):
    """Level, centre and septum of the left ventricle in each slice.

    Attributes:
      level: `[Z]`, BASAL, MID, APICAL or APEX; 0 if there is nothing to measure.
      centre: `[Z, 2]` row and column of the blood pool's centre; NaN in the apex and where level is 0.
      insertions_rad: `[Z, 2]` directions of the anterior and the inferior insertion of the right ventricle, the first
        in [0, 2 pi), the second larger; NaN if the right ventricle does not touch the wall.
      septum_rad: `[Z]` direction of mid septum, taken from the nearest slice if a slice has no insertions; NaN if
        segments cannot be numbered.
    """

    level: np.ndarray
    centre: np.ndarray
    insertions_rad: np.ndarray
    septum_rad: np.ndarray


class Wall(NamedTuple):
    """Wall thickness in mm; NaN if there is nothing to measure.

    Attributes:
      segment_mm: `[17]` mean over the rays of each AHA segment, segment 1 first. If sectors cannot be numbered, e.g.
        without right ventricle, all but the apex are NaN. The apex is measured along the long axis: number of wall
        slices below the cavity x slice spacing, with no finer resolution.
      slice_mm: `[Z]` mean over the rays of each slice, also if segments cannot be numbered.
      ray_mm: `[Z, RAYS]` thickness on each ray.
      ray_segment: `[Z, RAYS]` segment number of each ray, 0 for none.
      endo_mm, epi_mm: `[Z, RAYS]` distances of both edges of the wall from the slice's centre, along the ray.
      frame: levels, centres and septum of the slices.
    """

    segment_mm: np.ndarray
    slice_mm: np.ndarray
    ray_mm: np.ndarray
    ray_segment: np.ndarray
    endo_mm: np.ndarray
    epi_mm: np.ndarray
    frame: Frame


def bullseye_segments() -> tuple[Segment, ...]:
    """The 17 segments in numerical order, with their position in a bull's-eye plot."""
    walls = ("anterior", "anteroseptal", "inferoseptal", "inferior", "inferolateral", "anterolateral")
    rings = [("basal", wall, 60.0 * i + 60, 60.0) for i, wall in enumerate(walls)]
    rings += [("mid", wall, 60.0 * i + 60, 60.0) for i, wall in enumerate(walls)]
    walls = ("anterior", "septal", "inferior", "lateral")
    rings += [("apical", wall, 90.0 * i + 45, 90.0) for i, wall in enumerate(walls)]
    segments = [
        Segment(i + 1, f"{level} {wall}", level, start % 360, width)
        for i, (level, wall, start, width) in enumerate(rings)
    ]
    return (*segments, Segment(APEX, "apex", "apex", 0.0, 360.0))


def segment_numbers(level: int, angle_rad: np.ndarray, septum_rad: float) -> np.ndarray:
    """AHA segment numbers of directions `[*S]` in a slice of one level; 0 if mid septum is unknown (NaN)."""
    if level == APEX:
        return np.full(np.shape(angle_rad), APEX)
    if not level or np.isnan(septum_rad):
        return np.zeros(np.shape(angle_rad), int)
    turned = np.rad2deg(angle_rad - septum_rad) + 180  # mid septum lies at 180 in the bull's eye
    if level == APICAL:
        return APICAL + (np.floor((turned - 45) / 90) % 4).astype(int)
    return level + (np.floor((turned - 60) / 60) % 6).astype(int)


def wall_thickness(label: np.ndarray, spacing_mm: Sequence[float]) -> Wall:
    """Wall thickness in mm by ray, slice and AHA segment.

    Args:
      label: `[Z, H, W]` canonical classes in the canonical frame.
      spacing_mm: voxel size along Z, H, W.

    Raises:
      ValueError: the label map or the spacing does not have three axes.
    """
    if label.ndim != 3 or len(spacing_mm) != 3:
        raise ValueError(f"label {label.shape} and spacing {tuple(spacing_mm)} do not describe a volume")
    level = _levels(label)
    centre, insertions = np.full((len(label), 2), np.nan), np.full((len(label), 2), np.nan)
    endo, epi, thickness = (np.full((len(label), RAYS), np.nan) for _ in range(3))
    for z in np.flatnonzero((level > 0) & (level < APEX)):
        centre[z] = _centre(label[z] == LV)
        endo[z], epi[z], contact = _cast(label[z], centre[z], spacing_mm[1:])
        insertions[z] = _insertions(contact)
        thickness[z] = _centre_line_mm(endo[z], epi[z])
    frame = Frame(level, centre, insertions, _septum(insertions))
    numbers = np.stack([segment_numbers(level[z], RAY_RAD, frame.septum_rad[z]) for z in range(len(label))])
    segment = np.array([_mean(thickness[numbers == s.number]) for s in bullseye_segments()])
    cap = np.count_nonzero(level == APEX)
    segment[APEX - 1] = cap * spacing_mm[0] if cap else np.nan
    slices = np.array([_mean(rays) for rays in thickness])
    return Wall(segment, slices, thickness, numbers, endo, epi, frame)


def segment_map(label: np.ndarray, spacing_mm: Sequence[float], frame: Frame) -> np.ndarray:
    """AHA segment number of each myocardial voxel: `[Z, H, W]` -> uint8 `[Z, H, W]`, 0 elsewhere or if unknown."""
    numbers = np.zeros(label.shape, np.uint8)
    for z in np.flatnonzero(frame.level):
        at = np.argwhere(label[z] == MYO)
        down, right = ((at - frame.centre[z]) * spacing_mm[1:]).T
        numbers[z][tuple(at.T)] = segment_numbers(frame.level[z], np.arctan2(-down, right), frame.septum_rad[z])
    return numbers


def ray_points(centre: np.ndarray, radius_mm: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Rows and columns `[2, RAYS, N]` of points on the rays at `radius_mm` (`[N]` or `[RAYS, N]`) from `centre`."""
    rows = centre[0] - np.sin(RAY_RAD)[:, None] * radius_mm / spacing_mm[0]
    return np.stack([rows, centre[1] + np.cos(RAY_RAD)[:, None] * radius_mm / spacing_mm[1]])


def _levels(label: np.ndarray) -> np.ndarray:
    """`[Z]` level of each slice, 0 if nothing can be measured."""
    pool, wall, unknown = ((label == value).any(axis=(1, 2)) for value in (LV, MYO, IGNORE))
    if not pool.any():
        return np.zeros(len(label), int)
    first, last = np.flatnonzero(pool)[[0, -1]]
    z = np.arange(len(label))
    height = (z - first + 0.5) / (last - first + 1)
    level = np.select([height < 1 / 3, height < 2 / 3], [APICAL, MID], BASAL)
    level[~pool] = 0
    level[:first] = np.where(np.logical_and.accumulate(wall[:first][::-1])[::-1], APEX, 0)
    return np.where(unknown, 0, level)


def _centre(pool: np.ndarray) -> np.ndarray:
    """`[2]` centre of the largest connected component of a slice's blood pool."""
    return np.argwhere(kept(pool, 1)).mean(axis=0)


def _cast(label: np.ndarray, centre: np.ndarray, spacing_mm: Sequence[float]) -> tuple[np.ndarray, ...]:
    """Both edges of the wall along each ray in mm, and whether the right ventricle touches the wall: 3 x `[RAYS]`.

    The wall is the longest run of myocardium on the ray, which excludes papillary muscles and stray voxels. Its edges
    are where the bilinearly interpolated myocardium crosses 0.5.
    """
    endo, epi = np.full(RAYS, np.nan), np.full(RAYS, np.nan)
    wall = label == MYO
    if not wall.any():
        return endo, epi, np.zeros(RAYS, bool)
    step = min(spacing_mm) / STEPS_PER_PIXEL
    furthest = np.linalg.norm((np.argwhere(wall) - centre) * spacing_mm, axis=1).max() + 2 * max(spacing_mm)
    radius = np.arange(0.0, furthest + CONTACT_MM, step)
    points = ray_points(centre, radius, spacing_mm)
    share = ndimage.map_coordinates(wall.astype(np.float64), points, order=1, mode="grid-constant")
    change = np.diff(np.pad(share >= 0.5, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (ray, start), stop = np.nonzero(change == 1), np.nonzero(change == -1)[1]
    order = np.argsort(stop - start, kind="stable")  # longest run last: the last assignment to a ray wins
    ray, start, stop = ray[order], start[order], stop[order]
    before = np.where(start > 0, share[ray, start - 1], 0.0)
    rise = (share[ray, start] - 0.5) / (share[ray, start] - before)
    fall = (share[ray, stop - 1] - 0.5) / (share[ray, stop - 1] - share[ray, stop])
    endo[ray] = step * np.maximum(start - rise, 0.0)
    epi[ray] = step * (stop - 1 + fall)
    right = ndimage.map_coordinates((label == RV).astype(np.uint8), points, order=0, mode="constant")
    beyond = radius - epi[:, None]
    return endo, epi, np.any((right > 0) & (beyond > 0) & (beyond <= CONTACT_MM), axis=1)


def _insertions(contact: np.ndarray) -> np.ndarray:
    """`[2]` directions where contact with the right ventricle starts and ends, counterclockwise; NaN if no contact."""
    at = np.flatnonzero(contact)
    if not at.size:
        return np.full(2, np.nan)
    gaps = np.diff(at, append=at[0] + RAYS)
    if gaps.max() <= BRIDGED_RAYS:  # contact all around, so there is no insertion
        return np.full(2, np.nan)
    at = np.roll(at, -(gaps.argmax() + 1))
    at = np.where(at < at[0], at + RAYS, at)
    septum = max(np.split(at, np.flatnonzero(np.diff(at) > BRIDGED_RAYS) + 1), key=len)
    if len(septum) < FEWEST_CONTACT_RAYS:
        return np.full(2, np.nan)
    return (septum[[0, -1]] - septum[0] // RAYS * RAYS) * (2 * np.pi / RAYS)


def _septum(insertions_rad: np.ndarray) -> np.ndarray:
    """`[Z]` direction of mid septum; NaN if no slice has it, or if it points to increasing columns (mirrored)."""
    middle = insertions_rad.mean(axis=1)
    known = np.flatnonzero(~np.isnan(middle))
    if not known.size or np.cos(middle[known]).mean() > 0:
        return np.full(len(middle), np.nan)
    nearest = np.abs(np.arange(len(middle))[:, None] - known).argmin(axis=1)
    return middle[known[nearest]]


def _centre_line_mm(endo: np.ndarray, epi: np.ndarray) -> np.ndarray:
    """`[RAYS]` thickness perpendicular to the mid line of the wall, with both edges smoothed; NaN without wall."""
    thickness = np.full(RAYS, np.nan)
    met = ~np.isnan(endo)
    weight = ndimage.gaussian_filter1d(met.astype(np.float64), SMOOTHING_RAYS, mode="wrap")[met]
    inner, outer = (
        ndimage.gaussian_filter1d(np.where(met, r, 0.0), SMOOTHING_RAYS, mode="wrap")[met]
        / weight
        * np.exp(1j * RAY_RAD[met])
        for r in (endo, epi)
    )
    middle = ((inner + outer) / 2)[:, None]
    if met.any():
        thickness[met] = np.abs(middle - inner).min(axis=1) + np.abs(middle - outer).min(axis=1)
    return thickness


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
