"""The anatomical check once more, one mask at a time, by scipy and scikit-image: the yardstick of `wall_check.py`.

Labelling by `scipy.ndimage.label`, convex hulls by Qhull, distances by the exact Euclidean distance transform,
perimeter by `skimage.measure`. Everything happens within the bounding box of the mask and a frame of one pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import example
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from skimage.measure import perimeter_crofton

from cardiac_jax.anatomy.wall_check import Limits

CORNERS = np.ones((3, 3), bool)
REACH_PX = 16


class Measured(NamedTuple):
    """The measured values of `cardiac_jax.ops.anatomy.Verdict`, for one mask."""

    area_px: int
    objects: int
    disconnected_px: int
    holes_px: int
    circularity: float
    endo_concavity_mm: float
    epi_concavity_mm: float
    thickness_mm: float
    mean_wall_mm: float
    filled_mm2: float
    opening_mm: float
    is_c_shaped: bool
    has_cavity: bool
    opening_ratio: float = 0.0
    wall_mm2: float = 0.0
    cavity_mm2: float = 0.0
    pool_disconnected_px: int = 0
    pool_gap_mm: float = 0.0
    pool_outside_mm: float = 0.0


def measure(
    mask: np.ndarray, spacing_mm: float, pocket_mm: float, tip_mm: float, pool: np.ndarray | None = None
) -> Measured:
    """Measures one mask `[H, W]`, and the pool with it if it is given."""
    if not mask.any():
        none = Measured(0, 0, 0, 0, 0.0, 0.0, 0.0, np.inf, 0.0, 0.0, 0.0, False, False)
        if pool is None or not pool.any():
            return none
        return none._replace(pool_disconnected_px=_beside_the_largest(pool), pool_outside_mm=np.inf)
    box = ndimage.find_objects((mask | (False if pool is None else pool)).astype(np.uint8))[0]
    wall = np.pad(mask[box].astype(bool), 1)
    blood = None if pool is None else np.pad(pool[box].astype(bool), 1) & ~wall
    objects, count = ndimage.label(wall, CORNERS)
    sizes = np.bincount(objects.ravel())[1:]

    background = ndimage.label(~wall)[0]
    outside = background == background[0, 0]
    enclosed = ~wall & ~outside
    lumen = _largest(enclosed)

    hull = hull_of(wall)
    depth_px = _depth(hull)
    pocket = np.zeros_like(wall)
    seeds = np.where(hull & outside, depth_px, 0.0)
    deepest_px = seeds.max()
    if deepest_px:
        pieces = ndimage.label(hull & outside)[0]
        pocket = np.isin(pieces, np.unique(pieces[(seeds > deepest_px - 1e-6)]))
    is_c = deepest_px * spacing_mm >= pocket_mm - 1e-3 and pocket.sum() > lumen.sum()

    cavity = pocket if is_c else lumen
    filled = wall | enclosed | cavity
    far, opening_px, away_px = cavity, 0.0, np.full(wall.shape, REACH_PX)
    if is_c:
        lid = pocket & (depth_px < 1.2)
        if lid.any():
            at = np.argwhere(lid)
            opening_px = np.hypot(*(at.max(0) - at.min(0))) + 1
            away_px = np.minimum(ndimage.distance_transform_edt(~lid), REACH_PX)
            far = cavity & ((away_px >= REACH_PX) | (away_px * spacing_mm > tip_mm + 1e-3))

    thickness_mm = np.inf
    if far.any():
        nearest_px = min(ndimage.distance_transform_edt(filled)[far].min(), REACH_PX)
        thickness_mm = (nearest_px - 1) * spacing_mm
    inner = hull_of(far) if far.any() else far
    endo_px = np.where(inner & ~cavity, _depth(inner), 0).max()
    epi_px = np.where(hull & ~filled, depth_px, 0).max()
    return Measured(
        int(wall.sum()),
        count,
        int(sizes.sum() - sizes.max()),
        int(enclosed.sum() - (0 if is_c else lumen.sum())),
        4 * np.pi * filled.sum() / perimeter_crofton(filled, 4) ** 2,
        endo_px * spacing_mm,
        epi_px * spacing_mm,
        thickness_mm,
        (np.sqrt(filled.sum() / np.pi) - np.sqrt(cavity.sum() / np.pi)) * spacing_mm,
        filled.sum() * spacing_mm**2,
        opening_px * spacing_mm,
        bool(is_c),
        bool(cavity.any()),
        opening_px / max(2 * np.sqrt(cavity.sum() / np.pi), 1),
        wall.sum() * spacing_mm**2,
        cavity.sum() * spacing_mm**2,
        0 if blood is None else _beside_the_largest(blood),
        *_gap_and_outside(cavity, blood, depth_px * spacing_mm, away_px * spacing_mm, is_c),
    )


def _beside_the_largest(mask: np.ndarray) -> int:
    """Number of pixels outside the largest 8-connected piece."""
    sizes = np.bincount(ndimage.label(mask, CORNERS)[0].ravel())[1:]
    return int(sizes.sum() - sizes.max(initial=0))


def _gap_and_outside(
    cavity: np.ndarray, blood: np.ndarray | None, depth_mm: np.ndarray, away_mm: np.ndarray, is_c: bool
) -> tuple[float, float]:
    if blood is None:
        return 0.0, 0.0
    pairs = ((cavity & ~blood, depth_mm), (blood & ~cavity, away_mm))
    gap, outside = ((far[where].max() if is_c else np.inf) if where.any() else 0.0 for where, far in pairs)
    return gap, outside


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest 4-connected piece, the first of equals in raster order."""
    pieces = ndimage.label(mask)[0]
    sizes = np.bincount(pieces.ravel())
    return pieces == 1 + np.argmax(sizes[1:]) if sizes.size > 1 else mask


def hull_of(mask: np.ndarray) -> np.ndarray:
    """Pixels whose centres lie within the convex hull of the mask's pixel centres."""
    points = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    try:
        facets = ConvexHull(points).equations
    except (QhullError, ValueError):  # fewer than three points, or all on one line
        return _segment(mask, points)
    grid = np.indices(mask.shape).reshape(2, -1)
    return (facets[:, :2] @ grid + facets[:, 2:] < 1e-6).all(0).reshape(mask.shape)


def _segment(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The hull of points on one line: the pixel centres between its ends."""
    start, end = points.min(0), points.max(0)
    along, grid = points[-1] - points[0], np.indices(mask.shape)
    on_line = (grid[0] - points[0][0]) * along[1] == (grid[1] - points[0][1]) * along[0]
    between = [(grid[axis] >= start[axis]) & (grid[axis] <= end[axis]) for axis in (0, 1)]
    return on_line & between[0] & between[1]


def _depth(hull: np.ndarray) -> np.ndarray:
    """Distance in pixels of every pixel to the nearest one outside `hull`, at most `REACH_PX`."""
    return np.minimum(ndimage.distance_transform_edt(np.pad(hull, 1))[1:-1, 1:-1], REACH_PX)


def verdict(measured: Measured, limits: Limits) -> dict[str, bool]:
    """The fields of `cardiac_jax.ops.anatomy.Verdict` that are verdicts, for one mask."""
    slack = 1e-3
    m, empty = measured, measured.area_px == 0
    if empty:
        shape = bool(limits.empty)
    elif m.is_c_shaped:
        shape = bool(limits.c_shaped and m.opening_mm >= limits.opening_mm - slack)
    else:
        shape = bool(m.has_cavity or limits.solid)
    checks = {
        "objects": m.objects <= limits.objects,
        "disconnected": m.disconnected_px <= limits.disconnected_px,
        "holes": m.holes_px <= limits.holes_px,
        "circularity": m.circularity >= limits.circularity,
        "endocardium": m.endo_concavity_mm <= limits.endo_concavity_mm + slack,
        "epicardium": m.epi_concavity_mm <= limits.epi_concavity_mm + slack,
        "thickness": m.thickness_mm >= limits.thickness_mm - slack,
        "mean_wall": m.mean_wall_mm <= limits.mean_wall_mm + slack,
        "area": m.filled_mm2 <= limits.area_mm2,
        "least_area": m.wall_mm2 >= limits.least_wall_mm2
        and m.filled_mm2 >= limits.least_area_mm2
        and (not m.has_cavity or m.cavity_mm2 >= limits.least_pool_mm2),
    }
    passed = {"shape": shape} | {name: bool(empty or ok) for name, ok in checks.items()}
    wide = m.opening_mm > limits.widest_opening_mm + slack or m.opening_ratio > limits.widest_opening + slack
    passed |= {
        "opening": not wide,
        "pool_pieces": m.pool_disconnected_px <= limits.disconnected_px,
        "pool_gap": bool(m.pool_gap_mm <= limits.gap_mm + slack),
        "pool_outside": bool(m.pool_outside_mm <= limits.outside_mm + slack),
    }
    return {"valid": all(passed.values())} | passed


def blobs(seed: int, number: int, shape: tuple[int, int]) -> np.ndarray:
    """Ragged masks of every smoothness and share, many with holes, in pieces or at the edge."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(number):
        smooth = ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0, 5))
        masks.append(smooth > np.quantile(smooth, rng.uniform(0.1, 0.98)))
    return np.stack(masks)


def heart_faults(wall: np.ndarray, pool: np.ndarray, pixel_mm: tuple[float, float], dent_mm: float = 4.0) -> list[str]:
    """What a reader would call broken in the left ventricle of a slice, by scipy alone; pixels of any two sides.

    Wall and pool are one piece each and have no holes together. The pool lies open to other tissue only at one opening,
    no wider than in gold standards, or than the pool; beside it nothing unlabelled lies between wall and pool: no pixel
    deeper than `dent_mm`, or two pixels, in the hull of both. The areas are those of a heart: 125 mm2 of wall, 160 all.
    """
    if not (wall | pool).any():
        return []
    rows, columns = (slice(i.min(), i.max() + 1) for i in np.nonzero(wall | pool))
    wall, pool = (np.pad(part[rows, columns], 1) for part in (wall, pool))
    both, pixel_mm2 = wall | pool, pixel_mm[0] * pixel_mm[1]
    exposed = np.argwhere(pool & ndimage.binary_dilation(~both)) * pixel_mm
    apart = np.linalg.norm(exposed[:, None] - exposed[None], axis=-1)
    opening_mm = apart.max() + max(pixel_mm) if len(exposed) else 0.0
    dents = hull_of(both) & ~both
    deep_mm = ndimage.distance_transform_edt(np.pad(hull_of(both), 1), pixel_mm)[1:-1, 1:-1][dents]
    found = {
        f"wall in {ndimage.label(wall, CORNERS)[1]} pieces": ndimage.label(wall, CORNERS)[1] != 1,
        "pool in pieces": ndimage.label(pool, CORNERS)[1] > 1,
        "holes": (ndimage.binary_fill_holes(both) & ~both).any(),
        f"opening of {opening_mm:.1f} mm": opening_mm > 42,
        "opening wider than the pool": opening_mm > 1.2 * 2 * np.sqrt(pool.sum() * pixel_mm2 / np.pi),
        "gap": deep_mm.max(initial=0) > max(dent_mm, 2 * max(pixel_mm)) + 1e-3,
        "small wall": wall.sum() * pixel_mm2 < 125,
        "small heart": both.sum() * pixel_mm2 < 160,
    }
    return [name for name, broken in found.items() if broken]


def on_each_grid(grids: Iterable[tuple[float, float]]) -> Callable[[Any], Any]:
    """Decorator: runs a property of `seed, pixel_mm, mode` on every size of pixels at least once."""

    def decorate(test: Any) -> Any:
        for i, pixel_mm in enumerate(grids):
            test = example(seed=i, pixel_mm=pixel_mm, mode=("invalid", "all")[i % 2])(test)
        return test

    return decorate
