"""Field of view of a matrix ultrasound probe, its beams, and the way from beams to voxels.

Probe coordinates are mm about the centre of the transducer: x along azimuth, y along depth, z along elevation. Beam
coordinates are the distance r from the transducer and the angles atan2(x, y) and atan2(z, y).
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates

STRETCH = 0.6  # relative increase of the axial sample distance from the transducer to the far end


class Sector(NamedTuple):
    """Pyramid between two spheres about the transducer.

    Attributes:
      azimuth, elevation: half angles, radians below pi / 2.
      near_mm, far_mm: radii of the two spheres.
    """

    azimuth: float
    elevation: float
    near_mm: float
    far_mm: float

    def contains(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Whether points (probe coordinates in mm, broadcast) lie in the field of view."""
        r2 = np.square(x) + np.square(y) + np.square(z)
        inside = (r2 >= self.near_mm**2) & (r2 <= self.far_mm**2) & (y > 0)
        return inside & (np.abs(x) <= y * np.tan(self.azimuth)) & (np.abs(z) <= y * np.tan(self.elevation))


class Beams(NamedTuple):
    """Sample points along the beams of a sector, `[R, A, E]`: distance, azimuth, elevation.

    Distances between axial samples grow with depth (`STRETCH`), angles are equidistant. A point-spread function of
    constant width in samples therefore widens with depth, axially a little and laterally in proportion.

    Attributes:
      axial_mm: distance of axial samples at the transducer.
      angle: between neighbouring beams, radians.
      start: distance of the first sample, in samples from the transducer.
      shape: numbers of samples.
    """

    sector: Sector
    axial_mm: float
    angle: float
    start: float
    shape: tuple[int, int, int]

    def distance_mm(self) -> np.ndarray:
        """Distance of the samples from the transducer `[R]`."""
        rate = STRETCH / self.sector.far_mm
        return np.expm1((self.start + np.arange(self.shape[0])) * self.axial_mm * rate) / rate

    def angles(self) -> tuple[np.ndarray, np.ndarray]:
        """Azimuth `[A]` and elevation `[E]` of the beams, radians."""
        first, second = ((np.arange(n) - 0.5 * (n - 1)) * self.angle for n in self.shape[1:])
        return first, second

    def directions(self) -> np.ndarray:
        """Unit vectors of the beams `[A, E, 3]`."""
        azimuth, elevation = self.angles()
        x, z = np.meshgrid(np.tan(azimuth), np.tan(elevation), indexing="ij")
        vectors = np.stack([x, np.ones_like(x), z], axis=-1)
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    def at(self, values: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """`values [R, A, E]` at points `[N]` in the sector, by linear interpolation."""
        rate = STRETCH / self.sector.far_mm
        r = np.sqrt(np.square(x) + np.square(y) + np.square(z))
        index = [
            np.log1p(r * rate) / (rate * self.axial_mm) - self.start,
            np.arctan2(x, y) / self.angle + 0.5 * (self.shape[1] - 1),
            np.arctan2(z, y) / self.angle + 0.5 * (self.shape[2] - 1),
        ]
        return map_coordinates(values, np.stack(index), order=1, mode="nearest")


def beams(sector: Sector, axial_mm: float, angle: float, margin: int) -> Beams:
    """Beams that cover a sector, with `margin` samples beyond each of its borders."""
    rate = STRETCH / sector.far_mm
    near, far = (np.log1p(r * rate) / (rate * axial_mm) for r in (sector.near_mm, sector.far_mm))
    start = max(float(near) - margin, 0.0)
    count = int(np.ceil(far - start)) + margin
    wide, high = (2 * (int(np.ceil(half / angle)) + margin) + 1 for half in (sector.azimuth, sector.elevation))
    return Beams(sector, axial_mm, angle, start, (count, wide, high))
