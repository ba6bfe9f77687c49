"""Multi-view fully convolutional network with iterated context, for 3D ultrasound (after Chen et al. 2016).

H. Chen, Y. Zheng, J.-H. Park, P.-A. Heng, S. K. Zhou: Iterative multi-domain regularized deep learning for anatomical
structure detection and segmentation from ultrasound images, MICCAI 2016: the FCN of table II of ACNN (Oktay et al.
2018). Here it is trained from random weights and without the paper's transfer from natural images.
"""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cardiac_jax.nets.fcn import FCN, by_slice
from cardiac_jax.nets.layers import Module


class MultiView(nn.Module):
    """[B, Z, H, W, C] -> logits [B, Z, H, W, classes], features [B, Z, *s, F] of the slices across Z.

    A 2D network per view segments the slices across Z, H and W, and the probabilities of the three views are averaged.
    The average is fed back as context: it is concatenated to the image for the next iteration, whose networks have
    parameters of their own (auto-context). Logits are the logarithm of the last average.

    Attributes:
      view: the 2D network of a view, called as `view(classes=, dtype=, axis_name=, name=)`.
      classes: K, at least 2.
      iterations: how often the average is fed back; 0: there is no context.

    Raises:
      ValueError: a size does not suit the 2D network, which needs multiples of 8 by default.
    """

    view: Module = FCN
    classes: int = 2
    iterations: int = 1
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> tuple[Array, Array]:
        view = partial(self.view, classes=self.classes, dtype=self.dtype, axis_name=self.axis_name)

        def result(iteration: int, x: Array) -> tuple[Array, Array]:
            nets = [view(name=f"view_{iteration}_{axis}") for axis in "zyx"]
            views = [by_slice(net, x, axis, train=train, mask=mask, index=index) for axis, net in enumerate(nets)]
            return _mean_of_probabilities([logits for logits, _ in views]), views[0][1]

        given = x
        for iteration in range(self.iterations):
            context = jnp.exp(result(iteration, given)[0])
            given = jnp.concatenate([x, context.astype(x.dtype)], axis=-1)
        return result(self.iterations, given)


def _mean_of_probabilities(logits: Sequence[Array]) -> Array:
    """Logarithm of the mean of the softmax of each of `logits`, all [..., K]."""
    logs = jnp.stack([jax.nn.log_softmax(one) for one in logits])
    return jax.nn.logsumexp(logs, axis=0) - jnp.log(jnp.asarray(len(logits), logs.dtype))
