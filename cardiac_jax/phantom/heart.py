"""The beating heart as maps over (height, angle).

Every surface of the ventricles is a radius about the bowed long axis of the left ventricle, tabulated over height (apex
to atria) and angle, so that one table look-up classifies a point. Contraction is solved for the target ejection
fraction.
"""

from copy import deepcopy
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from cardiac_jax.phantom import infarct
from cardiac_jax.phantom.atrium import Atrium
from cardiac_jax.phantom.patient import ANATOMY, Patient, generator

ROWS, COLUMNS = 320, 512  # heights t in [T0, T1], angles in [-pi, pi)
T0, T1 = -0.35, 1.75
T = np.linspace(T0, T1, ROWS)[:, None]
ANGLE = (np.arange(COLUMNS) * (2 * np.pi / COLUMNS) - np.pi)[None, :]


class Heart(NamedTuple):
    """One phase of one patient. Maps `[ROWS, COLUMNS]` hold radii in mm; heights in mm from the endocardial apex."""

    patient: Patient
    length_mm: float
    diastolic_length_mm: float
    endo: np.ndarray
    epi: np.ndarray
    rv: np.ndarray
    rv_wall: np.ndarray
    envelope: np.ndarray
    scar: infarct.Scar
    base_mm: np.ndarray  # [COLUMNS] height where the myocardium ends
    lv_ml: float
    rv_ml: float
    myo_ml: float
    atrium: Atrium | None = None  # None: the simple atria of the short-axis phantom


def smooth_noise(rng: np.random.Generator, sigma: tuple[float, float]) -> np.ndarray:
    """Unit-variance noise `[ROWS, COLUMNS]`, periodic in both axes, smoothed by a Gaussian of `sigma` cells."""
    spectrum = np.fft.rfft2(rng.standard_normal((ROWS, COLUMNS)))
    rows, columns = np.fft.fftfreq(ROWS)[:, None] * sigma[0], np.fft.rfftfreq(COLUMNS)[None, :] * sigma[1]
    noise = np.fft.irfft2(spectrum * np.exp(-2 * np.pi**2 * (rows**2 + columns**2)), (ROWS, COLUMNS))
    return noise / noise.std()


@lru_cache(maxsize=2)
def _noises(seed: int, case: int) -> tuple[list[np.ndarray], np.random.Generator]:
    """Noise maps of the surfaces and of the scar, the same in every phase, and the generator that goes on from there.

    Neither may be changed: phases and sequences of a patient follow one another and share them.
    """
    rng = generator(seed, ANATOMY, case, 1)
    maps = [smooth_noise(rng, sigma) for sigma in (*((s, 1.2 * s) for s in (22, 26, 24, 20)), (10, 12))]
    return maps, rng


def _profile(t: np.ndarray, widest: float, exponent: float) -> np.ndarray:
    """Radius of an egg over height: tip at t = 0, radius 1 at the widest height, slightly narrower at the base."""
    below = np.clip((widest - t) / widest, 0, 1)
    above = np.clip((t - widest) / (1 - widest), 0, 2)
    return (1 - below**exponent) ** (1 / exponent) * (1 - 0.10 * above**2)


def volume_ml(inner_mm: np.ndarray | float, outer_mm: np.ndarray, heights_mm: np.ndarray, below: np.ndarray) -> float:
    """Volume in ml between two radius maps where `below` is True: the integral of (outer^2 - inner^2)/2."""
    area = 0.5 * (np.square(outer_mm) - np.square(inner_mm)) * below
    step = (heights_mm[1, 0] - heights_mm[0, 0]) * 2 * np.pi / COLUMNS
    return float(area.sum() * step / 1000)


def _solve(function, target: float, low: float, high: float) -> float:
    """Root of an increasing function by 30 bisections."""
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if function(middle) < target else (low, middle)
    return 0.5 * (low + high)


def _right_ventricle(patient: Patient) -> np.ndarray:
    """Thickness of the RV cavity over (height, angle), up to a factor: a crescent on the septum, wide at the base."""
    rise = np.clip((T - patient.rv_start) / (0.9 - patient.rv_start), 0, 1)
    height = rise**0.7 * (1 - 0.25 * np.clip((T - 0.9) / 0.4, 0, 1) ** 2)
    half = patient.rv_angle * (0.55 + 0.45 * rise**0.5)
    skew = patient.rv_skew + np.deg2rad(14) * np.clip((T - 0.75) / 0.4, 0, 1)
    turn = np.clip(np.abs(ANGLE - skew) / half, 0, 1)
    return height * (1 - turn**patient.rv_bluntness) ** 0.8


def build(patient: Patient, contraction: float) -> Heart:
    """Heart of a patient at one moment of the beat.

    Args:
      patient: from `patient.draw`.
      contraction: 0 at end-diastole, 1 at end-systole; the volumes change linearly with it.
    """
    (roughness, thickness_noise, rv_noise, fat_noise, scar_noise), rng = _noises(patient.seed, patient.case)
    scar = infarct.maps(patient, deepcopy(rng), T, ANGLE, scar_noise)

    profile = _profile(T, patient.widest, patient.exponent)
    flat = 1 - patient.septal_flattening * infarct.bell(ANGLE, 0, 43)
    shape = profile * flat * (1 + 0.035 * roughness)
    inside = (T >= 0) & (T <= 1)
    factor = volume_ml(0.0, shape * np.ones_like(ANGLE), 2 * patient.sphericity * T, inside) * 1000
    radius = (patient.edv_ml * 1000 / factor) ** (1 / 3)
    length = 2 * patient.sphericity * radius
    endo = radius * shape

    wall = patient.wall_mm * (
        1 + 0.09 * thickness_noise - 0.10 * infarct.bell(ANGLE, 180, 46) + 0.12 * (np.clip(T, 0, 1) - 0.5)
    )
    wall = wall + patient.septal_bulge_mm * infarct.bell(ANGLE, 20, 40) * np.clip(T / 0.5, 0, 1)
    wall = np.maximum(wall * (1 - scar.thinning), 3.2)
    tip = patient.apex_mm / length
    outer = _profile((T + tip) / (1 + tip), patient.widest, patient.exponent)
    epi = np.maximum(outer * (radius * flat * (1 + 0.035 * roughness) + wall), np.where(T > 0, endo + 0.6 * wall, 0))

    diastolic_length, descent = length, 1.0
    if contraction:
        descent = 1 - contraction * 0.16 * patient.ef / 0.6  # about 14 mm at end-systole in healthy hearts
        motion = np.maximum(1 - 0.85 * scar.akinesia, 0.1) * (1 - 0.12 * infarct.bell(ANGLE, 0, 40))
        target = (1 - contraction * patient.ef) * patient.edv_ml
        heights = descent * length * T

        def contract(k):
            return endo * np.maximum(1 - k * motion, 0.16)

        k = _solve(lambda k: -volume_ml(0.0, contract(k), heights, inside), -target, 0.0, 1.5)
        systolic = contract(k)
        epi = np.where(T > 0, np.sqrt(systolic**2 + np.maximum(epi**2 - endo**2, 0) / descent), epi)
        endo = systolic
    length *= descent
    heights = length * T
    epi = gaussian_filter1d(gaussian_filter1d(epi, 1.5, axis=0, mode="nearest"), 2, axis=1, mode="wrap")

    crescent = _right_ventricle(patient) * (1 + 0.12 * rv_noise)
    rv_target = patient.rv_edv_ml * (1 - contraction * patient.rv_ef)
    rv_span = (T > 0) & (T <= 1.0)
    k = _solve(lambda k: volume_ml(epi, epi + k * crescent, heights, rv_span), rv_target, 0.0, 150.0)
    rv = epi + np.maximum(k * crescent, 0)
    rv_wall = np.where(rv > epi + 0.5, rv + (1 - contraction) * 2.3 + contraction * 3.2, epi)
    if patient.group == "rv_abnormal":
        rv_wall = np.where(rv > epi + 0.5, rv_wall + 1.2, epi)

    # fat fills the grooves between the ventricles and is thicker towards the base
    hull = maximum_filter1d(rv_wall, 15, axis=1, mode="wrap")
    hull = np.maximum(gaussian_filter1d(hull, 9, axis=1, mode="wrap"), rv_wall)
    fat = patient.fat_mm * np.clip(0.55 + 0.5 * fat_noise, 0.1, 2.5) * (0.5 + 0.9 * np.clip(T, 0, 1.2))
    fade = np.clip((T + 1.6 * tip) / (1.6 * tip), 0, 1)
    envelope = (hull + fat) * fade**0.5
    outflow = patient.outflow_mm * infarct.bell(ANGLE, 32, 24)
    base = length - outflow[0]
    below_base = heights <= base[None, :]
    endo32, epi32, rv32, wall32, envelope32 = (
        m.astype(np.float32) for m in (endo * (T > 0), epi, rv, rv_wall, envelope)
    )
    return Heart(
        patient,
        length,
        diastolic_length,
        endo32,
        epi32,
        rv32,
        wall32,
        envelope32,
        scar,
        base.astype(np.float32),
        volume_ml(0.0, endo, heights, inside),
        volume_ml(epi, rv, heights, rv_span),
        volume_ml(endo * (T > 0), epi, heights, below_base),
    )
