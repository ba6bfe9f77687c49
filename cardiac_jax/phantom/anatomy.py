"""Tissue of points in the heart, in heart coordinates in mm: a to the RV, b to the anterior wall, s apex to base."""

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from cardiac_jax.phantom import atrium, tissue
from cardiac_jax.phantom.heart import COLUMNS, ROWS, T0, T1, Heart
from cardiac_jax.phantom.patient import Patient

NOISE_SIZE = 96  # of the periodic texture volume, in voxels of 1 mm
OUTSIDE = atrium.OUTSIDE


@lru_cache(maxsize=1)
def texture_volume() -> np.ndarray:
    """Periodic unit-variance noise of two scales, `[96, 96, 96]` float32; patients use different offsets."""
    white = np.random.default_rng(7).standard_normal((2, NOISE_SIZE, NOISE_SIZE, NOISE_SIZE)).astype(np.float32)
    fine, coarse = (gaussian_filter(w, sigma, mode="wrap") for w, sigma in zip(white, (1.3, 3.5), strict=True))
    return 0.75 * fine / fine.std() + 0.66 * coarse / coarse.std()


def texture(x: np.ndarray, y: np.ndarray, z: np.ndarray, offset: int) -> np.ndarray:
    """Texture `[...]` at points with coordinates `x`, `y`, `z` in mm, looked up in the texture volume."""
    shift = 40 * NOISE_SIZE  # keeps the indices positive, where truncation equals floor
    at = [(c + shift).astype(np.int32) + offset * m % NOISE_SIZE for c, m in ((x, 1), (y, 3), (z, 7))]
    i, j, k = (n - n // NOISE_SIZE * NOISE_SIZE for n in at)  # the remainder, in a third of the time
    return np.take(texture_volume(), (i * NOISE_SIZE + j) * NOISE_SIZE + k)


def _ellipsoid(a, b, s, centre, radii) -> np.ndarray:
    """Squared normalised distance from the centre of an ellipsoid; below 1 inside."""
    return ((a - centre[0]) / radii[0]) ** 2 + ((b - centre[1]) / radii[1]) ** 2 + ((s - centre[2]) / radii[2]) ** 2


def _great_vessels(heart: Heart, code, a, b, s, height) -> None:
    """Write atria, aortic root and pulmonary trunk into `code` above the valves, in place."""
    above = height > heart.length_mm
    p, top = heart.patient, heart.length_mm
    r0 = float(heart.endo[int((1 - T0) / (T1 - T0) * (ROWS - 1))].mean())
    k = np.flatnonzero(height > top - 16)
    if not len(k):
        return
    a, b, s, above = a[k], b[k], s[k], above[k]
    new = code[k]
    grow = 1.1 if p.group in ("dilated", "infarct") else 1.0
    left = _ellipsoid(a, b, s, (-5, -7, top + 21), (1.05 * r0 * grow, 0.85 * r0 * grow, 25 * grow))
    right = _ellipsoid(a, b, s, (1.75 * r0, -10, top + 19), (25, 26, 24))
    free = above | np.isin(new, (tissue.FAT, tissue.PERICARDIUM, OUTSIDE))
    for distance, blood in ((right, tissue.RA), (left, tissue.LA)):
        new = np.where(free & above & (distance < 1.16), tissue.ATRIAL_WALL, new)
        new = np.where(free & above & (distance < 1.0), blood, new)
    # pulmonary veins drain from the lateral side, above and below
    for side in (-14, 12):
        vein = (b + 7 - side) ** 2 + (s - top - 28) ** 2
        new = np.where((a < -0.6 * r0) & (a > -2.4 * r0) & (vein < 36) & free, tissue.LA, new)
    root = np.hypot(a - 0.45 * r0 - 0.12 * (s - top), b - 0.30 * r0 - 0.10 * (s - top))
    trunk = np.hypot(a - 0.95 * r0 + 0.25 * (s - top), b - 1.15 * r0 - 0.10 * (s - top))
    for distance, radius, start in ((trunk, 12.0, 0.0), (root, 13.5, -6.0)):
        here = (s > top + start) & free
        new = np.where(here & (distance < radius + 1.5), tissue.ATRIAL_WALL, new)
        new = np.where(here & (distance < radius), tissue.VESSEL, new)
    code[k] = new


def classify(heart: Heart, a: np.ndarray, b: np.ndarray, s: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Tissue code of every point, `[N]` uint8; `OUTSIDE` beyond the pericardium.

    Args:
      heart: one phase of one patient.
      a, b, s: heart coordinates in mm, `[N]` float32.
      noise: unit-variance texture at the points, `[N]`.
    """
    p, length = heart.patient, heart.length_mm
    drift = [w[4] * np.sin(w[0] * a + w[1] * b + w[2] * s + w[3]) for w in p.waves]
    a, b = a + drift[0] + drift[1], b + drift[2] + drift[3]
    t = s / length
    height = s + (p.valve_tilt[0] * a + p.valve_tilt[1] * b) * np.clip(t, 0, 1)
    sway = 4 * (np.clip(t, -0.3, 1.3) - 0.5) ** 2 - 0.5
    ca, cb = a - p.bow_mm[0] * sway, b - p.bow_mm[1] * sway
    r = np.hypot(ca, cb)
    column = ((np.arctan2(cb, ca) + np.pi) * (COLUMNS / (2 * np.pi)) + 0.5).astype(np.int32) % COLUMNS
    row = np.clip((height / length - T0) * ((ROWS - 1) / (T1 - T0)) + 0.5, 0, ROWS - 1).astype(np.int32)
    at = row * COLUMNS + column
    envelope = np.take(heart.envelope, at)
    inside = (r < envelope) & (height < length * (T1 - 0.05)) & (height > length * (T0 + 0.02))
    code = np.full(a.shape, OUTSIDE, np.uint8)
    code[inside & (r > envelope - 1.3 - p.effusion_mm)] = tissue.FLUID if p.effusion_mm else tissue.PERICARDIUM
    code[inside & (r > envelope - 1.3)] = tissue.PERICARDIUM
    code[inside & (r <= envelope - 1.3 - p.effusion_mm)] = tissue.FAT

    epi, rv, rv_wall = (np.take(m, at) for m in (heart.epi, heart.rv, heart.rv_wall))
    ventricle = inside & (height <= length)
    code[ventricle & (r < rv_wall)] = tissue.RV_WALL
    cavity = ventricle & (r >= epi) & (r < rv)
    code[cavity] = tissue.RV
    free = rv - r
    lace = (noise > 1.05) & ((free < 8 * p.trabeculation) | (t < 0.35))
    band = (np.abs(t - 0.35) < 0.04) & (np.abs(cb + 6 - 0.15 * ca) < 2.6)  # moderator band
    code[cavity & (lace | band)] = tissue.TRABECULA

    below = height <= heart.base_mm[column]
    ring = ventricle & (r < epi)
    code[ring & ~below] = tissue.FAT
    code[ring & below] = tissue.MYO
    endo = np.take(heart.endo, at)
    _enhance(heart, code, np.flatnonzero(ring & below & (r >= endo)), at, r, endo, epi, noise)
    pool = ventricle & (r < endo) & (height > 0)
    code[pool] = tissue.LV
    depth = endo - r
    lace = (noise > 0.7 + 0.25 * depth / p.trabeculation + 1.2 * np.clip(t - 0.6, 0, 1)) & (depth < 6 * p.trabeculation)
    code[pool & lace] = tissue.PAPILLARY
    rest = np.flatnonzero(pool & ~lace)
    code[rest[_papillary(p, ca[rest], cb[rest], t[rest], endo[rest])]] = tissue.PAPILLARY
    if heart.atrium is None:
        _great_vessels(heart, code, a, b, s, height)
    else:
        atrium.paint(heart.atrium, p, length, code, a, b, s, height, noise)
    leaflet = (r < endo) & (height > length) & (height < length + 2.0)
    code[leaflet & ((code == tissue.LA) | (code == tissue.VESSEL) | (code == tissue.FAT))] = tissue.VALVE
    return code


def _papillary(p: Patient, a: np.ndarray, b: np.ndarray, t: np.ndarray, endo: np.ndarray) -> np.ndarray:
    """Mask `[N]` of points in the papillary muscles, near the anterolateral and posteromedial wall."""
    inside = np.zeros(t.shape, bool)
    for angle, low, high, radius, stretch, twist in p.papillary:
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        girth = radius * np.sqrt(np.clip(1 - ((t - middle) / half) ** 2, 0, 1))
        stand = np.maximum(endo - 0.9 * girth * stretch - 5.0 * np.clip(t - 0.3, 0, 1), 0.4 * endo)
        turn = angle + twist * (t - middle)
        along, across = a * np.cos(turn) + b * np.sin(turn) - stand, b * np.cos(turn) - a * np.sin(turn)
        inside |= (along / stretch) ** 2 + across**2 < girth**2
    return inside


def _enhance(heart: Heart, code, wall, at, r, endo, epi, noise) -> None:
    """Write oedema, scar, grey zone and no-reflow into the points `wall` (indices) of `code`, in place."""
    scar = heart.scar
    if heart.patient.scar == "none" or not len(wall):
        return
    cell = at[wall]
    depth = (r[wall] - endo[wall]) / np.maximum(epi[wall] - endo[wall], 1) + 0.07 * noise[wall]
    inner, outer, border = (np.take(m, cell) for m in (scar.inner, scar.outer, scar.border))
    new = np.where(np.take(scar.oedema, cell), tissue.OEDEMA, tissue.MYO)
    new = np.where((depth > inner - border) & (depth < outer + border), tissue.GREY, new)
    core = (depth > inner) & (depth < outer)
    new = np.where(core, tissue.SCAR, new)
    new = np.where(core & (depth > 0.10) & (depth < np.take(scar.blocked, cell)), tissue.NO_REFLOW, new)
    code[wall] = new
