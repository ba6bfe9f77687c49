"""Thickness of the left ventricular wall, and the 17 segments of the American Heart Association (Cerqueira 2002).

Label maps here are `[Z, H, W]` in the canonical frame (`data/orientation.py`): Z from apex to base, rows towards the
feet, columns towards left-posterior. It is the frame, not the labels, that tells the anterior from the inferior side.
Angles run counterclockwise as displayed, from the columns' direction, about the centre of the slice's blood pool.

Levels: slices from the first to the last with blood pool fall into apical, mid and basal thirds by their centres;
myocardium right below the first is the apex, segment 17. Angular origin: the direction half way between the two
insertions of the right ventricle, mid septum, from which sectors of 60 (apical: 90) degrees are counted. A slice
without right ventricle takes the direction of the nearest slice that has one. No sector is numbered where no slice
has one, nor where the right ventricle lies towards the columns' end: labels and frame contradict each other, as in
a mirror. Slices that are not annotated throughout (255) are not measured, but their blood pool does count for the
levels.

Thickness is that of the centre-line method (Sheehan et al. 1986): the wall is followed on 360 rays with sub-pixel
edges, and at every point of its mid line the shortest ways to the endocardial and to the epicardial contour are
added, so that a wall that a ray crosses obliquely is not measured too thick. A ray that meets no wall, as in the open
side of a C-shaped basal slice, has no thickness and takes no part in any mean. All of it is measured within the
slice: where the wall leans, towards the apex, it is cut obliquely and looks thicker than it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.labels import CLASSES

RAYS = 360
RAY_RAD = np.arange(RAYS) * (2 * np.pi / RAYS)
STEPS_PER_PIXEL = 4
SMOOTHING_RAYS = 5.0  # SD along a contour: evens out the staircase of pixels
CONTACT_MM = 3.0  # a right ventricle this near to the wall touches it
BRIDGED_RAYS = 20  # gaps in the contact that the septum still spans
FEWEST_CONTACT_RAYS = 30  # a shorter contact shows part of the septum, not its middle
BASAL, MID, APICAL, APEX = 1, 7, 13, 17  # each level by its first segment
RV, MYO, LV = (CLASSES.index(name) for name in ("RV", "Myo", "LV"))


class Segment(NamedTuple):
    """One segment of the bull's eye: ring `level` from `start_deg` on counterclockwise, 90 is anterior (up)."""

    number: int
    name: str
    level: str
    start_deg: float
    width_deg: float


class Frame(NamedTuple):
    """Where the left ventricle lies in each slice.

    Attributes:
      level: `[Z]`, BASAL, MID, APICAL or APEX; 0 where there is nothing to measure.
      centre: `[Z, 2]` of the blood pool, rows and columns; NaN in the apex and where level is 0.
      insertions_rad: `[Z, 2]` directions of the anterior and the inferior insertion of the right ventricle,
        in [0, 2 pi) and larger; NaN where it does not touch the wall.
      septum_rad: `[Z]` direction of mid septum, from the nearest slice where there is no insertion; NaN where
        segments cannot be numbered.
    """

    level: np.ndarray
    centre: np.ndarray
    insertions_rad: np.ndarray
    septum_rad: np.ndarray


class Wall(NamedTuple):
    """Wall thickness in mm; NaN where there is nothing to measure.

    Attributes:
      segment_mm: `[17]` mean over the rays of each AHA segment, number 1 first. Where sectors cannot be numbered,
        as without right ventricle, all but the apex are NaN. That of the apex runs along the long axis: slices of
        wall below the cavity x their spacing, no finer than that.
      slice_mm: `[Z]` mean over the rays of each slice, whether segments could be numbered or not.
      ray_mm: `[Z, RAYS]`.
      ray_segment: `[Z, RAYS]` number of the segment each ray lies in, 0 for none.
      endo_mm, epi_mm: `[Z, RAYS]` distance of both edges of the wall from the slice's centre along the ray.
      frame: what the rays start from.
    """

    segment_mm: np.ndarray
    slice_mm: np.ndarray
    ray_mm: np.ndarray
    ray_segment: np.ndarray
    endo_mm: np.ndarray
    epi_mm: np.ndarray
    frame: Frame


def bullseye_segments() -> tuple[Segment, ...]:
    """The 17 segments in order of their numbers, with their place in a bull's-eye plot."""
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
    """AHA number of directions `[*S]` in a slice of one level; 0 where mid septum (NaN) is not known."""
    if level == APEX:
        return np.full(np.shape(angle_rad), APEX)
    if not level or np.isnan(septum_rad):
        return np.zeros(np.shape(angle_rad), int)
    turned = np.rad2deg(angle_rad - septum_rad) + 180  # mid septum lies at 180 in the bull's eye
    if level == APICAL:
        return APICAL + (np.floor((turned - 45) / 90) % 4).astype(int)
    return level + (np.floor((turned - 60) / 60) % 6).astype(int)


def wall_thickness(label: np.ndarray, spacing_mm: Sequence[float]) -> Wall:
    """Wall thickness by ray, slice and AHA segment.

    Args:
      label: `[Z, H, W]` canonical classes in the canonical frame.
      spacing_mm: voxel size along Z, H, W.

    Raises:
      ValueError: label and spacing are not three-dimensional.
    """
    if label.ndim != 3 or len(spacing_mm) != 3:
        raise ValueError(f"label {label.shape} and spacing {tuple(spacing_mm)} are not those of a volume")
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
    """AHA number of every voxel of myocardium: `[Z, H, W]` -> uint8 `[Z, H, W]`, 0 elsewhere and if unknown."""
    numbers = np.zeros(label.shape, np.uint8)
    for z in np.flatnonzero(frame.level):
        at = np.argwhere(label[z] == MYO)
        down, right = ((at - frame.centre[z]) * spacing_mm[1:]).T
        numbers[z][tuple(at.T)] = segment_numbers(frame.level[z], np.arctan2(-down, right), frame.septum_rad[z])
    return numbers


def ray_points(centre: np.ndarray, radius_mm: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Rows and columns `[2, RAYS, N]` of points on the rays, `radius_mm` (`[N]` or `[RAYS, N]`) from `centre`."""
    rows = centre[0] - np.sin(RAY_RAD)[:, None] * radius_mm / spacing_mm[0]
    return np.stack([rows, centre[1] + np.cos(RAY_RAD)[:, None] * radius_mm / spacing_mm[1]])


def _levels(label: np.ndarray) -> np.ndarray:
    """`[Z]` level of each slice, 0 where nothing can be measured."""
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
    """`[2]` centre of the largest piece of a slice's blood pool."""
    pieces = np.zeros(pool.shape, np.int32)
    ndimage.label(pool, output=pieces)
    return np.argwhere(pieces == np.bincount(pieces[pool]).argmax()).mean(axis=0)


def _cast(label: np.ndarray, centre: np.ndarray, spacing_mm: Sequence[float]) -> tuple[np.ndarray, ...]:
    """Both edges of the wall along each ray of a slice, mm, and whether right ventricle touches it: 3 x `[RAYS]`.

    The wall is the longest stretch of myocardium on the ray, which neither a papillary muscle nor a stray voxel is.
    Its edges are where the bilinearly interpolated myocardium crosses one half.
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
    order = np.argsort(stop - start, kind="stable")  # of values assigned to one ray, the last one stays
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
    """`[2]` directions between which the right ventricle touches the wall, counterclockwise; NaN if it does not."""
    at = np.flatnonzero(contact)
    if not at.size:
        return np.full(2, np.nan)
    gaps = np.diff(at, append=at[0] + RAYS)
    if gaps.max() <= BRIDGED_RAYS:  # all around: nowhere inserted
        return np.full(2, np.nan)
    at = np.roll(at, -(gaps.argmax() + 1))
    at = np.where(at < at[0], at + RAYS, at)
    septum = max(np.split(at, np.flatnonzero(np.diff(at) > BRIDGED_RAYS) + 1), key=len)
    if len(septum) < FEWEST_CONTACT_RAYS:
        return np.full(2, np.nan)
    return (septum[[0, -1]] - septum[0] // RAYS * RAYS) * (2 * np.pi / RAYS)


def _septum(insertions_rad: np.ndarray) -> np.ndarray:
    """`[Z]` direction of mid septum; NaN if no slice has it, or if it lies where only a mirror would put it."""
    middle = insertions_rad.mean(axis=1)
    known = np.flatnonzero(~np.isnan(middle))
    if not known.size or np.cos(middle[known]).mean() > 0:
        return np.full(len(middle), np.nan)
    nearest = np.abs(np.arange(len(middle))[:, None] - known).argmin(axis=1)
    return middle[known[nearest]]


def _centre_line_mm(endo: np.ndarray, epi: np.ndarray) -> np.ndarray:
    """`[RAYS]` thickness square to the mid line of the wall, both edges smoothed; NaN where there is none."""
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
