"""What the autoencoders of label maps have in common: layers around a code, and how they run."""

from collections.abc import Sequence
from math import prod

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cardiac_jax.nets.layers import BatchNorm, Conv, glorot
from cardiac_jax.ops.conv import Size, per_axis


class Coder(nn.Module):
    """Label map [B, *size, K], one-hot or soft -> (logits [B, *size, K], code [B, code]), float32 or wider.

    A subclass has a `setup` that calls `set_layers` with the strides of its encoder and the layers of its decoder.
    Batch normalisation and ReLU follow every layer except the code and the last layer. A decoder output larger than
    `size` is cropped about the centre before the last layer.
    """

    size: Sequence[int] = ()
    classes: int = 4
    code: int = 64
    features: Sequence[int] = (16, 32, 64)
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    def set_layers(self, strides: Sequence[Size], decoder: Sequence[nn.Module]) -> None:
        """Defines the layers.

        Args:
          strides: of the encoder. Each stage has two convolutions (kernel 3), the second of stride 1; a convolution of
            the last stride has one channel, and a linear layer gives the code.
          decoder: layers between the linear layer back to the small map and the last convolution (kernel 3).
        """
        small = tuple(self.size)
        for stride in strides:
            small = tuple(-(-s // n) for s, n in zip(small, per_axis(stride, len(small)), strict=True))
        self.small = small
        pairs = [((w, s), (w, 1)) for w, s in zip(self.features, strides[:-1], strict=True)]
        stages = [layer for pair in pairs for layer in pair]
        self.encoder = [Conv(w, 3, s, bias=False, dtype=self.dtype) for w, s in (*stages, (1, strides[-1]))]
        self.encoder_norm = [self._norm() for _ in self.encoder]
        self.to_code = nn.Dense(self.code, dtype=self.dtype, kernel_init=glorot)
        self.from_code = nn.Dense(prod(small), use_bias=False, dtype=self.dtype, kernel_init=glorot)
        self.decoder = decoder
        self.decoder_norm = [self._norm() for _ in range(len(self.decoder) + 1)]
        self.head = Conv(self.classes, 3, dtype=self.dtype)

    def _norm(self) -> BatchNorm:
        return BatchNorm(dtype=self.dtype, axis_name=self.axis_name)

    def encode(self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        """Code of a label map: [B, *size, K] -> [B, code].

        Raises:
          ValueError: the label map does not have the size `size`.
        """
        if x.shape[1:-1] != tuple(self.size):
            raise ValueError(f"label map of size {x.shape[1:-1]} does not fit an autoencoder for {tuple(self.size)}")
        out = jnp.promote_types(x.dtype, jnp.float32)
        for layer, norm in zip(self.encoder, self.encoder_norm, strict=True):
            x = nn.relu(norm(layer(x), train=train, mask=mask))
        return self.to_code(x.reshape(x.shape[0], -1)).astype(out)

    def decode(self, code: Array, *, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        """Logits of a code: [B, code] -> [B, *size, K]."""
        x = self.from_code(code).reshape(code.shape[0], *self.small, 1)
        x = nn.relu(self.decoder_norm[0](x, train=train, mask=mask))
        for layer, norm in zip(self.decoder, self.decoder_norm[1:], strict=True):
            x = nn.relu(norm(layer(x), train=train, mask=mask))
        starts = [(have - want) // 2 for have, want in zip(x.shape[1:-1], self.size, strict=True)]
        x = x[(slice(None), *(slice(a, a + want) for a, want in zip(starts, self.size, strict=True)))]
        return self.head(x).astype(jnp.promote_types(code.dtype, jnp.float32))

    def __call__(
        self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None
    ) -> tuple[Array, Array]:
        code = self.encode(x, train=train, mask=mask)
        return self.decode(code, train=train, mask=mask), code
