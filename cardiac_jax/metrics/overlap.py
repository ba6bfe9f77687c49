"""Overlap of two label maps: Dice = 2 TP / (2 TP + FP + FN) and Jaccard = TP / (TP + FP + FN), per class.

A class absent from both maps has no overlap: NaN, to be excluded and counted. Absent from one only: 0.
Balanced accuracy, the mean of sensitivity and specificity, also counts the voxels that both leave out; it is NaN
where the truth has no voxel of the class, or no other voxel, since one of its halves is then undefined.
Voxels whose truth is 255 were not annotated and count for nothing, whatever is predicted there.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiac_jax.core.types import IGNORE


class Counts(NamedTuple):
    """Voxels per class, all of one shape (`[K]` or `[B, K]`), NumPy or JAX."""

    true_positive: np.ndarray | jax.Array
    false_positive: np.ndarray | jax.Array
    false_negative: np.ndarray | jax.Array


def counts(pred: np.ndarray, truth: np.ndarray, classes: Sequence[int], ignore: int = IGNORE) -> Counts:
    """Exact counts on the host.

    Args:
      pred, truth: `[*S]` integer label maps of one shape.
      classes: the K classes to count.

    Returns:
      Counts of int64 `[K]`.

    Raises:
      ValueError: the shapes differ.
    """
    if pred.shape != truth.shape:
        raise ValueError(f"prediction {pred.shape} and truth {truth.shape} differ in shape")
    known = truth != ignore
    pred, truth = pred[known], truth[known]
    both = [np.count_nonzero((pred == k) & (truth == k)) for k in classes]
    predicted = [np.count_nonzero(pred == k) for k in classes]
    actual = [np.count_nonzero(truth == k) for k in classes]
    tp = np.asarray(both, np.int64)
    return Counts(tp, np.asarray(predicted, np.int64) - tp, np.asarray(actual, np.int64) - tp)


def counts_per_class(pred: jax.Array, truth: jax.Array, classes: Sequence[int], ignore: int = IGNORE) -> Counts:
    """The same for a batch, inside a compiled step: `[B, *S]` label maps -> Counts of int32 `[B, K]`.

    Counts of slices add up: summed over the slices of a patient, their ratio is the Dice of the volume.
    """
    wanted = jnp.asarray(classes).reshape((1,) * pred.ndim + (-1,))
    known = (truth != ignore)[..., None]
    in_pred = (pred[..., None] == wanted) & known
    in_truth = (truth[..., None] == wanted) & known
    axes = tuple(range(1, pred.ndim))

    def total(mask: jax.Array) -> jax.Array:
        return jnp.sum(mask, axis=axes, dtype=jnp.int32)

    return Counts(total(in_pred & in_truth), total(in_pred & ~in_truth), total(~in_pred & in_truth))


def dice_of(counts: Counts) -> np.ndarray:
    """Dice from NumPy counts, same shape, float64; NaN where a class is in neither map."""
    tp, fp, fn = (np.asarray(c, np.float64) for c in counts)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def jaccard_of(counts: Counts) -> np.ndarray:
    """Jaccard index from NumPy counts, same shape, float64; NaN where a class is in neither map."""
    tp, fp, fn = (np.asarray(c, np.float64) for c in counts)
    return _ratio(tp, tp + fp + fn)


def balanced_accuracy_of(counts: Counts, voxels: int | np.ndarray) -> np.ndarray:
    """Balanced accuracy from NumPy counts, same shape, float64; NaN where all or none of the truth is the class.

    Args:
      counts: of `voxels` voxels each.
      voxels: annotated voxels of the volume (all but those to ignore), broadcastable against the counts.

    Raises:
      ValueError: there are more counts than voxels.
    """
    tp, fp, fn = (np.asarray(c, np.float64) for c in counts)
    tn = voxels - (tp + fp + fn)
    if (tn < 0).any():
        raise ValueError(f"{voxels} voxels cannot hold {(tp + fp + fn).max():.0f} of one class")
    return (_ratio(tp, tp + fn) + _ratio(tn, tn + fp)) / 2


def dice_per_class(pred: jax.Array, truth: jax.Array, classes: Sequence[int], ignore: int = IGNORE) -> jax.Array:
    """Dice per example, compiled: `[B, *S]`, `[B, *S]` -> float32 `[B, K]`, NaN if in neither map."""
    tp, fp, fn = counts_per_class(pred, truth, classes, ignore)
    return _share(2 * tp, 2 * tp + fp + fn)


def jaccard_per_class(pred: jax.Array, truth: jax.Array, classes: Sequence[int], ignore: int = IGNORE) -> jax.Array:
    """Jaccard index per example, compiled: `[B, *S]`, `[B, *S]` -> float32 `[B, K]`, NaN if in neither map."""
    tp, fp, fn = counts_per_class(pred, truth, classes, ignore)
    return _share(tp, tp + fp + fn)


def balanced_accuracy_per_class(
    pred: jax.Array, truth: jax.Array, classes: Sequence[int], ignore: int = IGNORE
) -> jax.Array:
    """Balanced accuracy per example, compiled: `[B, *S]`, `[B, *S]` -> float32 `[B, K]`, NaN as on the host."""
    tp, fp, fn = counts_per_class(pred, truth, classes, ignore)
    voxels = jnp.sum(truth != ignore, axis=tuple(range(1, truth.ndim)), dtype=jnp.int32)[:, None]
    tn = voxels - (tp + fp + fn)
    return (_share(tp, tp + fn) + _share(tn, tn + fp)) / 2


def dice_per_slice(
    pred: np.ndarray, truth: np.ndarray, classes: Sequence[int], axis: int = -1, ignore: int = IGNORE
) -> np.ndarray:
    """Dice per slice along `axis`: `[*S]`, `[*S]` -> float64 `[slices, K]`, NaN where in neither map."""
    slices = zip(np.moveaxis(pred, axis, 0), np.moveaxis(truth, axis, 0), strict=True)
    return np.stack([dice_of(counts(p, t, classes, ignore)) for p, t in slices])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _share(part: np.ndarray | jax.Array, whole: np.ndarray | jax.Array) -> jax.Array:
    return jnp.where(whole > 0, part / jnp.maximum(whole, 1), jnp.nan)
