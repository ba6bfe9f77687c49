"""Gradient-weighted class activation maps of a segmentation network (Vesal et al. 2020, eq. 1)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

Score = Callable[[Array, int], Array]
"""(logits [B, *S, K], class c) -> score S_c [B]."""


def logit_score(logits: Array, label: int) -> Array:
    """Score S_c [B]: the logit of class `label`, summed over the voxels."""
    return logits[..., label].reshape(logits.shape[0], -1).sum(-1)


def log_odds_score(logits: Array, label: int) -> Array:
    """Score S_c [B]: the log odds log(p_c / (1 - p_c)) of class `label` under a softmax, summed over the voxels.

    Unlike a single logit, it is invariant to a constant added to all classes, as is the softmax. With one class
    (sigmoid), the logit is the log odds.
    """
    if logits.shape[-1] == 1:
        return logit_score(logits, label)
    others = [k for k in range(logits.shape[-1]) if k != label]
    rest = jax.nn.logsumexp(logits[..., jnp.asarray(others)], axis=-1)
    return (logits[..., label] - rest).reshape(logits.shape[0], -1).sum(-1)


def gradcam(
    head: Callable[[Array], Array], features: Array, classes: Sequence[int], score: Score = logit_score
) -> Array:
    """Heat map [B, *S] of all `classes`: the sum over c of relu(sum_k x_k * dS_c / dx_k).

    The product is element-wise; unlike for a classifier, gradients are not averaged over the map first. The rectified
    maps are added instead of the scores, because the logits of the other structures are low where one structure is
    certain.

    Args:
      head: features -> logits [B, *S, K]; it must process each example independently, as in inference mode.
      features: x [B, *S, F], the feature map before the head. Gradients stop there.
      classes: logits to explain; (0,) for a binary network, the foreground classes for a multi-class localiser.
      score: S_c of an example, a sum over voxels, so that the heat of a voxel does not depend on the volume's size.

    Raises:
      ValueError: `classes` is empty.
    """
    if not classes:
        raise ValueError("no class to explain")

    def heat(label: int) -> Array:
        gradient = jax.grad(lambda x: score(head(x), label).sum())(features)
        return jax.nn.relu((features * gradient).sum(-1))

    first, *rest = classes
    return sum((heat(label) for label in rest), start=heat(first))
