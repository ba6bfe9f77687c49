"""A segmentation network of your own, for any system: two convolutions.

--config.model.net=tests.examples.two_layers:two_layers
"""

import flax.linen as nn
import jax.numpy as jnp

from cardiac_jax import NetRequest


class TwoLayers(nn.Module):
    """`[B, *S, C]` -> (logits `[B, *S, K]`, features `[B, *S, width]`)."""

    width: int
    outputs: int

    @nn.compact
    def __call__(self, x, *, train, mask=None, index=None):
        features = nn.relu(nn.Conv(self.width, (3,) * (x.ndim - 2))(x))
        return nn.Conv(self.outputs, (1,) * (x.ndim - 2))(features).astype(jnp.float32), features


def two_layers(config, request: NetRequest) -> nn.Module:
    """The builder; `config` is `config.model`."""
    return TwoLayers(8, request.outputs)
