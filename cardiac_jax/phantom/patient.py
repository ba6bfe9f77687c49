"""The simulated patient: all random parameters of the anatomy, determined by (seed, case)."""

from typing import NamedTuple

import numpy as np

from cardiac_jax.errors import InputError

GROUPS = ("normal", "dilated", "hypertrophic", "infarct", "rv_abnormal")
ACDC_GROUP = {
    "normal": "NOR",
    "dilated": "DCM",
    "hypertrophic": "HCM",
    "infarct": "MINF",
    "rv_abnormal": "RV",
}
PHASES = ("ED", "ES")

# group: ranges of LV EDV ml, LV EF, RV EDV ml, RV EF, mean wall mm, length over diameter
_RANGES = {
    "normal": ((105, 175), (0.56, 0.70), (110, 190), (0.48, 0.62), (7.0, 9.5), (1.50, 1.80)),
    "dilated": ((190, 320), (0.15, 0.38), (120, 220), (0.25, 0.50), (6.5, 9.0), (1.25, 1.50)),
    "hypertrophic": ((85, 150), (0.60, 0.76), (95, 165), (0.48, 0.65), (10.0, 13.0), (1.50, 1.80)),
    "infarct": ((120, 230), (0.25, 0.48), (105, 185), (0.42, 0.58), (7.0, 10.0), (1.38, 1.68)),
    "rv_abnormal": ((90, 165), (0.50, 0.66), (195, 310), (0.22, 0.44), (7.0, 9.5), (1.55, 1.85)),
}
_SCAR_CHANCE = {"normal": 0.0, "dilated": 0.5, "hypertrophic": 0.7, "infarct": 1.0, "rv_abnormal": 0.5}
# numbers of the independent random streams of one case
ANATOMY, ACQUISITION, SIGNAL, NOISE, GROUPING, ATRIUM = range(6)


def generator(seed: int, *stream: int) -> np.random.Generator:
    """Independent random generator for one purpose; it depends only on the numbers given."""
    return np.random.default_rng([seed, *stream])


def group_of(seed: int, case: int) -> str:
    """Group of a case; every block of five consecutive cases contains each group once, in random order."""
    block, index = divmod(case, len(GROUPS))
    return GROUPS[generator(seed, GROUPING, block).permutation(len(GROUPS))[index]]


class Patient(NamedTuple):
    """Anatomy of one patient at end-diastole; lengths in mm, angles in radians (0 mid septum, +pi/2 anterior)."""

    seed: int
    case: int
    group: str
    edv_ml: float
    ef: float
    rv_edv_ml: float
    rv_ef: float
    wall_mm: float
    sphericity: float
    widest: float
    exponent: float
    apex_mm: float
    septal_flattening: float
    septal_bulge_mm: float
    bow_mm: tuple[float, float]
    valve_tilt: tuple[float, float]
    outflow_mm: float
    rv_start: float
    rv_angle: float
    rv_skew: float
    rv_bluntness: float
    waves: np.ndarray
    scar: str
    territory: str
    acute: bool
    trabeculation: float
    papillary: np.ndarray
    fat_mm: float
    effusion_mm: float
    axes: np.ndarray


def _axes(rng: np.random.Generator) -> np.ndarray:
    """Orthonormal axes `[3, 3]`; rows point to RV, anterior wall and base, in right-anterior-superior coordinates."""
    base = np.array([0.62, -0.58, 0.52]) + rng.normal(0, 0.09, 3)
    base /= np.linalg.norm(base)
    septal = np.array([0.80, 0.60, 0.10]) + rng.normal(0, 0.10, 3)
    septal -= septal @ base * base
    septal /= np.linalg.norm(septal)
    anterior = np.cross(base, septal)
    return np.stack([septal, anterior if anterior[2] > 0 else -anterior, base])


def _papillary(rng: np.random.Generator) -> np.ndarray:
    """Papillary muscles `[N, 6]`: rows (angle, lowest height, highest height, radius in mm, elongation, twist)."""
    rows = [(130 + rng.normal(0, 10), 4.4), (-120 + rng.normal(0, 10), 4.6)]
    rows += [(rows[n][0] + rng.choice([-26, 26]), 2.8) for n in range(2) if rng.random() < 0.6]  # a second head
    return np.array(
        [
            (
                np.deg2rad(angle),
                rng.uniform(0.10, 0.26),
                rng.uniform(0.55, 0.74),
                girth * rng.uniform(0.7, 1.25),
                rng.uniform(0.7, 1.6),
                rng.normal(0, 0.5),
            )
            for angle, girth in rows
        ],
        np.float32,
    )


def _waves(rng: np.random.Generator) -> np.ndarray:
    """Displacements that make every contour irregular, `[4, 5]`: rows (wave vector per mm, phase, amplitude in mm)."""
    vectors = rng.normal(0, 1 / 13, (4, 3)) * (1, 1, 0.4)
    phase_amplitude = np.stack([rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.7, 1.8, 4)], axis=1)
    return np.concatenate([vectors, phase_amplitude], axis=1).astype(np.float32)


def draw(seed: int, case: int, group: str | None = None) -> Patient:
    """Patient of (seed, case), with random anatomy in the ranges of the group.

    Args:
      seed, case: not negative.
      group: one of `GROUPS`; by default `group_of(seed, case)`.

    Raises:
      InputError: unknown group, or a negative seed or case.
    """
    if seed < 0 or case < 0:
        raise InputError(f"seed {seed}, case {case}", "must not be negative")
    group = group_of(seed, case) if group is None else group
    if group not in GROUPS:
        raise InputError(group, f"not a group of the phantom; known: {', '.join(GROUPS)}")
    rng = generator(seed, ANATOMY, case)
    edv, ef, rv_edv, rv_ef, wall, sphericity = (float(rng.uniform(*span)) for span in _RANGES[group])
    has_scar = rng.random() < _SCAR_CHANCE[group]
    kind = {"infarct": "ischaemic", "dilated": "midwall"}.get(group, "insertion") if has_scar else "none"
    bulge = rng.uniform(4, 9) if group == "hypertrophic" else rng.normal(0.8, 0.7)
    flattening = rng.uniform(0.12, 0.26) if group == "rv_abnormal" else rng.uniform(0.0, 0.06)
    return Patient(
        seed=seed,
        case=case,
        group=group,
        edv_ml=edv,
        ef=ef,
        rv_edv_ml=rv_edv,
        rv_ef=rv_ef,
        wall_mm=wall,
        sphericity=sphericity,
        widest=rng.uniform(0.62, 0.80),
        exponent=rng.uniform(1.9, 2.4),
        apex_mm=rng.uniform(4.5, 8.0),
        septal_flattening=flattening,
        septal_bulge_mm=bulge,
        bow_mm=(rng.normal(0, 3.0), rng.normal(0, 3.0)),
        valve_tilt=(rng.normal(0.0, 0.06), rng.normal(0.03, 0.06)),
        outflow_mm=rng.uniform(6, 13),
        rv_start=rng.uniform(0.02, 0.22),
        rv_angle=np.deg2rad(rng.uniform(62, 76)),
        rv_skew=np.deg2rad(rng.normal(-4, 8)),
        rv_bluntness=rng.uniform(1.3, 2.6),
        waves=_waves(rng),
        scar=kind,
        territory=str(rng.choice(["LAD", "RCA", "LCX"], p=[0.45, 0.33, 0.22])),
        acute=bool(rng.random() < 0.5),
        trabeculation=rng.uniform(0.4, 1.4),
        papillary=_papillary(rng),
        fat_mm=rng.uniform(1.0, 5.0),
        effusion_mm=float(rng.choice([0.0, rng.uniform(1.5, 4.0)], p=[0.8, 0.2])),
        axes=_axes(rng),
    )
