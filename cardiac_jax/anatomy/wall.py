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
from cardiac_jax.anatomy.tidy import LV, MYO, tidied, wall_of, with_pool
from cardiac_jax.anatomy.validity import PIXEL_MM, failures
from cardiac_jax.anatomy.wall_check import DEFAULT, Limits, Measured
from cardiac_jax.core.types import Array
from cardiac_jax.data.labels import IN_WALL, roles, wall_labels
from cardiac_jax.losses.overlap import Overlap, dice

OPEN = 5  # smallest number of open slices of the gold standards from which the limits of the opening are tuned


def tuned(gold: Measured, restored: Measured) -> Limits:
    """Return limits that one per cent of the gold standards violate each.

    No limit except circularity is stricter than the default. Circularity is raised to the first percentile of the gold
    standards or of their reconstructions, whichever is lower, because the autoencoder must be able to produce masks
    that pass. Several components and holes are errors in any slice, so their limits are not tuned. The limits of the
    opening are the third quartile of the open slices in one piece, if there are `OPEN` of them and it is stricter.

    Args:
      gold: measurements of the gold standards.
      restored: measurements of their reconstructions by the autoencoder.
    """
    circularity = min(percentile(measured.circularity, TAIL) for measured in (gold, restored))
    thickness = percentile(gold.thickness_mm, TAIL)
    opening_mm, one = np.asarray(gold.opening_mm), np.asarray(gold.objects) == 1
    is_open = np.asarray(gold.is_c_shaped, bool) & one & (opening_mm >= DEFAULT.opening_mm)

    def widest(name: str, default: float) -> float:
        found = np.asarray(getattr(gold, name))[is_open]
        return min(default, percentile(found, 75)) if len(found) >= OPEN else default

    def smallest(name: str, default: float, among: Array | None = None) -> float:
        found = np.asarray(getattr(gold, name))
        return -at_least(-default, -percentile(found if among is None else found[np.asarray(among, bool)], TAIL))

    return DEFAULT._replace(
        circularity=at_least(float(DEFAULT.circularity), circularity),
        endo_concavity_mm=at_least(float(DEFAULT.endo_concavity_mm), percentile(gold.endo_concavity_mm, 100 - TAIL)),
        epi_concavity_mm=at_least(float(DEFAULT.epi_concavity_mm), percentile(gold.epi_concavity_mm, 100 - TAIL)),
        thickness_mm=min(float(DEFAULT.thickness_mm), thickness) if np.isfinite(thickness) else DEFAULT.thickness_mm,
        mean_wall_mm=at_least(float(DEFAULT.mean_wall_mm), percentile(gold.mean_wall_mm, 100 - TAIL)),
        area_mm2=at_least(float(DEFAULT.area_mm2), percentile(gold.filled_mm2, 100 - TAIL)),
        widest_opening_mm=widest("opening_mm", float(DEFAULT.widest_opening_mm)),
        widest_opening=widest("opening_ratio", float(DEFAULT.widest_opening)),
        least_wall_mm2=smallest("wall_mm2", float(DEFAULT.least_wall_mm2)),
        least_area_mm2=smallest("filled_mm2", float(DEFAULT.least_area_mm2)),
        least_pool_mm2=smallest("cavity_mm2", float(DEFAULT.least_pool_mm2), gold.has_cavity),
    )


def redrawn(labels: np.ndarray, slice_map: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return the slice `labels [H, W]` with the wall and the pool of `slice_map`.

    Oedema and scar are kept inside the wall. The pool has no other label. Without a class for the pool, or with a bool
    slice map, nothing lies in what the wall encloses.
    """
    known = roles(classes)
    inside = wall_labels(classes)
    mask = wall_of(slice_map)
    out = np.where(np.isin(labels, inside) & ~mask, 0, labels)
    out[mask & ~np.isin(labels, inside)] = known["myo"]
    if "lv" in known:
        out[out == known["lv"]] = 0
    if slice_map.dtype == bool:
        out[ndimage.binary_fill_holes(mask) & ~mask] = 0
    else:
        out[slice_map == LV] = known["lv"]
    return out.astype(labels.dtype)


def _slices(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    wall, known = np.isin(labels, wall_labels(classes)), roles(classes)
    if "lv" not in known:
        return wall
    return np.where(wall, MYO, np.where(labels == known["lv"], LV, 0)).astype(np.uint8)


def _completed(walls: np.ndarray, former: np.ndarray, spacing_mm: float, limits: Limits) -> np.ndarray:
    return with_pool(walls.astype(bool), former, spacing_mm, float(limits.pocket_mm), float(limits.outside_mm))


def _tidied(maps: np.ndarray, spacing_mm: float, limits: Limits, close_mm: float) -> np.ndarray:
    return tidied(maps, spacing_mm, float(limits.pocket_mm), float(limits.outside_mm), close_mm)


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


def _passes(maps: np.ndarray, spacing_mm: float, limits: Limits) -> np.ndarray:
    pools = None if maps.dtype == bool else maps == LV
    return np.asarray(~failures(wall_of(maps), spacing_mm, limits, pools).any(1))


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
    to_slices=_slices,
    shape_of=wall_of,
    completed=_completed,
    tidied=_tidied,
    is_valid=_passes,
    to_labels=redrawn,
    to_probabilities=_divided,
)
