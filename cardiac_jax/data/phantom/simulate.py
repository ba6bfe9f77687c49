"""One simulated examination: a short-axis stack, its labels, and its high-resolution twin."""

from typing import NamedTuple

import numpy as np

from cardiac_jax.data.phantom import acquire, heart, patient, tissue, torso
from cardiac_jax.data.phantom.acquire import Grid
from cardiac_jax.errors import InputError

TWIN_MM = (1.25, 1.25, 2.0)


class Stack(NamedTuple):
    """Image and labels on one grid; `[X, Y, Z]`.

    image float32; label uint8, canonical 0..3; pathology uint8, 0..5 with 4 oedema and 5 scar (grey zone and no-reflow
    included); tissue uint8, codes of `tissue.py` in the heart and 0 elsewhere; affine to right-anterior-superior mm.
    """

    image: np.ndarray
    label: np.ndarray
    pathology: np.ndarray
    tissue: np.ndarray
    affine: np.ndarray
    spacing_mm: tuple[float, float, float]


class Exam(NamedTuple):
    """A low-resolution stack, its high-resolution twin without misalignment (None unless asked for), and the truth."""

    stack: Stack
    twin: Stack | None
    group: str
    pathology: str
    phase: str
    sequence: str
    lv_ml: float
    rv_ml: float
    myo_ml: float
    ef: float
    rv_ef: float
    scar_percent: float

    @property
    def image(self) -> np.ndarray:
        return self.stack.image

    @property
    def label(self) -> np.ndarray:
        return self.stack.label

    @property
    def affine(self) -> np.ndarray:
        return self.stack.affine


def raw_labels(pathology: np.ndarray) -> np.ndarray:
    """Canonical classes 0..5 to the numbers of MS-CMRSeg and MyoPS (200, 500, 600, 1220, 2221), int16."""
    return tissue.RAW[pathology]


def _plan(
    diastole: heart.Heart,
    spacing_mm: tuple[float, float] | None,
    size: tuple[int, int] | None,
    slices: int | None,
) -> tuple[Grid, np.ndarray]:
    """Plan the short-axis stack as a technician would: roughly square to the long axis, the heart near the middle.

    Display conventions (flips, transposition, slice order) vary. Returns the grid and the heart's centre in the
    scanner.
    """
    p = diastole.patient
    rng = patient.generator(p.seed, patient.ACQUISITION, p.case)
    in_plane = float(np.clip(rng.normal(1.22, 0.16), 0.9, 1.5))
    thickness = float(rng.choice([8.0, 9.0, 10.0]))
    if spacing_mm is not None:
        in_plane, thickness = float(spacing_mm[0]), float(spacing_mm[1])
    view, narrow = rng.uniform(215, 265), rng.uniform(0.85, 1.0)
    wide, tall = (round(view * f / in_plane / 8) * 8 for f in (1.0, narrow)) if size is None else size
    margin = rng.uniform(6, 20)
    extent = diastole.length_mm + p.apex_mm + margin
    if spacing_mm is None and slices is None and extent > 12 * thickness:
        thickness = 10.0
    count = int(np.clip(np.ceil(extent / thickness), 8, 12)) if slices is None else slices
    # heart axes as planned, a few degrees off the true ones, turned in plane
    tilt = np.deg2rad(rng.normal(0, 4, 2).clip(-9, 9))
    normal = p.axes[2] + tilt[0] * p.axes[0] + tilt[1] * p.axes[1]
    normal /= np.linalg.norm(normal)
    right = -p.axes[0] + (p.axes[0] @ normal) * normal
    right /= np.linalg.norm(right)
    down = np.cross(normal, right)
    down *= -np.sign(down @ p.axes[1])
    turn = np.deg2rad(np.clip(rng.normal(0, 11), -26, 26))
    right, down = np.cos(turn) * right + np.sin(turn) * down, np.cos(turn) * down - np.sin(turn) * right

    centre = np.array([-35.0, 20.0, 0.0]) + rng.normal(0, 18, 3)
    off = rng.normal(0, 0.045, 2).clip(-0.09, 0.09) * np.array([wide, tall]) * in_plane
    low = -p.apex_mm - rng.uniform(-0.2, 0.6) * thickness - 0.5 * diastole.length_mm  # centre of the lowest slice
    if slices is not None:
        low = -0.5 * (count - 1) * thickness + rng.uniform(-0.35, 0.35) * thickness
    flips, transpose = rng.random(3) < (0.25, 0.6, 0.5), rng.random() < 0.25
    middle = centre + off[0] * right + off[1] * down
    steps = [right * in_plane, down * in_plane, normal * thickness]
    start = middle + low * normal - 0.5 * (wide - 1) * steps[0] - 0.5 * (tall - 1) * steps[1]
    shape = [wide, tall, count]
    for axis in range(3):
        if flips[axis]:
            start, steps[axis] = start + (shape[axis] - 1) * steps[axis], -steps[axis]
    if transpose:
        steps[0], steps[1], shape[0], shape[1] = steps[1], steps[0], shape[1], shape[0]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.stack(steps, axis=1), start
    return Grid(affine, (shape[0], shape[1], shape[2])), centre


def twin_grid(grid: Grid) -> Grid:
    """The 1.25 x 1.25 x 2 mm grid that fills the same box: a slice of 10 mm is five of its planes."""
    spacing = grid.spacing_mm
    shape = tuple(round(n * s / t) for n, s, t in zip(grid.shape, spacing, TWIN_MM, strict=True))
    linear = grid.affine[:3, :3] / spacing * TWIN_MM
    corner = grid.affine[:3, 3] - 0.5 * grid.affine[:3, :3].sum(1)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, corner + 0.5 * linear.sum(1)
    return Grid(affine, (shape[0], shape[1], shape[2]))


def _stack(rendered: acquire.Rendered, image: np.ndarray, grid: Grid) -> Stack:
    spacing = tuple(float(s) for s in grid.spacing_mm)
    return Stack(
        image,
        tissue.STRUCTURE[rendered.pathology],
        rendered.pathology,
        rendered.tissue,
        grid.affine,
        (spacing[0], spacing[1], spacing[2]),
    )


def simulate(
    seed: int,
    case: int,
    sequence: str = "LGE",
    phase: str = "ED",
    group: str | None = None,
    *,
    spacing_mm: tuple[float, float] | None = None,
    size: tuple[int, int] | None = None,
    slices: int | None = None,
    misalign_mm: float = 1.6,
    snr: float | None = None,
    twin: bool = True,
) -> Exam:
    """Simulate one examination; the result depends on the arguments alone, not on how many cases are made.

    Sequences of one case share anatomy, grid and breath-hold positions, so their images are co-registered; ED and ES
    share anatomy and grid.

    Args:
      seed, case: not negative; they decide everything random.
      sequence: "LGE", "bSSFP", "T2" or "cine".
      phase: "ED" or "ES".
      group: one of `patient.GROUPS`; by default decided by (seed, case), balanced over every five consecutive cases.
      spacing_mm: (in plane, between slices); by default 0.9-1.5 and 8, 9 or 10.
      size: pixels in plane; by default a field of view of 225-275 mm.
      slices: number of slices; by default 8-12, enough for apex and base.
      misalign_mm: standard deviation of the displacement of each breath-hold; 0 for none.
      snr: of a signal of 1, about that of blood; drawn by default.
      twin: make the high-resolution twin too.

    Raises:
      InputError: unknown sequence, phase or group; size or slices below 1; spacing not positive.
    """
    if phase not in patient.PHASES:
        raise InputError(phase, f"not a phase of the phantom; known: {', '.join(patient.PHASES)}")
    if min(*(size or (1, 1)), 1 if slices is None else slices) < 1 or min(spacing_mm or (1, 1)) <= 0 or misalign_mm < 0:
        raise InputError(f"size {size}, slices {slices}, spacing {spacing_mm}", "must be positive")
    person = patient.draw(seed, case, group)
    number = tissue.SEQUENCES.index(sequence) if sequence in tissue.SEQUENCES else 0
    signals = tissue.signals(sequence, patient.generator(seed, patient.SIGNAL, case, number))
    diastole, systole = (heart.build(person, name) for name in patient.PHASES)
    beat = diastole if phase == "ED" else systole
    body = torso.build(diastole)
    grid, centre = _plan(diastole, spacing_mm, size, slices)

    held = patient.generator(seed, patient.ACQUISITION, case, 1 + patient.PHASES.index(phase))
    shift = held.normal(0, 1, (grid.shape[2], 3)) * (1, 1, 0.6)
    shift *= misalign_mm * np.where(held.random((grid.shape[2], 1)) < 0.12, 2.2, 1.0)  # now and then a poor breath-hold
    rng = patient.generator(seed, patient.NOISE, case, number, patient.PHASES.index(phase))
    snr = float(rng.uniform(9, 26) if sequence in ("LGE", "T2") else rng.uniform(18, 45)) if snr is None else snr
    gain, resolution = rng.uniform(250, 900), (rng.uniform(0.55, 0.9), rng.uniform(0.55, 0.9))
    low = acquire.render(beat, body, signals, grid, centre, shift, samples=(2, 2, 4))
    sensitivity_rng = patient.generator(seed, patient.NOISE, case, number, 2)
    sensitivity = acquire.coils(grid, centre, body, sensitivity_rng)
    image = gain * acquire.detect(low.signal * sensitivity, snr, rng, resolution)
    high = None
    if twin:
        fine = twin_grid(grid)
        still = np.zeros((fine.shape[2], 3))
        rendered = acquire.render(beat, body, signals, fine, centre, still, samples=(2, 2, 1))
        sensitivity_rng = patient.generator(seed, patient.NOISE, case, number, 2)
        sensitivity = acquire.coils(fine, centre, body, sensitivity_rng)
        high = _stack(
            rendered, gain * acquire.detect(rendered.signal * sensitivity, 1.2 * snr, rng, (0.95, 0.95)), fine
        )
    wall = np.isin(low.pathology, (2, 4, 5)).sum()
    return Exam(
        stack=_stack(low, image, grid),
        twin=high,
        group=person.group,
        pathology=person.scar
        if person.scar != "ischaemic"
        else f"{person.territory} {'acute' if person.acute else 'chronic'}",
        phase=phase,
        sequence=sequence,
        lv_ml=beat.lv_ml,
        rv_ml=beat.rv_ml,
        myo_ml=beat.myo_ml,
        ef=1 - systole.lv_ml / diastole.lv_ml,
        rv_ef=1 - systole.rv_ml / diastole.rv_ml,
        scar_percent=float(100 * (low.pathology == 5).sum() / max(wall, 1)),
    )
