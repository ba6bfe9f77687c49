"""Axial 3D LGE scan of the atria with fat suppression, as in LASC, and its label map of the left atrium."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter1d

from cardiac_jax.errors import InputError
from cardiac_jax.phantom import acquire, atrium, heart, patient, tissue, torso
from cardiac_jax.phantom.acquire import Grid

SPACING_MM = (0.625, 0.625)
VIEW_MM = 360.0  # across the body
SLAB_MM = 55.0
ACQUIRED_MM = 1.25  # in-plane; smaller voxels are interpolated
THICK_MM = 1.5  # a voxel is sub-sampled along an axis if its spacing is at least this
FIELD_MM = 135.0  # the heart and its vessels lie within this distance of the left ventricle's centre along x and y
NEAR_WALL_MM = 5.0
NUMBER = len(tissue.SEQUENCES)  # number of this sequence in the random streams
_CAVITY = np.zeros(26, np.uint8)
_CAVITY[tissue.LA] = 3  # rendered as class 3, the LV cavity


class Scan(NamedTuple):
    """One scan on a grid `[X, Y, Z]`, with X to the left, Y posterior and Z superior.

    Attributes:
      image: float32.
      label: uint8, 1 in the left atrium.
      tissue: uint8, codes of `tissue.py` in the heart.
      affine: voxel indices to right-anterior-superior mm.
      ablated: whether the wall about the pulmonary veins is scarred.
      la_ml: volume of the left atrium.
      enhanced_percent: percentage of the atrial wall that enhances.
    """

    image: np.ndarray
    label: np.ndarray
    tissue: np.ndarray
    affine: np.ndarray
    ablated: bool
    la_ml: float
    enhanced_percent: float


def scan(
    seed: int,
    case: int,
    group: str | None = None,
    *,
    spacing_mm: tuple[float, float] = SPACING_MM,
    size: tuple[int, int] | None = None,
    slices: int | None = None,
    snr: float | None = None,
) -> Scan:
    """Simulate one scan; the result depends on the arguments only.

    Args:
      seed, case: not negative; they determine all random numbers.
      group: of the ventricles, one of `patient.GROUPS`; by default determined by (seed, case).
      spacing_mm: (in-plane, between slices).
      size: in-plane, in px; by default a field of view of 360 mm. A smaller field of view is centred nearer to the
        atrium.
      slices: number of slices; by default enough for 55 mm.
      snr: signal-to-noise ratio of a signal of 1, about that of blood; random by default.

    Raises:
      InputError: unknown group; negative seed or case; size or slices below 1; spacing not positive.
    """
    if min(spacing_mm) <= 0 or min(size or (1,)) < 1 or (slices is not None and slices < 1):
        raise InputError(f"size {size}, slices {slices}, spacing {spacing_mm}", "must be positive")
    person = patient.draw(seed, case, group)._replace(scar="none")  # of the ventricle
    rng = patient.generator(seed, patient.ACQUISITION, case, 10 + NUMBER)
    beat = heart.build(person, 0.0)._replace(atrium=atrium.build(person))
    assert beat.atrium is not None
    middle = _middle(beat)
    body = _fit(torso.build(beat), beat, middle, rng)
    across = round(VIEW_MM / spacing_mm[0])
    shape = (*((across, across) if size is None else size), slices or round(SLAB_MM / spacing_mm[1]))
    grid, centre = _plan(body, middle, spacing_mm, shape, rng)

    signals = _signals(patient.generator(seed, patient.SIGNAL, case, NUMBER))
    samples = tuple(1 if s < THICK_MM else 2 for s in grid.spacing_mm)
    rendered = acquire.render(
        beat, body, signals, grid, centre, np.zeros((grid.shape[2], 3)), (samples[0], samples[1], samples[2]),
        classes=_CAVITY, near_mm=atrium.REACH_MM, field_mm=FIELD_MM,
    )  # fmt: skip
    noise = patient.generator(seed, patient.NOISE, case, NUMBER)
    snr = float(noise.uniform(7, 18)) if snr is None else snr
    gain = noise.uniform(45, 130)
    fraction = min(0.95, grid.spacing_mm[0] / (ACQUIRED_MM * noise.uniform(0.95, 1.1)))
    signal = rendered.signal
    signal *= acquire.coils(grid, centre, body, noise)
    image = acquire.detect(signal, snr, noise, (fraction, fraction), block=8)
    image = gaussian_filter1d(image, 0.5 * ACQUIRED_MM / grid.spacing_mm[2], axis=2, mode="nearest")
    label = (rendered.pathology == 3).astype(np.uint8)
    return Scan(
        image=np.float32(gain) * image,
        label=label,
        tissue=rendered.tissue,
        affine=grid.affine,
        ablated=beat.atrium.ablated,
        la_ml=float(label.sum() * np.prod(grid.spacing_mm) / 1000),
        enhanced_percent=_enhanced_percent(label, rendered.tissue, grid),
    )


def _enhanced_percent(label: np.ndarray, kinds: np.ndarray, grid: Grid) -> float:
    """Percentage of scar in the atrial wall within `NEAR_WALL_MM` of the cavity."""
    found = find_objects(label, 1)[0]
    if found is None:
        return 0.0
    margins = np.ceil(NEAR_WALL_MM / grid.spacing_mm).astype(int)
    box = tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(found, margins, strict=True))
    near = np.asarray(distance_transform_edt(label[box] == 0, sampling=grid.spacing_mm)) < NEAR_WALL_MM
    wall = kinds[box][near]
    scar = (wall == tissue.SCAR).sum()
    return float(100 * scar / max(scar + (wall == tissue.ATRIAL_WALL).sum(), 1))


def _middle(beat: heart.Heart) -> np.ndarray:
    """Centre of the left atrium `[3]`, right-anterior-superior mm about the centre of the diastolic left ventricle."""
    assert beat.atrium is not None
    valve = atrium.valve(beat.length_mm) - (0, 0, 0.5 * beat.diastolic_length_mm)
    return valve @ beat.patient.axes + beat.atrium.centre


def _fit(body: torso.Torso, beat: heart.Heart, middle: np.ndarray, rng: np.random.Generator) -> torso.Torso:
    """Body with the spine behind the atrium and the aorta close to it; the anterior chest wall does not move."""
    assert beat.atrium is not None
    behind = middle[1] - beat.atrium.half_axes[1] - rng.uniform(3, 8)
    chest = body.centre_y - body.half_depth + 0.4 * body.fat + body.muscle  # inner wall at the back, where fat is thin
    back = behind - torso.AORTA_FRONT_MM - chest
    return body._replace(
        midline=middle[0] + rng.uniform(0, 12),
        half_depth=body.half_depth - 0.5 * back,
        centre_y=body.centre_y + 0.5 * back,
        lean=rng.uniform(7, 12),
    )


def _plan(
    body: torso.Torso,
    middle: np.ndarray,
    spacing_mm: tuple[float, float],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> tuple[Grid, np.ndarray]:
    """Axial grid whose first voxel is the scanner's origin, and the centre of the left ventricle in the scanner."""
    view = np.array(shape) * (spacing_mm[0], spacing_mm[0], spacing_mm[1])
    coverage = np.clip((view[:2] - 200) / 120, 0, 1)  # 1: the field of view contains the entire body
    aim = middle + rng.uniform(-6, 6, 3)
    aim[:2] += coverage * (np.array([body.midline, body.centre_y]) - middle[:2])
    affine = np.diag([-spacing_mm[0], -spacing_mm[0], spacing_mm[1], 1.0])
    return Grid(affine, shape), affine[:3, :3] @ (np.array(shape) / 2) - aim


def _signals(rng: np.random.Generator) -> tissue.Signals:
    """LGE signals with suppressed fat and marrow, dark fluid, and valve leaflets of low contrast (thin voxels)."""
    signals = tissue.signals("LGE", rng)
    level = signals.level.copy()
    level[[tissue.FAT, tissue.MARROW]] *= rng.uniform(0.15, 0.35)
    level[[tissue.FLUID, tissue.STOMACH]] *= 0.2
    level[tissue.VALVE] = 0.85 * level[tissue.LA]
    return signals._replace(level=level)
