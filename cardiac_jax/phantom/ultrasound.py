"""Apical 3D ultrasound volume of the phantom's heart, as in CETUS, and the label map of its left ventricular cavity.

The probe stands on the chest at the apex and looks along the long axis (apical four-chamber view: azimuth through
septum and lateral wall). Backscatter is computed on the beams (`sector.py`), turned into speckle (`echo.py`), resampled
to isotropic voxels and log-compressed. Anatomy beyond the heart is schematic: chest wall before it, lung behind.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from cardiac_jax.errors import InputError
from cardiac_jax.phantom import anatomy, echo, heart, patient, tissue
from cardiac_jax.phantom.heart import COLUMNS, ROWS, T0, T1, Heart
from cardiac_jax.phantom.sector import Beams, Sector, beams

NUMBER = len(tissue.SEQUENCES) + 1  # number of ultrasound in the random streams
AXIAL_MM, ANGLE = 0.45, float(np.deg2rad(0.75))  # distances of samples for voxels of 1 mm
NEAR_MM = 4.0
MARGIN = 4  # samples beyond the field of view
NARROWEST, WIDEST = np.deg2rad((32.0, 50.0))  # half angles
BLOCK = 16  # shells of beam samples classified at a time, to bound memory
LUNG_DB, LUNG_DECAY_DB_MM = -9.0, 0.3  # reverberation behind the heart
CHEST_DB = -6.0
MIRROR_MM = 2.0  # length over which the echo of an interface across the beam adds up
_BLOOD = (tissue.LV, tissue.RV, tissue.LA, tissue.RA, tissue.VESSEL, tissue.FLUID)
_IMPEDANCE = np.ones(26, np.float32)  # contrast of interfaces
_IMPEDANCE[list(_BLOOD)] = 0.0
_IMPEDANCE[tissue.PERICARDIUM] = 2.0
_IMPEDANCE[tissue.VALVE] = 0.5
_CAVITY = (tissue.LV, tissue.PAPILLARY)


class Volume(NamedTuple):
    """One phase on a grid `[X, Y, Z]`: azimuth, depth, elevation; the apex is at small Y.

    Attributes:
      image: float32 grey levels 1 to 255 in the field of view, 0 outside.
      label: uint8, 1 in the left ventricular cavity with papillary muscles; also outside the field of view.
      field: bool, the field of view.
      affine: voxel indices to mm `[4, 4]`, the inverse of LPS about the transducer: no anatomical directions.
      phase: "ED" or "ES".
      group: pathology group.
      lv_ml: true volume of the cavity in this phase.
      ef: true ejection fraction, 0 to 1.
      setting: of the machine and the acoustic window.
    """

    image: np.ndarray
    label: np.ndarray
    field: np.ndarray
    affine: np.ndarray
    phase: str
    group: str
    lv_ml: float
    ef: float
    setting: echo.Setting


class Pose(NamedTuple):
    """Place of the probe: heart coordinates of a point p in probe coordinates are `axes @ p + origin`, mm."""

    axes: np.ndarray
    origin: np.ndarray

    def of_heart(self, points: np.ndarray) -> np.ndarray:
        """Probe coordinates of points `[..., 3]` in heart coordinates."""
        return (points - self.origin) @ self.axes


def scan(seed: int, case: int, group: str | None = None, *, spacing_mm: float = 1.0) -> tuple[Volume, Volume]:
    """Simulate the volumes at ED and ES of one patient; the result depends on the arguments only.

    Probe, machine and acoustic window are the same in both, speckle is independent.

    Args:
      seed, case: not negative; they determine all random numbers.
      group: one of `patient.GROUPS`; by default determined by (seed, case).
      spacing_mm: edge of the isotropic voxels. The beams are sampled in proportion, and speckle of larger voxels is
        coarser where its own size could not be sampled.

    Raises:
      InputError: unknown group; negative seed or case; spacing not positive.
    """
    if not spacing_mm > 0:
        raise InputError(f"spacing {spacing_mm}", "must be positive")
    person = patient.draw(seed, case, group)
    person = person._replace(waves=0 * person.waves)  # they would change the volumes by some per cent
    ends = heart.build(person, 0.0), heart.build(person, 1.0)
    rng = patient.generator(seed, patient.ACQUISITION, case, 10 + NUMBER)
    pose = _pose(ends[0], rng)
    sector = _sector(ends[0], pose, rng)
    setting = echo.draw(rng, sector.azimuth, sector.elevation, sector.far_mm)
    coarse = max(1.0, spacing_mm)
    grid = beams(sector, AXIAL_MM * coarse, ANGLE * coarse, MARGIN)
    psf = echo.Psf(max(setting.psf.axial_mm, 1.1 * grid.axial_mm), max(setting.psf.angle, 1.1 * grid.angle))
    setting = setting._replace(psf=psf)
    ed, es = (
        _volume(beat, pose, grid, setting, spacing_mm, phase, 1 - ends[1].lv_ml / ends[0].lv_ml)
        for phase, beat in zip(patient.PHASES, ends, strict=True)
    )
    return ed, es


def _volume(
    beat: Heart, pose: Pose, grid: Beams, setting: echo.Setting, spacing_mm: float, phase: str, ef: float
) -> Volume:
    p = beat.patient
    rng = patient.generator(p.seed, patient.NOISE, p.case, NUMBER, patient.PHASES.index(phase))
    axes, affine = _axes(grid.sector, spacing_mm)
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    field = grid.sector.contains(x, y, z)
    received = echo.echoes(_backscatter(beat, pose, grid), grid, setting, rng)
    inside = [np.broadcast_to(c, field.shape)[field] for c in (x, y, z)]
    envelope = np.hypot(*(grid.at(part, *inside) for part in received))
    image = np.zeros(field.shape, np.float32)
    image[field] = echo.compress(envelope, setting.gain_db, setting.range_db)
    label = _label(beat, pose, axes)
    return Volume(image, label, field, affine, phase, p.group, beat.lv_ml, ef, setting)


def _pose(diastole: Heart, rng: np.random.Generator) -> Pose:
    """Probe before the apex, aimed at the middle of the ventricle and turned about its axis by some degrees."""
    stand = 1.6 * diastole.patient.apex_mm + rng.uniform(9, 18)
    origin = np.array([*rng.normal(0, 5, 2), -stand])
    aim = np.array([*rng.normal(0, 4, 2), 0.55 * diastole.length_mm])
    depth = (aim - origin) / np.linalg.norm(aim - origin)
    across = np.array([-1.0, 0.0, 0.0]) + depth[0] * depth  # the right ventricle lies on the left of the image
    across /= np.linalg.norm(across)
    turn = np.deg2rad(rng.normal(0, 10))
    across = np.cos(turn) * across + np.sin(turn) * np.cross(depth, across)
    return Pose(np.stack([across, depth, np.cross(across, depth)], axis=1), origin)


def _sector(diastole: Heart, pose: Pose, rng: np.random.Generator) -> Sector:
    """Field of view that holds the diastolic cavity and some of its wall and of the left atrium."""
    rows = np.arange(int(-T0 / (T1 - T0) * ROWS), int((1 - T0) / (T1 - T0) * ROWS), 6)
    columns = np.arange(0, COLUMNS, 16)
    radius = diastole.endo[np.ix_(rows, columns)]
    t = (rows / (ROWS - 1) * (T1 - T0) + T0)[:, None] * np.ones(len(columns))
    angle = columns * (2 * np.pi / COLUMNS) - np.pi
    sway = 4 * (t - 0.5) ** 2 - 0.5
    bow = diastole.patient.bow_mm
    surface = np.stack(
        [radius * np.cos(angle) + bow[0] * sway, radius * np.sin(angle) + bow[1] * sway, t * diastole.length_mm], -1
    )
    x, y, z = np.moveaxis(pose.of_heart(surface.reshape(-1, 3)), -1, 0)
    wide, high = (float(np.arctan2(np.abs(c), y).max()) + np.deg2rad(rng.uniform(2, 7)) for c in (x, z))
    far = float(np.sqrt(x**2 + y**2 + z**2).max()) + rng.uniform(22, 42)
    return Sector(
        float(np.clip(wide, NARROWEST, WIDEST)), float(np.clip(high, NARROWEST, WIDEST)), NEAR_MM, min(far, 220.0)
    )


def _axes(sector: Sector, spacing_mm: float) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Probe coordinates of the voxel centres along X, Y, Z, and the affine; the box just holds the field of view."""
    wide, high = (sector.far_mm * np.sin(half) for half in (sector.azimuth, sector.elevation))
    nx, ny, nz = (int(np.ceil(length / spacing_mm)) for length in (2 * wide, sector.far_mm, 2 * high))
    first = np.array([-0.5 * (nx - 1), 0.5, -0.5 * (nz - 1)]) * spacing_mm
    x, y, z = (start + spacing_mm * np.arange(n) for start, n in zip(first, (nx, ny, nz), strict=True))
    affine = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = first * (-1, -1, 1)
    return (x, y, z), affine


def _classify(beat: Heart, pose: Pose, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tissue code and texture of points `[N, 3]` in probe coordinates."""
    a, b, s = (points @ pose.axes.T + pose.origin).astype(np.float32).T
    noise = anatomy.texture(a, b, s, 37 * beat.patient.case + 11 * beat.patient.seed + 5)
    return anatomy.classify(beat, a, b, s, noise), noise


def _label(beat: Heart, pose: Pose, axes: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Voxels whose centre lies in the left ventricular cavity, `[X, Y, Z]` uint8."""
    label = np.zeros([len(axis) for axis in axes], np.uint8)
    middle = pose.of_heart(np.array([0, 0, 0.5 * beat.length_mm]))
    reach = float(np.hypot(0.5 * beat.length_mm, beat.endo.max())) + 12
    box = tuple(slice(*np.searchsorted(axis, (c - reach, c + reach))) for axis, c in zip(axes, middle, strict=True))
    points = np.stack(np.meshgrid(*(axis[part] for axis, part in zip(axes, box, strict=True)), indexing="ij"), -1)
    code = _classify(beat, pose, points.reshape(-1, 3))[0]
    label[box] = np.isin(code, _CAVITY).reshape(points.shape[:3])
    return label


def _backscatter(beat: Heart, pose: Pose, grid: Beams) -> np.ndarray:
    """Amplitude of the backscatter on the beams `[R, A, E]` float32, relative to myocardium."""
    r, directions = grid.distance_mm(), grid.directions()
    code = np.empty(grid.shape, np.uint8)
    noise = np.empty(grid.shape, np.float32)
    for start in range(0, len(r), BLOCK):
        part = np.s_[start : start + BLOCK]
        points = r[part, None, None, None] * directions
        found = _classify(beat, pose, points.reshape(-1, 3))
        code[part], noise[part] = (held.reshape(points.shape[:3]) for held in found)
    inside = code != anatomy.OUTSIDE
    amplitude = echo.AMPLITUDE[np.where(inside, code, tissue.MYO)] * np.exp(0.15 * noise)
    depth = r[:, None, None].astype(np.float32)
    last = np.maximum.accumulate(np.where(inside, depth, 0), axis=0)
    chest = CHEST_DB + 4 * np.sin(depth * (2 * np.pi / 7)) + 2 * noise  # fat, muscle and their fasciae
    lung = LUNG_DB - LUNG_DECAY_DB_MM * (depth - np.maximum(last, 18))
    beyond = np.where((last == 0) & (depth < 18), chest, lung)
    amplitude = np.where(inside, amplitude, echo.from_db(beyond))
    # interfaces across the beam reflect
    contrast = gaussian_filter(np.where(inside, _IMPEDANCE[np.where(inside, code, 0)], 1.0), 1.0, truncate=3.0)
    mirror = np.abs(np.gradient(contrast, r, axis=0))
    return (amplitude + MIRROR_MM * mirror).astype(np.float32)
