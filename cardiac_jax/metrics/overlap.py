"""Overlap of two label maps: Dice = 2 TP / (2 TP + FP + FN) and Jaccard = TP / (TP + FP + FN), per class.

Sensitivity = TP / (TP + FN), precision = TP / (TP + FP), specificity = TN / (TN + FP); NaN if the denominator is 0.
Specificity counts every voxel outside the structure, so it depends on the size of the image.

A class absent from both maps gives NaN, which callers exclude and count. A class absent from one map gives 0.
Balanced accuracy is the mean of sensitivity and specificity, so it also counts true negatives. It is NaN if the gold
standard has no voxel of the class or no voxel outside it, because sensitivity or specificity is then undefined.
Voxels with gold standard 255 are not annotated and are ignored, whatever the prediction.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiac_jax.core.types import IGNORE


class Counts(NamedTuple):
    """Voxel counts per class, all of one shape (`[K]` or `[B, K]`), NumPy or JAX."""

    true_positive: np.ndarray | jax.Array
    false_positive: np.ndarray | jax.Array
    false_negative: np.ndarray | jax.Array


def counts(pred: np.ndarray, truth: np.ndarray, classes: Sequence[int], ignore: int = IGNORE) -> Counts:
    """Exact counts of one example with NumPy, int64 `[K]`.

    Args:
      pred, truth: `[*S]` integer label maps of one shape.
      classes: the K classes to count.
      ignore: label of voxels that are not annotated.

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
    """Counts of a batch, for use under jit: `[B, *S]` label maps -> int32 `[B, K]`.

    Counts are additive: the Dice of a volume follows from the counts summed over its slices.
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
    """Dice from NumPy counts, same shape, float64; NaN if a class is in neither map."""
    tp, fp, fn = (np.asarray(c, np.float64) for c in counts)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def jaccard_of(counts: Counts) -> np.ndarray:
    """Jaccard index from NumPy counts, same shape, float64; NaN if a class is in neither map."""
    tp, fp, fn = (np.asarray(c, np.float64) for c in counts)
    return _ratio(tp, tp + fp + fn)


def balanced_accuracy_of(counts: Counts, voxels: int | np.ndarray) -> np.ndarray:
    """Balanced accuracy from NumPy counts, same shape, float64.

    NaN if all or none of the annotated voxels have the class in the gold standard.

    Args:
      counts: counts over `voxels` voxels.
      voxels: number of annotated voxels of the volume, broadcastable to the counts.

    Raises:
      ValueError: TP + FP + FN exceeds the number of voxels.
    """
    tp, fp, fn = (np.asarray(c, np.float64) for c in counts)
    tn = voxels - (tp + fp + fn)
    if (tn < 0).any():
        raise ValueError(f"{voxels} voxels cannot hold {(tp + fp + fn).max():.0f} of one class")
    return (_ratio(tp, tp + fn) + _ratio(tn, tn + fp)) / 2


def sensitivity_of(counts: Counts) -> np.ndarray:
    """Sensitivity (recall) from NumPy counts, same shape, float64; NaN if the gold standard lacks the class."""
    tp, _, fn = (np.asarray(c, np.float64) for c in counts)
    return _ratio(tp, tp + fn)


def precision_of(counts: Counts) -> np.ndarray:
    """Precision (positive predictive value) from NumPy counts, same shape, float64; NaN if nothing is predicted."""
    tp, fp, _ = (np.asarray(c, np.float64) for c in counts)
    return _ratio(tp, tp + fp)


def specificity_of(counts: Counts, voxels: int | np.ndarray) -> np.ndarray:
    """Specificity from NumPy counts over `voxels` voxels, same shape, float64; NaN if all voxels have the class."""
    tp, fp, fn = (np.asarray(c, np.float64) for c in counts)
    negatives = voxels - (tp + fn)
    return _ratio(negatives - fp, negatives)


def volumetric_similarity_of(counts: Counts) -> np.ndarray:
    """1 - |FN - FP| / (2 TP + FP + FN) (Taha and Hanbury 2015, eq. 5); NaN if a class is in neither map."""
    tp, fp, fn = (np.asarray(c, np.float64) for c in counts)
    both = 2 * tp + fp + fn
    return _ratio(both - np.abs(fn - fp), both)


def dice_per_class(pred: jax.Array, truth: jax.Array, classes: Sequence[int], ignore: int = IGNORE) -> jax.Array:
    """Dice per example, for use under jit: `[B, *S]`, `[B, *S]` -> float32 `[B, K]`, NaN if in neither map."""
    tp, fp, fn = counts_per_class(pred, truth, classes, ignore)
    return _share(2 * tp, 2 * tp + fp + fn)


def jaccard_per_class(pred: jax.Array, truth: jax.Array, classes: Sequence[int], ignore: int = IGNORE) -> jax.Array:
    """Jaccard index per example, for use under jit: `[B, *S]`, `[B, *S]` -> float32 `[B, K]`, NaN if in neither map."""
    tp, fp, fn = counts_per_class(pred, truth, classes, ignore)
    return _share(tp, tp + fp + fn)


def balanced_accuracy_per_class(
    pred: jax.Array, truth: jax.Array, classes: Sequence[int], ignore: int = IGNORE
) -> jax.Array:
    """Balanced accuracy per example, for use under jit: `[B, *S]`, `[B, *S]` -> float32 `[B, K]`.

    NaN as in `balanced_accuracy_of`.
    """
    tp, fp, fn = counts_per_class(pred, truth, classes, ignore)
    voxels = jnp.sum(truth != ignore, axis=tuple(range(1, truth.ndim)), dtype=jnp.int32)[:, None]
    tn = voxels - (tp + fp + fn)
    return (_share(tp, tp + fn) + _share(tn, tn + fp)) / 2


def dice_per_slice(
    pred: np.ndarray, truth: np.ndarray, classes: Sequence[int], axis: int = -1, ignore: int = IGNORE
) -> np.ndarray:
    """Dice of each slice along `axis`: `[*S]`, `[*S]` -> float64 `[slices, K]`, NaN if in neither map."""
    slices = zip(np.moveaxis(pred, axis, 0), np.moveaxis(truth, axis, 0), strict=True)
    return np.stack([dice_of(counts(p, t, classes, ignore)) for p, t in slices])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _share(part: np.ndarray | jax.Array, whole: np.ndarray | jax.Array) -> jax.Array:
    return jnp.where(whole > 0, part / jnp.maximum(whole, 1), jnp.nan)
