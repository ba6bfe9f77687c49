"""Ultrasound physics of the phantom: backscatter of tissues, speckle, artefacts of one setting, log compression.

All maps `[R, A, E]` are in beam coordinates (`sector.Beams`); amplitudes are relative to that of healthy myocardium.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from cardiac_jax.phantom import tissue
from cardiac_jax.phantom.sector import Beams

BLOOD_DB = -34.0
# backscatter relative to myocardium; a tissue that the heart does not hold is as myocardium
_DECIBEL = {
    tissue.FAT: -5.0, tissue.FLUID: -40.0, tissue.VESSEL: BLOOD_DB, tissue.LV: BLOOD_DB, tissue.RV: BLOOD_DB,
    tissue.LA: BLOOD_DB, tissue.RA: BLOOD_DB, tissue.RV_WALL: 0.0, tissue.SCAR: 3.0, tissue.GREY: 1.5,
    tissue.ATRIAL_WALL: 2.0, tissue.PERICARDIUM: 9.0, tissue.TRABECULA: -3.0, tissue.VALVE: -3.0,
}  # fmt: skip
AMPLITUDE = np.array([10 ** (_DECIBEL.get(code, 0.0) / 20) for code in range(26)], np.float32)
BLACK, WHITE = 1.0, 255.0  # grey levels of the weakest and of the strongest echo; 0 is outside the field of view


class Psf(NamedTuple):
    """Standard deviations of the point-spread function (amplitude, Gaussian): axial in mm at the transducer, angular in
    radians; both widen with depth as `Beams` does."""

    axial_mm: float
    angle: float

    def samples(self, grid: Beams) -> tuple[float, float, float]:
        """Standard deviations along `[R, A, E]` in samples."""
        lateral = self.angle / grid.angle
        return self.axial_mm / grid.axial_mm, lateral, lateral


class Shadow(NamedTuple):
    """Sector behind a rib or the lung.

    Attributes:
      azimuth, elevation, half: centre and half widths (azimuth, elevation) in radians.
      from_mm: distance at which it begins.
      decibel: loss in it, positive.
    """

    azimuth: float
    elevation: float
    half: tuple[float, float]
    from_mm: float
    decibel: float


class Setting(NamedTuple):
    """Machine and acoustic window of one patient, the same at ED and ES.

    Attributes:
      psf: of the transducer.
      gain_db: overall gain; with 0 the mean echo of myocardium is `PEAK_DB` below white.
      range_db: displayed dynamic range.
      attenuation_db_mm: attenuation that the time gain compensation leaves.
      bands_db: errors of the sliders of the time gain compensation, at equal distances from near to far.
      noise_db: electronic noise at 100 mm relative to myocardium; it grows by `noise_growth_db_mm` with depth.
      clutter_db: reverberation at the transducer relative to myocardium, and its decay length in mm.
      haze_db: side lobes, relative to the echoes around.
      dropout: direction in the aperture (radians; 0 lateral, pi / 2 anterior), angle from the axis at which it begins
        (radians), loss in dB.
      shadows: of ribs and lung.
      wedges_db: gains of the four beats of which a volume is stitched, from low to high elevation.
    """

    psf: Psf
    gain_db: float
    range_db: float
    attenuation_db_mm: float
    bands_db: tuple[float, ...]
    noise_db: float
    noise_growth_db_mm: float
    clutter_db: float
    clutter_mm: float
    haze_db: float
    dropout: tuple[float, float, float]
    shadows: tuple[Shadow, ...]
    wedges_db: tuple[float, ...]


PEAK_DB = 19.0


def draw(rng: np.random.Generator, azimuth: float, elevation: float, depth_mm: float) -> Setting:
    """Random setting for a sector of these half angles (radians) and this depth."""
    ribs = []
    for side in (-1, 1):
        if rng.random() < 0.45:  # a rib or the lung at the edge of the window, along the elevation
            inwards = rng.uniform(0.0, 0.28) * azimuth
            far = rng.uniform(0.7, 1.6)
            place = (side * (1.1 * azimuth - inwards), rng.uniform(-0.4, 0.4) * elevation)
            ribs.append(Shadow(*place, (0.22 * azimuth, far * elevation), rng.uniform(5, 30), rng.uniform(9, 22)))
    if rng.random() < 0.4:  # lung in front of the anterior or the inferior wall
        side = rng.choice([-1, 1])
        place = (rng.uniform(-0.5, 0.7) * azimuth, side * rng.uniform(0.95, 1.1) * elevation)
        ribs.append(Shadow(*place, (0.5 * azimuth, 0.25 * elevation), rng.uniform(15, 50), rng.uniform(8, 20)))
    return Setting(
        psf=Psf(rng.uniform(0.55, 0.75), np.deg2rad(rng.uniform(0.8, 1.15))),
        gain_db=rng.normal(0, 2.5),
        range_db=rng.uniform(48, 60),
        attenuation_db_mm=rng.uniform(0.0, 0.06),
        bands_db=tuple(rng.normal(0, 1.5, 8)),
        noise_db=rng.uniform(-40, -29),
        noise_growth_db_mm=rng.uniform(0.08, 0.2),
        clutter_db=rng.uniform(2, 8),
        clutter_mm=rng.uniform(8, 15),
        haze_db=rng.uniform(-30, -22),
        dropout=(np.deg2rad(rng.normal(20, 35)), rng.uniform(0.25, 0.5) * azimuth, rng.uniform(8, 22)),
        shadows=tuple(ribs),
        wedges_db=tuple(rng.normal(0, 0.7, 4)),
    )


def speckle(amplitude: np.ndarray, sigma: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """Complex echo `[2, R, A, E]` (real, imaginary) of fully developed speckle.

    White circular Gaussian scatterers with standard deviation `amplitude [R, A, E]` are convolved with a Gaussian of
    `sigma` samples that is scaled to unit power: where the amplitude is constant, the envelope is Rayleigh with mean
    square amplitude^2 and coefficient of variation sqrt(4 / pi - 1) = 0.523.
    """
    scatterers = rng.standard_normal((2, *amplitude.shape), np.float32)
    scatterers *= np.float32(np.sqrt(0.5)) * amplitude
    power = np.prod([1 / (2 * np.sqrt(np.pi) * s) for s in sigma])  # of the kernel, sum of its squares
    return gaussian_filter(scatterers, (0, *sigma), truncate=3.0) / np.float32(np.sqrt(power))


def transmission_db(grid: Beams, setting: Setting, patches: np.ndarray) -> np.ndarray:
    """Gain of the echoes in dB, `[R, A, E]` float32: attenuation, sliders, drop-out, shadows, wedges, directivity.

    Args:
      patches: smooth unit-variance noise `[R, A, E]`, which makes drop-out patchy.
    """
    r = grid.distance_mm()[:, None, None]
    azimuth, elevation = grid.angles()
    azimuth, elevation = azimuth[:, None], elevation[None, :]
    knots = np.linspace(grid.sector.near_mm, grid.sector.far_mm, len(setting.bands_db))
    along = np.interp(r, knots, setting.bands_db) - setting.attenuation_db_mm * (r - 0.5 * grid.sector.far_mm)
    across = 60 * np.log10(np.cos(azimuth) * np.cos(elevation))  # elements send less to the side
    edges = np.linspace(-1, 1, len(setting.wedges_db) + 1)[1:-1] * grid.sector.elevation
    across = across + np.asarray(setting.wedges_db)[np.searchsorted(edges, elevation)]
    gain = (along + across).astype(np.float32)
    towards, begin, loss = setting.dropout
    side = np.cos(towards) * azimuth + np.sin(towards) * elevation
    share = _step((side - begin) / (0.8 * begin))
    gain -= np.float32(loss) * np.clip(share * (1 + 0.35 * patches), 0, 1.3).astype(np.float32)
    gain -= 4 * np.clip(patches - 0.8, 0, 1.5).astype(np.float32)
    for shadow in setting.shadows:
        u = np.abs(azimuth - shadow.azimuth) / shadow.half[0]
        v = np.abs(elevation - shadow.elevation) / shadow.half[1]
        inside = _step((1.15 - np.hypot(u, v)) / 0.3)
        gain -= np.float32(shadow.decibel) * (inside * _step((r - shadow.from_mm) / 8)).astype(np.float32)
    return gain


def echoes(amplitude: np.ndarray, grid: Beams, setting: Setting, rng: np.random.Generator) -> np.ndarray:
    """Complex echo `[2, R, A, E]` of backscatter `amplitude [R, A, E]` with all artefacts of the setting.

    Transmission acts on the echoes of tissue and on side lobes, not on the noise of the receiver or on reverberation
    near the transducer.
    """
    r = grid.distance_mm()[:, None, None].astype(np.float32)
    sigma = setting.psf.samples(grid)
    heard = amplitude * from_db(transmission_db(grid, setting, smooth_noise(amplitude.shape, rng)))
    lobes = gaussian_filter(np.square(heard), (sigma[0], 6 * sigma[1], 6 * sigma[2]), truncate=2.0)
    lobes *= np.float32(10 ** (setting.haze_db / 10))
    hiss = np.square(from_db(setting.noise_db + setting.noise_growth_db_mm * (r - 100)))
    echo = speckle(np.sqrt(np.square(heard) + lobes + hiss), sigma, rng)
    near = int(np.searchsorted(r[:, 0, 0], 6 * setting.clutter_mm))
    rings = 1 + 0.5 * np.sin(r[:near] * (2 * np.pi / 6.5))  # reverberation between transducer and chest wall
    clutter = from_db(setting.clutter_db) * np.exp(-r[:near] / setting.clutter_mm) * rings
    wide = (1.2 * sigma[0], 2.5 * sigma[1], 2.5 * sigma[2])
    echo[:, :near] += speckle(np.broadcast_to(clutter, (near, *amplitude.shape[1:])), wide, rng)
    return echo


def smooth_noise(shape: tuple[int, ...], rng: np.random.Generator, cells: int = 9) -> np.ndarray:
    """Smooth unit-variance noise `[R, A, E]` float32, correlated over about `1 / cells` of each axis."""
    coarse = gaussian_filter(rng.standard_normal((cells,) * 3).astype(np.float32), 0.7, mode="wrap")
    out = coarse / coarse.std()
    for axis, n in enumerate(shape):
        at = np.linspace(0, cells - 1, n)
        low = np.minimum(at.astype(int), cells - 2)
        weight = (at - low).astype(np.float32)
        weight = (weight * weight * (3 - 2 * weight)).reshape([-1 if d == axis else 1 for d in range(3)])
        out = np.take(out, low, axis) * (1 - weight) + np.take(out, low + 1, axis) * weight
    return out


def compress(envelope: np.ndarray, gain_db: float, range_db: float) -> np.ndarray:
    """Grey levels `BLACK` to `WHITE` (float32) of an envelope: its logarithm over the displayed dynamic range."""
    decibel = 20 * np.log10(np.maximum(envelope, 1e-6)) + gain_db - PEAK_DB
    share = np.clip(1 + decibel / range_db, 0, 1)
    return (BLACK + (WHITE - BLACK) * share).astype(np.float32)


def from_db(decibel: np.ndarray | float) -> np.ndarray:
    """Amplitude ratio of decibels, float32."""
    return np.power(10, np.asarray(decibel, np.float32) / 20, dtype=np.float32)


def _step(x: np.ndarray) -> np.ndarray:
    """Smooth step from 0 at x = 0 to 1 at x = 1."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
