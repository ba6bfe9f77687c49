"""Dice and Tversky losses, per example or pooled over the batch, in any number of dimensions.

Pixels labelled `IGNORE` (255, not annotated) are excluded.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from cardiac_jax.core.loss import pooled
from cardiac_jax.core.types import IGNORE, Array, Loss


class Overlap(NamedTuple):
    """Soft pixel counts per class, `[K]` each: of the intersection, the prediction and the gold standard."""

    both: Array
    predicted: Array
    true: Array


def one_hot(label: Array, classes: int) -> Array:
    """One-hot encoding of a label map, `[*S] -> [*S, K]`; an ignored pixel is zero in every class."""
    return jax.nn.one_hot(label, classes)


def overlap(probabilities: Array, label: Array) -> Overlap:
    """Soft counts `[K]` over annotated pixels from `probabilities [*S, K]` and `label [*S]`.

    Raises:
      AssertionError: ranks do not match.
    """
    return mask_overlap(probabilities, one_hot(label, probabilities.shape[-1]), label != IGNORE)


def mask_overlap(probabilities: Array, truth: Array, annotated: Array) -> Overlap:
    """Soft counts `[K]` over annotated pixels, for masks that may overlap.

    Args:
      probabilities: `[*S, K]`.
      truth: gold-standard masks `[*S, K]`, 0 outside `annotated`.
      annotated: `[*S]`.

    Raises:
      AssertionError: ranks do not match.
    """
    chex.assert_rank(annotated, probabilities.ndim - 1)
    classes = probabilities.shape[-1]
    truth = truth.reshape(-1, classes)
    predicted = probabilities.reshape(-1, classes) * annotated.reshape(-1, 1)
    return Overlap(jnp.sum(predicted * truth, axis=0), jnp.sum(predicted, axis=0), jnp.sum(truth, axis=0))


def dice(counts: Overlap, smooth: float = 1.0) -> Array:
    """Dice per class `[K]`, `(2 TP + s) / (2 TP + FP + FN + s)`."""
    return (2.0 * counts.both + smooth) / (counts.predicted + counts.true + smooth)


def tversky(counts: Overlap, beta: float, smooth: float = 1.0) -> Array:
    """Tversky index per class `[K]`, `(TP + s) / (TP + beta FP + (1 - beta) FN + s)`; beta weights FP (ACSNet)."""
    false_positive, false_negative = counts.predicted - counts.both, counts.true - counts.both
    return (counts.both + smooth) / (counts.both + beta * false_positive + (1 - beta) * false_negative + smooth)


def dice_loss(probabilities: Array, label: Array, smooth: float = 1.0) -> Array:
    """One minus the mean Dice over all classes of one example, scalar."""
    return 1.0 - jnp.mean(dice(overlap(probabilities, label), smooth))


def batch_dice_loss(probabilities: str, label: str, smooth: float = 1.0, axis_name: str | None = None) -> Loss:
    """Loss `[B]`: one minus the mean Dice over all classes, with counts pooled over the global batch.

    Args:
      probabilities: name of the value `[B, *S, K]`.
      label: name of the value `[B, *S]`.
      smooth: `s` of `dice`.
      axis_name: device axis to sum over, if any.
    """

    def value(counts: Overlap) -> Array:
        return 1.0 - jnp.mean(dice(counts, smooth))

    return pooled(overlap, value, axis_name, probabilities=probabilities, label=label)
