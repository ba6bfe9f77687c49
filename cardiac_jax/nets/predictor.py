"""Predictor of T-L networks: intensity image to the code of a label map (Oktay et al. 2018, table IV)."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cardiac_jax.nets.heads import flatten
from cardiac_jax.nets.layers import BatchNorm, Conv, ConvUnit, glorot
from cardiac_jax.ops.conv import Size


class Predictor(nn.Module):
    """Image [B, *S, C] -> code [B, code], float32 or wider; S is fixed by the variables.

    Per width in `features` two convolutions (kernel 3), the first with the stride of that stage; the last convolution
    has one channel. Batch normalisation and ReLU follow each. A linear layer gives the code. At 60 x 120 x 120 the
    linear layer reads 8 x 15 x 15 values.
    """

    code: int = 64
    features: Sequence[int] = (32, 64, 128, 256)
    strides: Sequence[Size] = (1, 2, 2, 2)
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool, mask: Array | None = None, index: Array | None = None) -> Array:
        out = jnp.promote_types(x.dtype, jnp.float32)
        norm = partial(BatchNorm, axis_name=self.axis_name)
        last = len(self.features) - 1
        for stage, (width, stride) in enumerate(zip(self.features, self.strides, strict=True)):
            layers = partial(Conv, width, 3, stride), partial(Conv, 1 if stage == last else width, 3)
            for i, layer in enumerate(layers):
                x = ConvUnit(layer, norm, self.dtype, name=f"stage_{stage}_{i}")(x, train=train, mask=mask)
        return nn.Dense(self.code, dtype=self.dtype, kernel_init=glorot, name="to_code")(flatten(x)).astype(out)
