"""LGE-like volumes from cine: simulated enhancement in an annotated myocardium. Host side, NumPy.

Source: ACSNet (Abramson, Popescu et al. 2020), Fig. 4, steps 2 to 5. A region of the myocardium is sampled, eroded at
random, blurred and added to the image as bright signal. Speckle noise and matching to the histogram of a random LGE
volume follow. The pipeline applies step 1, CLAHE (`data.append_clahe`). The paper does not say how the region is
sampled. Here it is a sector of the ring, transmural or subendocardial, that drifts over neighbouring slices like an
infarct. The paper also relies on the dark myocardium of cine, whose intensity ranks are higher than those of LGE. Here
the myocardium is darkened first, as by the inversion pulse that nulls it.
"""

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.special import ndtr

from cardiac_jax.data.case import Case
from cardiac_jax.data.intensity import match
from cardiac_jax.data.labels import CLASSES

MYO, LV = CLASSES.index("Myo"), CLASSES.index("LV")

WITHOUT = 0.25  # share of cases without enhancement
TRANSMURAL = 0.5  # share of transmural enhancements; the others are subendocardial
DEPTH = (0.35, 0.65)  # depth of a subendocardial enhancement: share of the wall, measured from the cavity
HALF_WIDTH_DEG = (30.0, 90.0)  # half the sector's angle about the cavity's centre, in its widest slice
TAPER = 0.4  # share of the sector's width that is lost towards both ends of its run of slices
LENGTH_MM = (30.0, 100.0)  # length of the run of slices along z; at least one slice
DRIFT_DEG_PER_MM = 0.8  # SD of the sector's rotation from slice to slice
EROSION_MM = 3.0  # largest erosion of the border; the side of the cavity is not eroded
FRAY_MM = 4.0  # SD of the Gaussian that smooths the depth of the erosion
EDGE_MM = (0.7, 1.3)  # SD of the in-plane blur
NULL_SCALE = (0.35, 0.65)  # factor on the myocardium's brightness (above the darkest voxel) that simulates nulling
BRIGHT = (0.05, 0.4)  # enhancement above blood, as a share of the contrast between blood and myocardium
NO_BLOOD = 95.0  # percentile of the image used as blood if none is annotated
SPECKLE = (0.03, 0.10)  # SD of the noise, as a share of the signal
GRAIN_MM = 1.0  # SD of the Gaussian that smooths the noise in-plane, as interpolation does


def lge_like(case: Case, references: Sequence[np.ndarray], seed: int, *, scar: int | None) -> Case:
    """Return an LGE-like version of a cine case.

    The result depends only on the arguments: the same `seed` and `case.id` give the same random numbers.

    Args:
      case: has an image "cine" `[Z, H, W]`.
      references: LGE volumes of the training set, `[Z', H', W']` of any shape; one is chosen at random.
      scar: class of enhanced myocardium; None (for data sets without such a class) keeps the label unchanged.

    Returns:
      Case `<id>_lge_like` with the single image "LGE", float32 `[Z, H, W]`. Without annotated myocardium the image is
      not enhanced, but it still gets the noise and the histogram of an LGE volume.

    Raises:
      ValueError: there is no reference, or the case has no image "cine".
    """
    if "cine" not in case.images:
        raise ValueError(f"case {case.id} has {', '.join(case.images) or 'no image'}, not cine")
    if not len(references):
        raise ValueError("no LGE volume to match the histogram to")
    rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(case.id.encode())]))
    reference = references[int(rng.integers(len(references)))]
    enhanced = rng.random() >= WITHOUT
    image = case.images["cine"].astype(np.float64)
    image -= image.min()
    label = None if case.label is None else case.label.copy()
    if label is not None and (label == MYO).any():
        wall, blood = label == MYO, label == LV
        edge_px = (0, *(rng.uniform(*EDGE_MM) / np.array(case.spacing_mm[1:])))
        dark = rng.uniform(*NULL_SCALE)
        muscle = float(np.median(image[wall]))
        level = max(muscle, float(np.median(image[blood]) if blood.any() else np.percentile(image, NO_BLOOD)))
        region = np.zeros(label.shape, bool)
        if enhanced:
            region = _erode(_region(label, case.spacing_mm, rng), blood, case.spacing_mm, rng)
        soft, cover = (gaussian_filter(mask.astype(np.float64), edge_px) for mask in (wall, region))
        image *= 1 - (1 - dark) * (soft - cover)
        cover[wall] /= soft[wall]  # the wall's edges are already blurred in the image
        image += cover * (level + rng.uniform(*BRIGHT) * (level - dark * muscle) - image)
        if scar is not None:
            label[region] = scar
    noise = gaussian_filter(rng.standard_normal(image.shape), (0, *(GRAIN_MM / np.array(case.spacing_mm[1:]))))
    image *= 1 + rng.uniform(*SPECKLE) * noise / noise.std()
    return replace(case, id=f"{case.id}_lge_like", images={"LGE": match(image, reference)}, label=label)


def _region(label: np.ndarray, spacing_mm: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    """A sector of the wall over a run of slices, bool `[Z, H, W]`; never empty."""
    held = np.flatnonzero((label == MYO).any(axis=(1, 2)))
    count = min(len(held), max(1, round(rng.uniform(*LENGTH_MM) / spacing_mm[0])))
    start = int(rng.integers(len(held) - count + 1))
    run = held[start : start + count]
    depth = 1.0 if rng.random() < TRANSMURAL else rng.uniform(*DEPTH)
    share, angle_deg = (np.stack(maps) for maps in zip(*(_wall(label[z], spacing_mm) for z in run), strict=True))
    inside = share <= (depth if (share <= depth).any() else 1.0)
    seeds = np.argwhere(inside)
    seed = tuple(seeds[rng.integers(len(seeds))])  # gives the sector's direction in the slice of this voxel
    turn_deg = np.cumsum(rng.normal(0, DRIFT_DEG_PER_MM * spacing_mm[0], count))
    centre_deg = angle_deg[seed] + turn_deg - turn_deg[seed[0]]
    off = (2 * np.arange(count) + 1) / count - 1  # position relative to the middle of the run, -1 to 1
    angle_off_deg = np.abs((angle_deg - centre_deg[:, None, None] + 180) % 360 - 180)
    half_width_deg = rng.uniform(*HALF_WIDTH_DEG) * (1 - TAPER * off**2)
    region = np.zeros(label.shape, bool)
    region[run] = inside & (angle_off_deg <= half_width_deg[:, None, None])
    return region


def _wall(label: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Depth in the wall (0 at the cavity, 1 at the epicardium, infinite off the wall) and angle (deg) of each pixel.

    The slice is `[H, W]`.
    """
    wall, cavity = label == MYO, label == LV
    position_mm = np.indices(label.shape) * np.reshape(spacing_mm[1:], (2, 1, 1))
    centre_mm = position_mm[:, cavity if cavity.any() else wall].mean(axis=1).reshape(2, 1, 1)
    out_mm = position_mm - centre_mm
    if not cavity.any():  # the apex: depth is measured from the centre
        cavity = np.hypot(*out_mm) == np.hypot(*out_mm).min()
    inner_mm = np.asarray(distance_transform_edt(~cavity, spacing_mm[1:]))
    outer_mm = _within(wall | cavity, spacing_mm)
    share = np.full(label.shape, np.inf)
    share[wall] = (inner_mm / (inner_mm + outer_mm + ~wall))[wall]
    return share, np.rad2deg(np.arctan2(out_mm[1], out_mm[0]))


def _erode(
    region: np.ndarray, blood: np.ndarray, spacing_mm: tuple[float, ...], rng: np.random.Generator
) -> np.ndarray:
    """`region` eroded in each slice by a randomly varying depth; unchanged if no pixel would be left."""
    noise = gaussian_filter(rng.standard_normal(region.shape), FRAY_MM / np.array(spacing_mm), mode="wrap")
    depth_mm = EROSION_MM * ndtr(noise / noise.std())
    eroded = np.zeros(region.shape, bool)
    for z in np.flatnonzero(region.any(axis=(1, 2))):
        border_mm = _within(region[z] | blood[z], spacing_mm)
        eroded[z] = region[z] & (border_mm > depth_mm[z])
    return eroded if eroded.any() else region


def _within(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Distance (mm) of each pixel of `[H, W]` to the nearest pixel off the mask; outside the image is off the mask."""
    return np.asarray(distance_transform_edt(np.pad(mask, 1), spacing_mm[1:]))[1:-1, 1:-1]
