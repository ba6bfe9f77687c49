"""`WALL`, the spec of the myocardium alone (Abramson, Popescu et al. 2020); maps are masks, see `wall_check.py`."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import ndimage

from cardiac_jax.anatomy import wall_check
from cardiac_jax.anatomy.cavity import cavity
from cardiac_jax.anatomy.spec import TAIL, AnatomySpec, at_least, percentile
from cardiac_jax.anatomy.validity import FRAME, PIXEL_MM, STEP, failures
from cardiac_jax.anatomy.wall_check import DEFAULT, Limits, Measured
from cardiac_jax.core.types import Array
from cardiac_jax.data.labels import IN_WALL, roles, wall_labels
from cardiac_jax.losses.overlap import Overlap, dice


def tuned(gold: Measured, restored: Measured) -> Limits:
    """Return limits that one per cent of the gold standards violate each.

    No limit except circularity is stricter than the default. Circularity is raised to the first percentile of the gold
    standards or of their reconstructions, whichever is lower, because the autoencoder must be able to produce masks
    that pass. Several components and holes are errors in any slice, so their limits are not tuned.

    Args:
      gold: measurements of the gold standards.
      restored: measurements of their reconstructions by the autoencoder.
    """
    circularity = min(percentile(measured.circularity, TAIL) for measured in (gold, restored))
    thickness = percentile(gold.thickness_mm, TAIL)
    return DEFAULT._replace(
        circularity=at_least(float(DEFAULT.circularity), circularity),
        endo_concavity_mm=at_least(float(DEFAULT.endo_concavity_mm), percentile(gold.endo_concavity_mm, 100 - TAIL)),
        epi_concavity_mm=at_least(float(DEFAULT.epi_concavity_mm), percentile(gold.epi_concavity_mm, 100 - TAIL)),
        thickness_mm=min(float(DEFAULT.thickness_mm), thickness) if np.isfinite(thickness) else DEFAULT.thickness_mm,
        mean_wall_mm=at_least(float(DEFAULT.mean_wall_mm), percentile(gold.mean_wall_mm, 100 - TAIL)),
        area_mm2=at_least(float(DEFAULT.area_mm2), percentile(gold.filled_mm2, 100 - TAIL)),
    )


def redrawn(labels: np.ndarray, mask: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return the slice `labels [H, W]` with `mask` as its myocardium.

    Oedema and scar are kept inside `mask`. The blood pool is the region enclosed by the wall. For an open wall it also
    contains the largest component of the former ventricle (LV and wall) in the wall's convex hull, without dents of the
    contour, if it is larger than the enclosed region. The pool has no other label.
    """
    known = roles(classes)
    inside = wall_labels(classes)
    out = np.where(np.isin(labels, inside) & ~mask, 0, labels)
    out[mask & ~np.isin(labels, inside)] = known["myo"]
    if "lv" in known:
        out[out == known["lv"]] = 0
        out[_pool(mask, np.isin(labels, (known["lv"], *inside)))] = known["lv"]
    else:
        out[ndimage.binary_fill_holes(mask) & ~mask] = 0
    return out.astype(labels.dtype)


def _pool(mask: np.ndarray, ventricle: np.ndarray) -> np.ndarray:
    """The cavity of a wall, bool `[H, W]`, by the same rule as in prediction (`cavity.py`).

    The slice is cropped to wall and ventricle and padded to a frame of few sizes, so that few programs are compiled.
    """
    out = np.zeros(mask.shape, bool)
    if not mask.any():
        return out
    box = tuple(slice(i.min(), i.max() + 1) for i in np.nonzero(mask | ventricle))
    height, width = mask[box].shape
    frame = max(FRAME, -(-max(height, width) // STEP) * STEP)
    padded = np.zeros((2, 1, frame, frame), bool)
    padded[0, 0, :height, :width], padded[1, 0, :height, :width] = mask[box], ventricle[box]
    out[box] = np.asarray(_cavity(*map(jnp.asarray, padded)))[0, :height, :width]
    return out


_cavity = jax.jit(cavity)


def _take(labels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    return np.isin(labels, values)


def _core(masks: Array) -> Array:
    return masks


def _encoded(masks: Array) -> Array:
    return (masks != 0).astype(jnp.float32)[..., None]


def _drawn(logits: Array) -> Array:
    return logits[..., 0] > 0


def _cross(logits: Array, shape: Array) -> Array:
    return optax.sigmoid_binary_cross_entropy(logits[..., 0], shape).mean()


def _overlap(logits: Array, shape: Array) -> Array:
    found = jax.nn.sigmoid(logits[..., 0])
    return 1.0 - dice(Overlap(*(jnp.sum(v)[None] for v in (found * shape, found, shape))))[0]


def _check(masks: Array, spacing_mm: float, limits: Limits) -> Array:
    return wall_check.check(masks, spacing_mm, limits).valid


def _judge(measured: Measured, limits: Limits) -> Array:
    return wall_check.judge(measured, limits).valid


def _passes(masks: np.ndarray, spacing_mm: float, limits: Limits) -> np.ndarray:
    return np.asarray(~failures(masks, spacing_mm, limits).any(1))


def _divided(logits: Array, region: Array) -> Mapping[str, Array]:
    """Probabilities of the wall, of the cavity that it surrounds, and of the background."""
    wall = jax.nn.sigmoid(logits[..., 0])
    flat = (-1, *wall.shape[2:])
    pool = cavity((wall > 0.5).reshape(flat), (region > 0).reshape(flat)).reshape(wall.shape)
    return {"Myo": wall, "LV": (1 - wall) * pool, "background": (1 - wall) * ~pool}


WALL = AnatomySpec(
    name="wall",
    outputs=(("Myo", *IN_WALL),),
    localiser_classes=("Myo", *IN_WALL, "LV"),
    required_classes=("Myo", "LV"),
    drawn_classes=("Myo",),
    channels=1,
    default_limits=DEFAULT,
    pixel_mm=PIXEL_MM,
    label_values=wall_labels,
    to_maps=_take,
    centring_mask=_core,
    encode=_encoded,
    decode=_drawn,
    cross_entropy=_cross,
    dice_loss=_overlap,
    check=_check,
    measure=wall_check.measure,
    judge=_judge,
    tune_limits=tuned,
    is_valid=_passes,
    to_labels=redrawn,
    to_probabilities=_divided,
)
