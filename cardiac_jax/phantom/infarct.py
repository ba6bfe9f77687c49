"""Enhancement of the wall: position by coronary territory or pattern, transmural extent, effect on the wall."""

from typing import NamedTuple

import numpy as np

from cardiac_jax.phantom.patient import Patient

# territory: centre angle, angular width (degrees, 0 at mid septum, +90 anterior), lowest and highest height
_TERRITORY = {"LAD": (55, 34, -0.3, 0.75), "RCA": (-75, 28, 0.15, 1.05), "LCX": (168, 28, 0.12, 1.0)}


class Scar(NamedTuple):
    """Maps over (height, angle). Depth in the wall is 0 at the endocardium and 1 at the epicardium."""

    inner: np.ndarray  # depth where the scar core begins
    outer: np.ndarray  # depth where it ends; less than `inner` where there is no scar
    border: np.ndarray  # half-thickness of the grey zone, in depth
    blocked: np.ndarray  # depth up to which the core has no reflow
    oedema: np.ndarray  # True where the wall is oedematous over its full depth
    thinning: np.ndarray  # lost fraction of the wall's thickness
    akinesia: np.ndarray  # 0 contracts, 1 does not


def bell(angle: np.ndarray, centre_deg: float, width_deg: float | np.ndarray) -> np.ndarray:
    """Periodic bell curve of an angle in radians: 1 at the centre, about exp(-1/2) at a distance of one width."""
    return np.exp((np.cos(angle - np.deg2rad(centre_deg)) - 1) / np.deg2rad(width_deg) ** 2)


def _step(value: np.ndarray, at: float, width: float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip((value - at) / width, -30, 30)))


def maps(patient: Patient, rng: np.random.Generator, t: np.ndarray, angle: np.ndarray, noise: np.ndarray) -> Scar:
    """Enhancement maps `[R, C]` of one patient.

    Args:
      patient: decides the pattern, the territory and whether an infarct is acute.
      rng: generator of this patient.
      t: heights `[R, 1]`, 0 at the apex, 1 at the base.
      angle: `[1, C]`, in radians.
      noise: `[R, C]`, unit-variance smooth noise that makes the borders irregular.
    """
    none = np.zeros(np.broadcast_shapes(t.shape, angle.shape), np.float32)
    extent, strength, offset_deg = rng.uniform(0.8, 1.5), rng.uniform(1.5, 3.2), rng.normal(0, 9)
    low, high = sorted(rng.uniform(0.1, 0.95, 2))
    if patient.scar == "ischaemic":
        centre, width, bottom, top = _TERRITORY[patient.territory]
        spread = width * extent * (1 + (1.2 * np.clip(0.35 - t, 0, 1) if patient.territory == "LAD" else 0))
        bed = (
            bell(angle, centre + offset_deg, spread)
            * _step(t, bottom, 0.05)
            * (1 - _step(t, top * rng.uniform(0.8, 1.1), 0.06))
        )
        reach = bed + 0.13 * noise * (bed > 0.08)
        # the wave front starts at the endocardium: depth increases with the distance from the edge of the territory
        outer = np.clip(strength * (reach - 0.45), -0.2, 1.2)
        inner = np.full_like(outer, -1.0)
        acute = float(patient.acute)
        blocked = np.where((outer > 0.55) & (rng.random() < 0.6), 0.62 * outer, 0.0) * acute
        oedema = (reach > 0.24) & patient.acute
        thinning = (1 - acute) * 0.42 * np.clip(1.6 * (bed - 0.3), 0, 1)
        akinesia = np.clip(1.5 * (bed - 0.25), 0, 1)
        border = none + rng.uniform(0.06, 0.16)
        inner = np.where(outer > 0, inner, 2.0)
    elif patient.scar == "midwall":  # a stripe inside the septum
        reach = bell(angle, 0 + offset_deg, 42 * extent) * _step(t, 0.2 + 0.3 * low, 0.05) + 0.2 * noise
        half = 0.24 * np.clip(reach - 0.5, 0, 1) * extent
        inner, outer = 0.48 - half, 0.48 + half
        inner = np.where(half > 0.03, inner, 2.0)
        blocked, oedema, thinning, akinesia, border = none, none > 0, none, none, none + 0.08
    elif patient.scar == "insertion":  # patches where the RV joins the septum
        where = np.maximum(bell(angle, 60 + offset_deg, 13 * extent), bell(angle, -62 + offset_deg, 13 * extent))
        reach = where * _step(t, low * 0.5, 0.05) * (1 - _step(t, high + 0.2, 0.06)) + 0.22 * noise * (where > 0.1)
        half = 0.4 * np.clip(reach - 0.42, 0, 1) * extent
        inner, outer = 0.62 - half, 0.62 + half
        inner = np.where(half > 0.03, inner, 2.0)
        blocked, oedema, thinning, akinesia, border = none, none > 0, none, none, none + 0.12
    else:
        inner, outer = none + 2, none - 1
        blocked, oedema, thinning, akinesia, border = none, none > 0, none, none, none
    inner, outer, border, blocked, thinning, akinesia = (
        np.asarray(m, np.float32) for m in (inner, outer, border, blocked, thinning, akinesia)
    )
    return Scar(inner, outer, border, blocked, oedema, thinning, akinesia)
