"""Tissues of the phantom: codes, relaxation times, classes, and the signal equation of each sequence.

Relaxation times are typical of 1.5 T, in ms (T1 native, T1 about ten minutes after gadolinium, T2). They vary randomly
between patients, so that blood and scar may have equal intensities.
"""

from typing import NamedTuple

import numpy as np

from cardiac_jax.errors import InputError

(
    AIR, LUNG, FAT, MUSCLE, LIVER, MARROW, BONE, STOMACH, FLUID, VESSEL, MYO, LV, RV, PAPILLARY, RV_WALL, OEDEMA, SCAR,
    GREY, NO_REFLOW, LA, ATRIAL_WALL, RA, PERICARDIUM, TRABECULA, SPLEEN, VALVE,
) = range(26)  # fmt: skip

SEQUENCES = ("LGE", "bSSFP", "T2", "cine")

# code: T1 native, T1 after contrast, T2, proton density, standard deviation of texture
_PROPERTIES = {
    AIR: (1000, 1000, 50, 0.0, 0.0),
    LUNG: (1100, 900, 30, 0.10, 0.35),
    FAT: (260, 250, 75, 0.90, 0.14),
    MUSCLE: (950, 520, 40, 0.75, 0.12),
    LIVER: (580, 355, 45, 0.75, 0.13),
    MARROW: (500, 420, 60, 0.60, 0.20),
    BONE: (1000, 700, 20, 0.08, 0.20),
    STOMACH: (1400, 700, 80, 0.50, 0.35),
    FLUID: (3000, 2200, 300, 0.95, 0.05),
    VESSEL: (1500, 320, 220, 0.95, 0.06),
    MYO: (1000, 450, 50, 0.80, 0.07),
    LV: (1500, 320, 240, 0.95, 0.06),
    RV: (1500, 320, 200, 0.95, 0.07),
    PAPILLARY: (1000, 450, 50, 0.80, 0.07),
    RV_WALL: (1000, 450, 50, 0.80, 0.07),
    OEDEMA: (1200, 440, 72, 0.86, 0.08),
    SCAR: (1150, 275, 68, 0.88, 0.10),
    GREY: (1100, 355, 60, 0.84, 0.10),
    NO_REFLOW: (1150, 560, 52, 0.82, 0.08),
    LA: (1500, 320, 220, 0.95, 0.07),
    ATRIAL_WALL: (1000, 420, 50, 0.75, 0.08),
    RA: (1500, 320, 200, 0.95, 0.08),
    PERICARDIUM: (1000, 600, 20, 0.25, 0.10),
    TRABECULA: (1000, 450, 50, 0.80, 0.07),
    SPLEEN: (1050, 390, 75, 0.80, 0.08),
    VALVE: (1000, 600, 30, 0.55, 0.10),
}
_BLOOD = (VESSEL, LV, RV, LA, RA)
_MUSCLE = (MYO, PAPILLARY, RV_WALL, TRABECULA)

# canonical classes: 0 background, 1 RV, 2 Myo, 3 LV, 4 oedema, 5 scar
PATHOLOGY = np.zeros(len(_PROPERTIES), np.uint8)
PATHOLOGY[[RV, TRABECULA]] = 1
PATHOLOGY[[MYO]] = 2
PATHOLOGY[[LV, PAPILLARY]] = 3
PATHOLOGY[[OEDEMA]] = 4
PATHOLOGY[[SCAR, GREY, NO_REFLOW]] = 5

STRUCTURE = np.array([0, 1, 2, 3, 2, 2], np.uint8)  # canonical class with pathology -> background, RV, Myo, LV
RAW = np.array([0, 600, 200, 500, 1220, 2221], np.int16)  # canonical class with pathology -> number in the file


class Signals(NamedTuple):
    """Signed signal and relative texture of every tissue code, `[26]` each."""

    level: np.ndarray
    texture: np.ndarray


def _inversion_recovery(t1_ms: np.ndarray, ti_ms: float, tr_ms: float) -> np.ndarray:
    """Signed longitudinal magnetisation after an inversion: 1 - 2 exp(-TI/T1) + exp(-TR/T1)."""
    return 1 - 2 * np.exp(-ti_ms / t1_ms) + np.exp(-tr_ms / t1_ms)


def _steady_state(t1_ms: np.ndarray, t2_ms: np.ndarray, tr_ms: float, flip: float) -> np.ndarray:
    """Balanced steady state at TE = TR/2: sin a (1-E1) / (1 - (E1-E2) cos a - E1 E2) exp(-TE/T2)."""
    e1, e2 = np.exp(-tr_ms / t1_ms), np.exp(-tr_ms / t2_ms)
    return np.sin(flip) * (1 - e1) / (1 - (e1 - e2) * np.cos(flip) - e1 * e2) * np.exp(-0.5 * tr_ms / t2_ms)


def signals(sequence: str, rng: np.random.Generator) -> Signals:
    """Signal of every tissue for one patient, with random relaxation times and scanner settings.

    Args:
      sequence: one of `SEQUENCES`; "cine" is bSSFP.
      rng: generator of this patient and sequence.

    Raises:
      InputError: unknown sequence.
    """
    if sequence not in SEQUENCES:
        raise InputError(sequence, f"not a sequence of the phantom; known: {', '.join(SEQUENCES)}")
    table = np.array([_PROPERTIES[code] for code in range(len(_PROPERTIES))], float)
    native, post, t2, density, texture = table.T.copy()
    jitter = np.exp(0.05 * rng.standard_normal((3, len(table))))
    blood, muscle, scar = rng.uniform(0.84, 1.10), rng.uniform(0.92, 1.10), rng.uniform(0.90, 1.12)
    post *= jitter[0]
    # T1 after contrast is common to all blood pools (SD 2 %) and to all muscular walls
    post[list(_BLOOD)] = 320 * blood * np.exp(0.02 * rng.standard_normal(len(_BLOOD)))
    post[list(_MUSCLE)] = 450 * muscle
    post[SCAR], post[GREY], post[OEDEMA] = 275 * scar, 0.5 * (275 * scar + 450 * muscle), 435 * muscle
    stomach = rng.choice([0.1, 0.5, 0.9])
    density[STOMACH] *= stomach / 0.5
    if sequence == "LGE":
        # TI is set by eye from a scout: rarely the exact null, but not so short that blood is darker than the wall.
        ti = 450 * muscle * np.log(2) * np.clip(rng.normal(1.03, 0.08), 0.96, 1.25)
        level = density * _inversion_recovery(post, ti, tr_ms=rng.uniform(1600, 2200))
        level *= np.exp(-1.5 / t2) * 2.2
    elif sequence == "T2":
        te, tr = rng.uniform(55, 80), rng.uniform(1800, 2600)
        level = density * np.exp(-te / (t2 * jitter[1])) * (1 - np.exp(-tr / native))
        level[list(_BLOOD)] *= rng.uniform(0.06, 0.22)  # black-blood preparation; slow flow keeps some signal
        level[FAT] *= rng.choice([0.25, 1.0])  # with or without fat suppression
        level *= 0.55 / level[MYO]
        texture[list(_BLOOD)] = 0.35
    else:
        flip = np.deg2rad(rng.uniform(45, 65))
        level = density * _steady_state(native * jitter[2], t2 * jitter[1], tr_ms=rng.uniform(2.8, 3.6), flip=flip)
        level[list(_BLOOD)] *= rng.uniform(1.35, 1.75)  # inflow of unsaturated blood
        level[FAT] *= 0.8
        level *= 3.0
    return Signals(level.astype(np.float32), texture.astype(np.float32))
