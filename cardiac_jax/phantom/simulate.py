"""One simulated examination: a short-axis stack, its label maps and its high-resolution twin; or a cine of a beat."""

from typing import Any, NamedTuple

import numpy as np

from cardiac_jax.errors import InputError
from cardiac_jax.phantom import acquire, heart, patient, tissue, torso
from cardiac_jax.phantom.acquire import Grid
from cardiac_jax.phantom.plan import Protocol, short_axis, twin_grid

SAMPLES = (2, 2, 4)  # sub-samples of a voxel along its axes
SENSITIVITY, FRAMES = 2, 10  # noise streams: 0 ED, 1 ES, 2 coil sensitivities, FRAMES + n other frame n of a cine
BETWEEN = (2, 2, 2)  # sub-samples in the cine frames other than ED and ES


class Stack(NamedTuple):
    """Image and label maps on one grid, `[X, Y, Z]` each.

    Attributes:
      image: float32.
      label: uint8, canonical classes 0..3.
      pathology: uint8, 0..5, with 4 oedema and 5 scar (grey zone and no-reflow included).
      tissue: uint8, codes of `tissue.py` in the heart and 0 elsewhere.
      affine: voxel indices to right-anterior-superior mm, `[4, 4]`.
    """

    image: np.ndarray
    label: np.ndarray
    pathology: np.ndarray
    tissue: np.ndarray
    affine: np.ndarray
    spacing_mm: tuple[float, float, float]


class Exam(NamedTuple):
    """A low-resolution stack, its high-resolution twin without misalignment, and the true parameters.

    Attributes:
      twin: None if it was not requested.
      phase: "ED" or "ES"; None for other frames of a beat.
      lv_ml, rv_ml, myo_ml: true volumes in this frame.
      ef, rv_ef: true ejection fractions, 0 to 1.
      scar_percent: scar as a percentage of the wall of the stack's label map.
    """

    stack: Stack
    twin: Stack | None
    group: str
    pathology: str
    phase: str | None
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
    """Label map in the numbers of MS-CMRSeg and MyoPS (200, 500, 600, 1220, 2221), int16, of canonical classes 0..5."""
    return tissue.RAW[pathology]


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
    thickness: float = 1.0,
    misalign_mm: float = 1.6,
    snr: float | None = None,
    base_first: bool = False,
    twin: bool = True,
    acute: bool | None = None,
) -> Exam:
    """Simulate one examination; the result depends on the arguments only, not on the number of cases.

    Sequences of one case share anatomy, grid and breath-hold positions, so that their images are co-registered. ED and
    ES are two frames of one beat and share anatomy, grid, breath-holds and scanner settings.

    Args:
      seed, case: not negative; they determine all random numbers.
      sequence: "LGE", "bSSFP", "T2" or "cine".
      phase: "ED" or "ES".
      group: one of `patient.GROUPS`; by default `patient.group_of`, balanced over every five consecutive cases.
      spacing_mm, size, slices, thickness, misalign_mm, snr, base_first: see `plan.Protocol`.
      twin: whether to simulate the high-resolution twin.
      acute: whether an infarct is acute (oedema) or chronic (thin wall); random by default.

    Raises:
      InputError: unknown sequence, phase or group; negative seed or case; a value that `Protocol.checked` rejects.
    """
    if phase not in patient.PHASES:
        raise InputError(phase, f"not a phase of the phantom; known: {', '.join(patient.PHASES)}")
    protocol = Protocol(spacing_mm, size, slices, thickness, misalign_mm, snr, base_first).checked()
    person = patient.draw(seed, case, group)
    person = person if acute is None else person._replace(acute=acute)
    contraction = float(phase == "ES")
    ends = (heart.build(person, 0.0), heart.build(person, 1.0))
    return _expose(ends, sequence, protocol, contraction, frame=patient.PHASES.index(phase), twin=twin)


def end_systole(frames: int) -> int:
    """Index of the end-systolic frame of a beat whose frame 0 is end-diastole."""
    return max(1, round(0.36 * frames))


def cine(seed: int, case: int, frames: int, group: str | None = None, **protocol: Any) -> list[Exam]:
    """Frames of one beat; 0 and `end_systole(frames)` equal `simulate` for "cine" at "ED" and "ES", without twins.

    Args:
      seed, case, group: as in `simulate`.
      frames: number of frames, at least 4.
      protocol: fields of `plan.Protocol`.

    Raises:
      InputError: as `simulate`; fewer than 4 frames.
    """
    if frames < 4:
        raise InputError(f"{frames} frames", "a beat needs at least 4")
    chosen = Protocol(**protocol).checked()
    person, systole = patient.draw(seed, case, group), end_systole(frames)
    ends = (heart.build(person, 0.0), heart.build(person, 1.0))
    exams = []
    for n in range(frames):
        key = {0: 0, systole: 1}.get(n, FRAMES + n)
        exams.append(_expose(ends, "cine", chosen, _contraction(n, systole, frames), frame=key, twin=False))
    return exams


def _contraction(n: int, systole: int, frames: int) -> float:
    """Ejected fraction of the stroke volume at frame `n`: ejection, early filling, diastasis, atrial kick."""
    if n <= systole:
        return float(np.sin(0.5 * np.pi * n / systole) ** 2)
    rest = (n - systole) / (frames - systole)
    early, late = (np.clip((rest - start) / 0.4, 0, 1) for start in (0.05, 0.65))
    return float(1 - 0.75 * np.sin(0.5 * np.pi * early) ** 2 - 0.25 * np.sin(0.5 * np.pi * late) ** 2)


def _expose(
    ends: tuple[heart.Heart, heart.Heart],
    sequence: str,
    protocol: Protocol,
    contraction: float,
    *,
    frame: int,
    twin: bool,
) -> Exam:
    """Examination at one moment of the beat, of a heart in diastole and systole, the `ends` of it.

    `frame` is its noise stream: 0 ED, 1 ES, `FRAMES` and above others.
    """
    diastole, systole = ends
    person = diastole.patient
    seed, case = person.seed, person.case
    number = tissue.SEQUENCES.index(sequence) if sequence in tissue.SEQUENCES else 0
    signals = tissue.signals(sequence, patient.generator(seed, patient.SIGNAL, case, number))
    beat = {0.0: diastole, 1.0: systole}.get(contraction) or heart.build(person, contraction)
    body = torso.build(diastole)
    grid, centre = short_axis(diastole, protocol)

    held = patient.generator(seed, patient.ACQUISITION, case, 1)
    shift = held.normal(0, 1, (grid.shape[2], 3)) * (1, 1, 0.6)
    poor = held.random((grid.shape[2], 1)) < 0.12  # an occasional poor breath-hold
    shift *= protocol.misalign_mm * np.where(poor, 2.2, 1.0)
    rng = patient.generator(seed, patient.NOISE, case, number, 0)
    snr_range = (9, 26) if sequence in ("LGE", "T2") else (18, 45)
    snr = float(rng.uniform(*snr_range)) if protocol.snr is None else protocol.snr
    gain, resolution = rng.uniform(250, 900), (rng.uniform(0.55, 0.9), rng.uniform(0.55, 0.9))
    rng = rng if frame == 0 else patient.generator(seed, patient.NOISE, case, number, frame)
    samples = SAMPLES if frame < FRAMES else BETWEEN
    low = acquire.render(beat, body, signals, grid, centre, shift, samples, thickness=protocol.thickness)
    sensitivity_rng = patient.generator(seed, patient.NOISE, case, number, SENSITIVITY)
    sensitivity = acquire.coils(grid, centre, body, sensitivity_rng)
    image = gain * acquire.detect(low.signal * sensitivity, snr, rng, resolution)
    high = None
    if twin:
        fine = twin_grid(grid)
        still = np.zeros((fine.shape[2], 3))
        rendered = acquire.render(beat, body, signals, fine, centre, still, samples=(2, 2, 1))
        sensitivity_rng = patient.generator(seed, patient.NOISE, case, number, SENSITIVITY)
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
        phase=patient.PHASES[frame] if frame < FRAMES else None,
        sequence=sequence,
        lv_ml=beat.lv_ml,
        rv_ml=beat.rv_ml,
        myo_ml=beat.myo_ml,
        ef=1 - systole.lv_ml / diastole.lv_ml,
        rv_ef=1 - systole.rv_ml / diastole.rv_ml,
        scar_percent=float(100 * (low.pathology == 5).sum() / max(wall, 1)),
    )
