"""Loss of sigmoid outputs, one per region; a region is a set of classes (Abramson, Popescu et al. 2020, ACSNet)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cardiac_jax.core.loss import term, total
from cardiac_jax.core.types import IGNORE, Array, Loss
from cardiac_jax.losses.overlap import mask_overlap, tversky
from cardiac_jax.losses.pixelwise import balanced_cross_entropy


def region_loss(regions: Sequence[Sequence[int]], beta: float, *, logits: str = "logits", label: str = "label") -> Loss:
    """Loss `[B]`: mean of the balanced cross-entropy and of one minus the Tversky index.

    Args:
      regions: classes of each of the G regions; regions may overlap and may leave classes out.
      beta: weight of foreground pixels in the cross-entropy and of false positives in the Tversky index.
      logits: name of the value `[B, *S, G]`.
      label: name of the value `[B, *S]`.
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
