"""The anatomical autoencoder of ACSNet and the bank of its codes (Abramson, Popescu et al. 2020, figure 7)."""

from collections.abc import Sequence
from math import prod

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cardiac_jax.anatomy.projection import pack
from cardiac_jax.anatomy.registry import anatomy_spec
from cardiac_jax.nets.layers import Conv, glorot
from cardiac_jax.ops.pool import upsample_nearest

SLOPE = 0.2


class AnatomicalAutoencoder(nn.Module):
    """Masks [B, H, W, C] -> (logits [B, H, W, C], code [B, code]), float32 or wider; `structures` determine C.

    Encoder: for each width in `features` a 3 x 3 convolution of stride 2 and one of stride 1, leaky ReLU after each,
    then a linear layer to the code. The decoder mirrors the encoder. There is no normalisation, so that the mask of a
    code does not depend on the rest of the batch.

    The collection `bank` is not trained; `anatomical_prior.fit` writes it: codes and packed masks of the bank, and the
    mixture, whose unused components have weight 0.

    Raises:
      ValueError: a size is not divisible by 2^len(features).
    """

    size: Sequence[int] = (128, 128)
    code: int = 16
    features: Sequence[int] = (16, 32, 64)
    bank_size: int = 10_000
    components: int = 10
    dtype: DTypeLike = jnp.float32
    structures: str = "wall"

    def setup(self) -> None:
        factor = 2 ** len(self.features)
        if any(s % factor for s in self.size):
            raise ValueError(f"size {tuple(self.size)} is not divisible by {factor}")
        self.small = (*(s // factor for s in self.size), self.features[-1])
        widths = [w for w in self.features for _ in range(2)]
        self.encoder = [Conv(w, 3, 2 - i % 2, dtype=self.dtype) for i, w in enumerate(widths)]
        self.to_code = nn.Dense(self.code, dtype=self.dtype, kernel_init=glorot)
        self.from_code = nn.Dense(prod(self.small), dtype=self.dtype, kernel_init=glorot)
        self.decoder = [Conv(w, 3, dtype=self.dtype) for w in widths[::-1]]
        held = anatomy_spec(self.structures)
        self.head = Conv(held.channels, 1, dtype=self.dtype)
        count, k, d = self.bank_size, self.components, self.code
        logits = jax.ShapeDtypeStruct((count, *self.size, held.channels), jnp.float32)
        shapes = {
            "codes": (count, d),
            "masks": jax.eval_shape(lambda x: pack(held.decode(x)), logits).shape,
            "weights": (k,),
            "means": (k, d),
            "cholesky": (k, d, d),
        }
        for name, shape in shapes.items():
            self.variable("bank", name, jnp.zeros, shape, jnp.uint8 if name == "masks" else jnp.float32)

    def encode(self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        """Returns codes [B, code] of masks [B, H, W, C]."""
        out = jnp.promote_types(x.dtype, jnp.float32)
        for layer in self.encoder:
            x = nn.leaky_relu(layer(x), SLOPE)
        return self.to_code(x.reshape(x.shape[0], -1)).astype(out)

    def decode(self, code: Array, *, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        """Returns logits [B, H, W, C] of codes [B, code]."""
        x = nn.leaky_relu(self.from_code(code), SLOPE).reshape(code.shape[0], *self.small)
        for i, layer in enumerate(self.decoder):
            x = x if i % 2 else upsample_nearest(x, (2, 2))  # first: convolutions at full size smooth edges
            x = nn.leaky_relu(layer(x), SLOPE)
        return self.head(x).astype(jnp.promote_types(code.dtype, jnp.float32))

    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> tuple[Array, Array]:
        code = self.encode(x, train=train)
        return self.decode(code, train=train), code
