"""Left atrium with appendage and pulmonary veins, right atrium and great vessels, for scans of the atria.

Solids are signed distances in mm, negative inside, in right-anterior-superior coordinates about the centre of the
mitral valve. The short-axis phantoms use simpler atria (`anatomy`).
"""

from typing import NamedTuple

import numpy as np

from cardiac_jax.phantom import tissue
from cardiac_jax.phantom.patient import ATRIUM, Patient, generator

OUTSIDE = 255
REACH_MM = 95.0  # largest distance from the long axis of the left ventricle
WALL_MM = 2.4
ABLATION_MM = 5.0  # half-width of the ring of scar about the ostium of a vein

# right-anterior-superior: where a vein leaves the atrium, in units of the half-axes, and the direction it takes
_VEINS = {
    "right superior": ((0.66, 0.05, 0.52), (0.88, 0.16, 0.42)),
    "right inferior": ((0.66, -0.42, -0.30), (0.80, -0.58, -0.12)),
    "left superior": ((-0.66, -0.18, 0.58), (-0.74, -0.30, 0.55)),
    "left inferior": ((-0.68, -0.46, -0.05), (-0.72, -0.68, 0.04)),
}


class Tube(NamedTuple):
    """Round tube from `start` to `end`, `[3]` in mm; the radius changes linearly from `wide` to `narrow` mm."""

    start: np.ndarray
    end: np.ndarray
    wide: float
    narrow: float


class Atrium(NamedTuple):
    """Left atrium of one patient, in mm about the centre of the mitral valve.

    Attributes:
      veins: the annotated part of each pulmonary vein.
      branches: the continuation of the veins in the lung, not annotated.
      enhanced: noise threshold above which the wall enhances; lower after ablation.
      ablated: whether the wall about the veins enhances too.
    """

    centre: np.ndarray
    half_axes: np.ndarray
    vestibule: Tube
    appendage: tuple[Tube, ...]
    veins: tuple[Tube, ...]
    branches: tuple[Tube, ...]
    enhanced: float
    ablated: bool
    wall_mm: float


def build(patient: Patient) -> Atrium:
    """Left atrium of a patient; uses a separate random stream, so that the rest of the patient does not change."""
    rng = generator(patient.seed, ATRIUM, patient.case)
    base = patient.axes[2]
    size = float(np.exp(rng.normal(0.02, 0.13)))
    half_axes = size * np.array([30.0, 19.0, 24.0]) * np.exp(rng.normal(0, 0.06, 3))
    centre = base * rng.uniform(21, 25) * size + np.array([rng.uniform(0, 6), 0, rng.uniform(0, 5)])
    vestibule = Tube(base * 1.0, 0.75 * centre, rng.uniform(14, 17), 17 * size)
    veins, branches = [], []
    for origin, course in _VEINS.values():
        start = centre + np.array(origin) * half_axes
        way = _unit(np.array(course) + rng.normal(0, 0.10, 3))
        wide = rng.uniform(5.2, 8.2) * size**0.5
        mouth = start + way * rng.uniform(6, 10)
        end = mouth + way * rng.uniform(8, 19)
        veins.append(Tube(start, end, wide * 1.15, wide * 0.8))
        for turn in (-1, 1):  # two veins of the lung join into every pulmonary vein
            bend = _unit(way + turn * 0.45 * np.array([0.2, 0.5, 0.9]) + rng.normal(0, 0.12, 3))
            branches.append(Tube(end - 2 * way, end + bend * rng.uniform(18, 34), wide * 0.72, wide * 0.3))
    root = centre + np.array([-0.78, 0.42, 0.22]) * half_axes
    bends = [root]
    for course, length in (((-0.85, 0.25, 0.40), 12.0), ((-0.45, 0.85, 0.10), 13.0), ((0.15, 0.95, -0.35), 9.0)):
        bends.append(bends[-1] + _unit(np.array(course) + rng.normal(0, 0.18, 3)) * length * size)
    girths = np.array([7.5, 7.0, 6.0, 4.0]) * rng.uniform(0.8, 1.15)
    appendage = tuple(Tube(bends[i], bends[i + 1], girths[i], girths[i + 1]) for i in range(3))
    ablated = bool(rng.random() < 0.5)
    return Atrium(
        centre=centre,
        half_axes=half_axes,
        vestibule=vestibule,
        appendage=appendage,
        veins=tuple(veins),
        branches=tuple(branches),
        enhanced=rng.uniform(0.9, 1.6) if ablated else rng.uniform(1.5, 2.4),
        ablated=ablated,
        wall_mm=WALL_MM * rng.uniform(0.8, 1.3),
    )


def valve(length_mm: float) -> np.ndarray:
    """Centre of the mitral valve in heart coordinates (a, b, s), `[3]`."""
    return np.array([-2.0, -4.0, length_mm])


def paint(shape: Atrium, patient: Patient, length_mm: float, code, a, b, s, height, noise) -> None:
    """Write atria, veins and great vessels into `code` above the valves, in place.

    Args:
      length_mm: distance from the endocardial apex to the base.
      code: tissue codes `[N]`, `OUTSIDE` beyond the pericardium.
      a, b, s: heart coordinates in mm, `[N]`.
      height: `s` corrected for the tilt of the valves, in mm, `[N]`.
      noise: unit-variance texture `[N]`, which makes walls and enhancement uneven.
    """
    k = np.flatnonzero(height > length_mm - 30)
    if not len(k):
        return
    points = (np.stack([a[k], b[k], s[k]], axis=1) - valve(length_mm)).astype(np.float32)
    points = points @ patient.axes.astype(np.float32)
    new, noise = code[k], noise[k]
    above = height[k] > length_mm
    free = above | np.isin(new, (tissue.FAT, tissue.PERICARDIUM, tissue.FLUID, OUTSIDE))
    rough = 0.35 * noise

    mouths = _union([_tube(points, vein) for vein in shape.veins], 2.0)
    left = _union(
        [
            _ellipsoid(points, shape.centre, shape.half_axes),
            _tube(points, shape.vestibule),
            mouths,
            _union([_tube(points, part) for part in shape.appendage], 1.5) - 0.9 * noise,
        ],
        4.0,
    )
    left = left + rough
    beyond = _union([_tube(points, branch) for branch in shape.branches], 1.0)
    right = _right(points, shape) + rough

    def fill(where, value) -> None:
        new[where & free] = value

    def vessel(distance) -> None:
        fill(distance < 1.5, tissue.ATRIAL_WALL)
        fill(distance < 0, tissue.VESSEL)

    near = np.minimum(left, right)
    new[above & np.isin(new, (tissue.FAT, tissue.PERICARDIUM, tissue.FLUID)) & (near > 5 + noise)] = OUTSIDE
    fill((near < 3 + noise) & (new == OUTSIDE), tissue.FAT)
    vessel(beyond)
    vessel(_pulmonary_arteries(points, shape))
    fill(right < 2.0, tissue.ATRIAL_WALL)
    fill(right < 0, tissue.RA)
    wall = (left < shape.wall_mm) & (left >= 0)
    fill(wall, tissue.ATRIAL_WALL)
    patch = noise > shape.enhanced - 0.8 * np.clip(-points[:, 1] + shape.centre[1] - 8, 0, 8) / 8
    if shape.ablated:
        rings = [np.abs(_along(points, vein) - 7) < ABLATION_MM for vein in shape.veins]
        close = [np.abs(_tube(points, vein)) < 5 for vein in shape.veins]
        patch |= np.any([r & c for r, c in zip(rings, close, strict=True)], axis=0) & (noise > -0.5)
    fill(wall & patch, tissue.SCAR)
    fill((left < 0) & (left < right - 1.0), tissue.LA)
    fill((left < 0) & (np.abs(left - right) <= 1.0), tissue.ATRIAL_WALL)
    vessel(_aorta(points))
    code[k] = new


def _right(points: np.ndarray, shape: Atrium) -> np.ndarray:
    """Signed distance to the right atrium with both caval veins."""
    centre = shape.centre + np.array([shape.half_axes[0] * 0.62 + 6, shape.half_axes[1] + 9, -9.0])
    upper = _course(centre, (5, -8, 15), (6, -10, 75), 9.5, 8.5)
    lower = _course(centre, (4, -6, -15), (8, -14, -60), 11.0, 12.0)
    body = _ellipsoid(points, centre, np.array([21.0, 22.0, 27.0]))
    return _union([body, _tube(points, upper), _tube(points, lower)], 5.0)


def _aorta(points: np.ndarray) -> np.ndarray:
    """Signed distance to the aortic root and ascending aorta, between and in front of the atria."""
    root = np.array([16.0, 17.0, 6.0])
    parts = _course(root, (0, 0, 0), (4, -1, 26), 14.5, 14.0), _course(root, (0, 0, 0), (8, -4, 80), 14.0, 13.0)
    return _union([_tube(points, part) for part in parts], 2.0)


def _pulmonary_arteries(points: np.ndarray, shape: Atrium) -> np.ndarray:
    """Signed distance to the pulmonary trunk, left of the aorta, and its two branches above the left atrium."""
    roof = shape.centre + np.array([0.0, 2.0, shape.half_axes[2] + 12])
    fork = roof + np.array([-20.0, 6.0, 3.0])
    trunk = Tube(np.array([-2.0, 38.0, 6.0]), fork, 13.5, 12.5)
    right = Tube(fork, roof + np.array([52.0, -6.0, -1.0]), 10.5, 7.5)
    left = Tube(fork, fork + np.array([-30.0, -32.0, -4.0]), 10.5, 6.5)
    return _union([_tube(points, tube) for tube in (trunk, right, left)], 3.0)


def _course(about: np.ndarray, start, end, wide: float, narrow: float) -> Tube:
    return Tube(about + np.array(start, float), about + np.array(end, float), wide, narrow)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _along(points: np.ndarray, tube: Tube) -> np.ndarray:
    """Distance of each point from the start of a tube, along the tube, in mm."""
    way = _unit(tube.end - tube.start).astype(np.float32)
    return points @ way - np.float32(tube.start @ way)


def _tube(points: np.ndarray, tube: Tube) -> np.ndarray:
    start, way = tube.start.astype(np.float32), (tube.end - tube.start).astype(np.float32)
    offset = points - start
    share = np.clip(offset @ way / np.float32(way @ way), 0, 1)
    off = np.linalg.norm(offset - share[:, None] * way, axis=1)
    return off - (np.float32(tube.wide) + np.float32(tube.narrow - tube.wide) * share)


def _ellipsoid(points: np.ndarray, centre: np.ndarray, half_axes: np.ndarray) -> np.ndarray:
    """First-order signed distance to an ellipsoid: exact on its surface, a close approximation near it."""
    unit = (points - centre.astype(np.float32)) / half_axes.astype(np.float32)
    scale = np.linalg.norm(unit, axis=1)
    slope = np.linalg.norm(unit / half_axes.astype(np.float32), axis=1)
    return scale * (scale - 1) / np.maximum(slope, 1e-6)


def _union(distances: list[np.ndarray], blend_mm: float) -> np.ndarray:
    """Union of solids with seams rounded over `blend_mm`."""
    total = distances[0]
    for distance in distances[1:]:
        overlap = np.maximum(blend_mm - np.abs(total - distance), 0) / blend_mm
        total = np.minimum(total, distance) - np.float32(0.25 * blend_mm) * overlap * overlap
    return total
