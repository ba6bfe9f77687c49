"""Pixel-wise losses: cross-entropy, and the exponential-logarithmic loss of Wong et al. 2018 (SRSCN, eq. 1)."""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from cardiac_jax.core.loss import pooled, term, total, weighted
from cardiac_jax.core.types import IGNORE, Array, Loss
from cardiac_jax.losses.overlap import dice, overlap

EPSILON = 1e-6
"""Lower bound of -ln(x) before it is raised to a power below one, whose slope is infinite at zero."""


def log_likelihood(logits: Array, label: Array) -> tuple[Array, Array]:
    """`-ln p(label)`, 0 at ignored pixels, and the mask of annotated pixels, both `[*S]`.

    Raises:
      AssertionError: ranks do not match.
    """
    chex.assert_rank(label, logits.ndim - 1)
    annotated = label != IGNORE
    safe = jnp.where(annotated, label, 0)
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), safe[..., None], axis=-1)[..., 0]
    return jnp.where(annotated, -picked, 0.0), annotated


def cross_entropy(
    logits: Array, label: Array, class_weights: Sequence[float] | None = None, gamma: float = 1.0
) -> Array:
    """Mean of `w_l (-ln p_l)^gamma` over annotated pixels, scalar; 0 if no pixel is annotated.

    Args:
      logits: `[*S, K]`.
      label: `[*S]`; 255 is ignored.
      class_weights: `[K]`; None weights every class by 1.
      gamma: exponent (eq. 1, gamma_2); 1 is plain cross-entropy.

    Raises:
      AssertionError: ranks do not match.
    """
    nll, annotated = log_likelihood(logits, label)
    if gamma != 1.0:
        nll = jnp.maximum(nll, EPSILON) ** gamma
    weight = annotated.astype(nll.dtype)
    if class_weights is not None:
        weight = weight * jnp.asarray(class_weights, nll.dtype)[jnp.where(annotated, label, 0)]
    return jnp.sum(weight * nll) / jnp.maximum(jnp.sum(annotated), 1)


def masked_cross_entropy(logits: Array, label: Array, where: Array) -> Array:
    """Cross-entropy of one example, scalar, times `where` (0 drops the example)."""
    return where * cross_entropy(logits, label)


def balanced_cross_entropy(logits: Array, truth: Array, annotated: Array, beta: float) -> Array:
    """Mean of `-(beta p log q + (1 - beta) (1 - p) log(1 - q))` over annotated pixels and structures (ACSNet, l_1).

    p is `truth`, q the sigmoid of `logits`.

    Args:
      logits: `[*S, G]`, one per structure.
      truth: `[*S, G]`, 0 or 1.
      annotated: `[*S]`.
    """
    inside, outside = truth * jax.nn.log_sigmoid(logits), (1.0 - truth) * jax.nn.log_sigmoid(-logits)
    each = -(beta * inside + (1.0 - beta) * outside).mean(-1)
    return jnp.sum(each * annotated) / jnp.maximum(jnp.sum(annotated), 1)


def exponential_logarithmic(
    class_weights: Sequence[float],
    *,
    logits: str = "logits",
    probabilities: str = "probabilities",
    label: str = "label",
    lambda_dice: float = 0.8,
    lambda_cross: float = 0.2,
    gamma_dice: float = 0.3,
    gamma_cross: float = 0.3,
    smooth: float = 1.0,
    axis_name: str | None = None,
) -> Loss:
    """SRSCN eq. 1: `lambda_dice E_i[(-ln Dice_i)^gamma_dice] + lambda_cross E_x[w_l (-ln p_l(x))^gamma_cross]`, `[B]`.

    Dice is pooled over the global batch. The cross-entropy term is a mean over the annotated pixels of each example.
    `logits`, `probabilities` (`[B, *S, K]` both) and `label` (`[B, *S]`) are names of values.
    """

    def power(counts):
        return jnp.mean(jnp.maximum(-jnp.log(dice(counts, smooth)), EPSILON) ** gamma_dice)

    def cross(logits, label):
        return cross_entropy(logits, label, class_weights, gamma_cross)

    return total(
        dice=weighted(pooled(overlap, power, axis_name, probabilities=probabilities, label=label), lambda_dice),
        cross=weighted(term(cross, logits=logits, label=label), lambda_cross),
    )


def class_weights(frequency: Sequence[float]) -> tuple[float, ...]:
    """Weights `w_l = sqrt(sum_k f_k / f_l)` from pixel counts `[K]` of the training set (spec: SRSCN, L_seg).

    A class without pixels gets the weight of a class with one pixel.
    """
    pixels = float(sum(frequency))
    return tuple((pixels / max(float(count), 1.0)) ** 0.5 for count in frequency)
