"""Loss of sigmoid outputs, one per region, each region a set of classes (Abramson, Popescu et al. 2020, ACSNet)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cardiac_jax.core.loss import term, total
from cardiac_jax.core.types import IGNORE, Array, Loss
from cardiac_jax.losses.overlap import mask_overlap, tversky
from cardiac_jax.losses.pixelwise import balanced_cross_entropy


def region_loss(regions: Sequence[Sequence[int]], beta: float, *, logits: str = "logits", label: str = "label") -> Loss:
    """The mean of a balanced cross-entropy and of one minus Tversky's index; beta weighs false positives.

    Args:
      regions: the classes of each; they may overlap, and need not hold every class.
      logits: names `[B, *S, G]`, one output per region.
      label: names `[B, *S]`.
    """

    def truth(label: Array) -> Array:
        return jnp.stack([jnp.isin(label, jnp.asarray(region)) for region in regions], -1).astype(jnp.float32)

    def pixels(logits: Array, label: Array) -> Array:
        return 0.5 * balanced_cross_entropy(logits, truth(label), label != IGNORE, beta)

    def overlaps(logits: Array, label: Array) -> Array:
        counts = mask_overlap(jax.nn.sigmoid(logits), truth(label), label != IGNORE)
        return 0.5 * (1.0 - tversky(counts, beta).mean())

    reads = {"logits": logits, "label": label}
    return total(cross=term(pixels, **reads), tversky=term(overlaps, **reads))
