"""`HEART`, the spec of LV, myocardium and RV; maps are label maps, the check is that of VITAL (`heart_check.py`)."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cardiac_jax.anatomy import heart_check, wall_check
from cardiac_jax.anatomy.heart_check import DEFAULT, Limits
from cardiac_jax.anatomy.heart_measure import RV_REACH_PX, Measured, measure
from cardiac_jax.anatomy.spec import TAIL, AnatomySpec, at_least, percentile
from cardiac_jax.anatomy.tidy import LV, MYO, RV, tidied
from cardiac_jax.anatomy.validity import batched_limits, batches
from cardiac_jax.core.types import Array
from cardiac_jax.data.labels import CLASSES, IN_WALL, roles, wall_labels
from cardiac_jax.losses.overlap import dice, one_hot, overlap
from cardiac_jax.losses.pixelwise import cross_entropy

POCKET_MM, OUTSIDE_MM = float(wall_check.DEFAULT.pocket_mm), float(wall_check.DEFAULT.outside_mm)
_WALL = ("Myo", *IN_WALL)
PIXEL_MM = (float(DEFAULT.rv_concavity_mm) / RV_REACH_PX, 3.0)  # finer: the RV's concavity saturates below its limit


def tuned(gold: Measured, restored: Measured) -> Limits:
    """Return limits that one per cent of the gold standards violate each; none is stricter than the default.

    Lengths and circularities are tuned over the slices that have the structure. Holes, disconnected components and
    forbidden contacts of the LV are errors in any slice, so their limits are not tuned.

    Args:
      gold: measurements of the gold standards.
      restored: not used.
    """
    myo, lv, rv = gold.myo_px > 0, gold.lv_px > 0, gold.rv_px > 0

    def most(name: str, among: Array) -> float:
        return at_least(getattr(DEFAULT, name), percentile(getattr(gold, name)[np.asarray(among)], 100 - TAIL))

    def least(name: str, among: Array, measure: str = "") -> float:
        found = np.asarray(getattr(gold, measure or name))[np.asarray(among)]
        return -at_least(-getattr(DEFAULT, name), -percentile(found, TAIL))

    return DEFAULT._replace(
        rv_gap_mm=most("rv_gap_mm", rv & myo),
        rv_concavity_mm=most("rv_concavity_mm", rv),
        myo_concavity_mm=most("myo_concavity_mm", myo),
        lv_concavity_mm=most("lv_concavity_mm", lv),
        myo_circularity=least("myo_circularity", myo),
        lv_circularity=least("lv_circularity", lv),
        least_wall_mm2=least("least_wall_mm2", myo, "myo_mm2"),
        least_area_mm2=least("least_area_mm2", myo, "heart_mm2"),
        least_pool_mm2=least("least_pool_mm2", lv, "lv_mm2"),
        least_rv_mm2=least("least_rv_mm2", rv, "rv_mm2"),
    )


def redrawn(labels: np.ndarray, drawn: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return the slice `labels [H, W]` with the heart of the map `drawn`; oedema and scar are kept inside its wall."""
    known, inside = roles(classes), wall_labels(classes)
    out = np.where(np.isin(labels, (known["rv"], *inside, known["lv"])), 0, labels)
    for label, name in ((RV, "rv"), (MYO, "myo"), (LV, "lv")):
        out[drawn == label] = known[name]
    kept = (drawn == MYO) & np.isin(labels, inside)
    out[kept] = labels[kept]
    return out.astype(labels.dtype)


def _slices(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    return _take(labels, values(classes))


def _itself(maps: np.ndarray) -> np.ndarray:
    return maps


def _completed(maps: np.ndarray, former: np.ndarray, spacing_mm: float, limits: Limits) -> np.ndarray:
    return maps


def _tidied(maps: np.ndarray, spacing_mm: float, limits: Limits, close_mm: float) -> np.ndarray:
    return tidied(maps, spacing_mm, POCKET_MM, OUTSIDE_MM, close_mm)


def values(classes: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the label values of RV, wall and LV, one tuple each."""
    known = roles(classes)
    return [(known["rv"],), wall_labels(classes), (known["lv"],)]


def _take(labels: np.ndarray, values: Sequence[Sequence[int]]) -> np.ndarray:
    out = np.zeros(labels.shape, np.uint8)
    for label, group in zip((RV, MYO, LV), values, strict=True):
        out[np.isin(labels, group)] = label
    return out


def _core(maps: Array) -> Array:
    """The wall; in a slice without wall, all structures."""
    wall = maps == MYO
    return wall | ((maps > 0) & ~wall.any((-2, -1), keepdims=True))


def _encoded(maps: Array) -> Array:
    return one_hot(maps.astype(jnp.int32), len(CLASSES))


def _drawn(logits: Array) -> Array:
    best, label = logits[..., 0], jnp.zeros(logits.shape[:-1], jnp.uint8)
    for k in range(1, logits.shape[-1]):  # argmax is not vectorised
        label, best = jnp.where(logits[..., k] > best, jnp.uint8(k), label), jnp.maximum(best, logits[..., k])
    return label


def _cross(logits: Array, shape: Array) -> Array:
    return cross_entropy(logits, shape.astype(jnp.int32))


def _overlap(logits: Array, shape: Array) -> Array:
    return 1.0 - dice(overlap(jax.nn.softmax(logits), shape.astype(jnp.int32)))[1:].mean()


def _check(maps: Array, spacing_mm: float, limits: Limits) -> Array:
    return heart_check.check(maps, spacing_mm, limits).valid


def _measure(maps: Array, spacing_mm: float) -> Measured:
    return measure(maps, spacing_mm, DEFAULT.mouth_mm)


def _judge(measured: Measured, limits: Limits) -> Array:
    return heart_check.judge(measured, limits).valid


def _passes(maps: np.ndarray, spacing_mm: float, limits: Limits) -> np.ndarray:
    of = batched_limits(limits, len(maps))
    parts = [np.asarray(_check(jnp.asarray(batch), spacing_mm, of(start))) for start, batch in batches(maps)]
    return np.concatenate([np.zeros(0, bool), *parts])[: len(maps)]


def _divided(logits: Array, region: Array) -> Mapping[str, Array]:
    """Softmax of the logits, each a log-odds against background: argmax picks the largest positive logit."""
    shares = jax.nn.softmax(jnp.concatenate([jnp.zeros_like(logits[..., :1]), logits], -1))
    return dict(zip(("background", "Myo", "LV", "RV"), jnp.moveaxis(shares, -1, 0), strict=True))


HEART = AnatomySpec(
    name="heart",
    outputs=(_WALL, ("LV",), ("RV",)),
    localiser_classes=(*_WALL, "LV", "RV"),
    required_classes=("Myo", "LV", "RV"),
    drawn_classes=("Myo", "LV", "RV"),
    channels=len(CLASSES),
    default_limits=DEFAULT,
    pixel_mm=PIXEL_MM,
    label_values=values,
    to_maps=_take,
    centring_mask=_core,
    encode=_encoded,
    decode=_drawn,
    cross_entropy=_cross,
    dice_loss=_overlap,
    check=_check,
    measure=_measure,
    judge=_judge,
    tune_limits=tuned,
    to_slices=_slices,
    shape_of=_itself,
    completed=_completed,
    tidied=_tidied,
    is_valid=_passes,
    to_labels=redrawn,
    to_probabilities=_divided,
)
