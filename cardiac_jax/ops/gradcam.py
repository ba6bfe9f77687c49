"""Gradient-weighted class activation maps of a segmentation network (Vesal et al. 2020, eq. 1)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

Score = Callable[[Array, int], Array]
"""Logits [B, *S, K] and a class -> S_c [B]."""


def logit_score(logits: Array, label: int) -> Array:
    """S_c: the logit of class `label`, summed over the voxels."""
    return logits[..., label].reshape(logits.shape[0], -1).sum(-1)


def log_odds_score(logits: Array, label: int) -> Array:
    """S_c: the log odds log(p_c / (1 - p_c)) of class `label` under a softmax, summed over the voxels.

    Unlike a single logit it does not change with what a softmax does not see, a constant added to all classes.
    With one class (sigmoid) the logit is the log odds.
    """
    if logits.shape[-1] == 1:
        return logit_score(logits, label)
    others = [k for k in range(logits.shape[-1]) if k != label]
    rest = jax.nn.logsumexp(logits[..., jnp.asarray(others)], axis=-1)
    return (logits[..., label] - rest).reshape(logits.shape[0], -1).sum(-1)


def gradcam(
    head: Callable[[Array], Array], features: Array, classes: Sequence[int], score: Score = logit_score
) -> Array:
    """Heat map [B, *S] of `classes` together: the sum over c of relu(sum_k x_k * dS_c / dx_k).

    The product is element-wise: gradients are not averaged over the map first, as for a classifier. The rectified
    maps are added, not the scores, because where one structure is certain the logits of the others are low.

    Args:
      head: features -> logits [B, *S, K]; it must treat each example by itself, as it does when not training.
      features: x [B, *S, F], the map before the head. Nothing before it is differentiated.
      classes: which logits to explain; (0,) for a binary network, the foreground for a localiser of several.
      score: S_c of an example. Sums over voxels, so that the heat of a voxel does not depend on the volume's size.

    Raises:
      ValueError: no class is named.
    """
    if not classes:
        raise ValueError("no class to explain")

    def heat(label: int) -> Array:
        gradient = jax.grad(lambda x: score(head(x), label).sum())(features)
        return jax.nn.relu((features * gradient).sum(-1))

    first, *rest = classes
    return sum((heat(label) for label in rest), start=heat(first))
