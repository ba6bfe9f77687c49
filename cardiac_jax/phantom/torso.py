"""The torso around the heart: chest wall, ribs, fat, lungs, diaphragm, abdominal organs, aorta and spine."""

from typing import NamedTuple

import numpy as np

from cardiac_jax.phantom import tissue
from cardiac_jax.phantom.heart import COLUMNS, ROWS, T0, T1, Heart
from cardiac_jax.phantom.patient import ANATOMY, generator

AORTA_FRONT_MM = 49.0  # distance of the descending aorta's front from the inner chest wall at the back


class Torso(NamedTuple):
    """Torso of one patient, in right-anterior-superior mm about the centre of the diastolic left ventricle."""

    midline: float
    centre_y: float
    half_width: float
    half_depth: float
    fat: float
    muscle: float
    diaphragm: tuple[float, float, float]  # height under the heart, slopes to the right and forward
    dome: float
    liver_edge: float
    stomach: tuple[float, float, float]
    fat_pad: float
    bowel: float
    waves: np.ndarray  # [6, 5] of (kx, ky, kz, phase, amplitude)
    rib_phase: float
    lean: float = 0.0  # displacement of the spine to the right, away from the aorta


def _surface(heart: Heart) -> np.ndarray:
    """Points on the heart's envelope `[N, 3]`, in right-anterior-superior mm about the diastolic centre."""
    row, column = np.meshgrid(
        np.arange(40, int((1.05 - T0) / (T1 - T0) * ROWS), 8), np.arange(0, COLUMNS, 16), indexing="ij"
    )
    radius = heart.envelope[row, column]
    angle = column * (2 * np.pi / COLUMNS) - np.pi
    s = (row / (ROWS - 1) * (T1 - T0) + T0) * heart.length_mm - 0.5 * heart.diastolic_length_mm
    local = np.stack([radius * np.cos(angle), radius * np.sin(angle), s], axis=-1).reshape(-1, 3)
    return local @ heart.patient.axes


def build(heart: Heart) -> Torso:
    """Torso around a heart, placed such that the heart touches the chest wall and rests on the diaphragm.

    Args:
      heart: at end-diastole for every imaged phase, because the torso does not move with the beat.
    """
    p = heart.patient
    rng = generator(p.seed, ANATOMY, p.case, 2)
    half_width, half_depth = rng.uniform(155, 190), rng.uniform(108, 128)
    fat, muscle = rng.gamma(4.0, 3.5) + 4, rng.uniform(9, 15)
    midline = rng.uniform(28, 48)
    surface = _surface(heart)
    inner_width, inner_depth = half_width - fat - muscle, half_depth - fat - muscle
    reach = np.clip(1 - np.abs((surface[:, 0] - midline) / inner_width) ** 2.3, 0, 1) ** (1 / 2.3)
    centre_y = float(np.max(surface[:, 1] - inner_depth * reach)) + rng.uniform(-4, 7)
    lowest = surface[surface[:, 2] < np.quantile(surface[:, 2], 0.15)]
    slope_y = rng.uniform(-0.45, -0.1)
    slope_x = rng.uniform(0.05, 0.35)
    under = float(np.min(lowest[:, 2] - slope_x * lowest[:, 0] - slope_y * lowest[:, 1])) + rng.uniform(0, 9)
    waves = np.concatenate(
        [rng.normal(0, 1 / 30, (6, 3)), rng.uniform(0, 2 * np.pi, (6, 1)), rng.uniform(1.2, 4.5, (6, 1))],
        axis=1,
    )
    return Torso(
        midline=midline,
        centre_y=centre_y,
        half_width=half_width,
        half_depth=half_depth,
        fat=fat,
        muscle=muscle,
        diaphragm=(under, slope_x, slope_y),
        dome=rng.uniform(15, 40),
        liver_edge=rng.uniform(-45, 5),
        stomach=(rng.uniform(-75, -50), rng.uniform(-25, 15), rng.uniform(28, 46)),
        fat_pad=rng.uniform(0.0, 1.0),
        bowel=rng.uniform(0.2, 1.0),
        waves=waves.astype(np.float32),
        rib_phase=rng.uniform(0, 2 * np.pi),
    )


def classify(body: Torso, x: np.ndarray, y: np.ndarray, z: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Tissue code `[...]` uint8 of points in the torso, without the heart.

    Args:
      x, y, z: right, anterior and superior of the heart's centre in mm, `[...]` each.
      noise: unit-variance texture at the points, `[...]`; its high values become vessels.
    """
    shift = [w[4] * np.sin(w[0] * x + w[1] * y + w[2] * z + w[3]) for w in body.waves]
    x, y, z = x + shift[0] + shift[3], y + shift[1] + shift[4], z + shift[2] + shift[5]
    u, v = x - body.midline, y - body.centre_y
    rho = ((np.abs(u) / body.half_width) ** 2.3 + (np.abs(v) / body.half_depth) ** 2.3) ** (1 / 2.3) + 1e-6
    depth = np.hypot(u, v) * (1 / rho - 1)  # radial distance below the skin
    # fat is thick in front and at the flanks, thin over the spine
    fat = body.fat * (0.75 + 0.35 * np.clip(v / body.half_depth, -1, 1) + 0.25 * (u / body.half_width) ** 2)
    wall = fat + body.muscle
    back = -body.half_depth + wall + 10

    level = body.diaphragm[0] + body.diaphragm[1] * x + body.diaphragm[2] * y
    level += body.dome * np.exp(-(((u - 65) / 60) ** 2) - ((v + 10) / 70) ** 2) - 0.004 * np.clip(-v - 20, 0, 200) ** 2
    under = level - z

    code = np.full(x.shape, tissue.LUNG, np.uint8)
    code[(noise > 2.0) & (depth > wall + 15)] = tissue.VESSEL
    middle = (np.abs(u) < 20 + 5 * np.sin(z / 17)) & (v > -55)
    code[middle] = tissue.FAT
    code[middle & (noise > 1.2)] = tissue.VESSEL
    code[np.hypot(u - 28, v - 5) < 10] = tissue.VESSEL  # caval vein
    # fat pad in the corner between heart, diaphragm and chest wall
    pad = (depth - wall) / (5 + 14 * body.fat_pad) - under / (22 + 14 * body.fat_pad) + 0.25 * noise
    pad = (pad < 1.0) & (v > 15) & (under < 0)
    code[pad] = tissue.FAT

    belly = under > 0
    code[belly] = tissue.FAT
    # loops of bowel and the spleen fill the left upper abdomen
    loops = np.sin(x / 9 + shift[1]) * np.sin(y / 11 + shift[3]) * np.sin(z / 10 + shift[5])
    code[belly & (under > 6) & (loops > 0.32 - 0.5 * body.bowel)] = tissue.MUSCLE
    code[belly & (under > 6) & (loops > 0.5 - 0.5 * body.bowel)] = tissue.STOMACH
    liver = belly & (x > body.liver_edge + 0.25 * y - 0.2 * under)
    code[liver] = tissue.LIVER
    code[liver & (noise > 1.9)] = tissue.VESSEL
    sx, sy, sr = body.stomach
    stomach = ((x - sx) / (1.25 * sr)) ** 2 + ((y - sy) / sr) ** 2 + ((under - sr - 4) / sr) ** 2
    code[belly & (stomach < 1.25)] = tissue.MUSCLE
    code[belly & (stomach < 1.0)] = tissue.STOMACH
    spleen = ((x - sx + 20) / 38) ** 2 + ((y - sy + 50) / 45) ** 2 + ((under - 42) / 42) ** 2
    code[belly & (spleen < 1)] = tissue.SPLEEN
    code[(under > -1.5) & (under < 1.5)] = tissue.MUSCLE

    aorta = np.hypot(u + 18, v - back - 26)
    code[aorta < 13] = tissue.ATRIAL_WALL
    code[aorta < 11.5] = tissue.VESSEL
    spine = np.hypot((u - body.lean) / 1.15, v - back - 6)
    disc = np.sin(z * (2 * np.pi / 34)) > 0.8
    code[spine < 19] = tissue.BONE
    code[spine < 17.5] = tissue.MARROW
    code[(spine < 17.5) & disc] = tissue.MUSCLE

    code[depth < wall] = tissue.MUSCLE
    in_wall = (depth - fat) / body.muscle
    rib = np.sin((z + 0.3 * np.abs(u) + 0.1 * v) * (2 * np.pi / 31) + body.rib_phase)
    rib_here = (in_wall > 0.35) & (in_wall < 1.0) & (np.abs(u) > 14)
    code[rib_here & (rib > 0.15)] = tissue.BONE
    code[rib_here & (rib > 0.42) & (in_wall > 0.42) & (in_wall < 0.93)] = tissue.MARROW
    code[(np.abs(u) <= 14) & (in_wall > 0.2) & (in_wall < 1.1) & (v > 0)] = tissue.MARROW
    code[depth < fat] = tissue.FAT
    code[depth < 2] = tissue.MUSCLE
    canal = np.hypot(u - body.lean, v + body.half_depth - wall + 20)
    code[canal < 7] = tissue.FLUID
    code[depth < 0] = tissue.AIR
    return code
