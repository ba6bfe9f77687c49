"""Autoencoder of label maps: the shape prior of SRSCN (Yue et al. 2019, section 2.2) and of its ACNN baseline."""

from collections.abc import Sequence
from math import prod

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cardiac_jax.nets.layers import BatchNorm, Conv, ConvTranspose, glorot


class Autoencoder(nn.Module):
    """Label map [B, *size, K], one-hot or soft -> (logits [B, *size, K], code [B, code]), float32 or wider.

    Encoder: for each width in `features`, convolutions (kernel 3) of stride 2 and of stride 1; then a convolution
    (kernel 3) of `stride` to one channel, and a linear layer to the code. Decoder: a linear layer to the same small
    map, a transposed convolution (kernel 7) of `stride`, transposed convolutions (kernel 4) of stride 2, and a
    convolution (kernel 3) to `classes`. Batch normalisation and ReLU follow every layer except the code and the last
    layer. A decoder output larger than `size` is cropped about the centre: with stride 3, 240 -> 10 -> 240 needs no
    crop, and 128 -> 6 -> 144 is cropped to 128.
    """

    size: Sequence[int] = (240, 240)
    classes: int = 4
    code: int = 64
    features: Sequence[int] = (16, 32, 64)
    stride: int = 3
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        layers = len(self.features)
        small = tuple(self.size)
        for stride in (*(2,) * layers, self.stride):
            small = tuple(-(-s // stride) for s in small)
        self.small = small
        widths = [w for w in self.features for _ in range(2)]
        self.encoder = [
            *(Conv(w, 3, 2 - i % 2, bias=False, dtype=self.dtype) for i, w in enumerate(widths)),
            Conv(1, 3, self.stride, bias=False, dtype=self.dtype),
        ]
        self.encoder_norm = [self._norm() for _ in self.encoder]
        self.to_code = nn.Dense(self.code, dtype=self.dtype, kernel_init=glorot)
        self.from_code = nn.Dense(prod(small), use_bias=False, dtype=self.dtype, kernel_init=glorot)
        first, *rest = (*self.features[::-1], self.features[0])
        self.decoder = [
            ConvTranspose(first, 7, self.stride, bias=False, dtype=self.dtype),
            *(ConvTranspose(w, 4, 2, bias=False, dtype=self.dtype) for w in rest),
        ]
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
