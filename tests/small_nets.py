"""A network of one convolution in place of every shipped one: for tests of what systems do with their networks.

The shipped networks have tests of their own (tests/nets), and tests/runs trains systems with them.
"""

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cardiac_jax.core.types import Config
from cardiac_jax.nets.layers import BatchNorm, ConvBlock, Dropout
from cardiac_jax.nets.registry import NetRequest
from cardiac_jax.ops.pool import upsample_nearest


class Small(nn.Module):
    """The contract of `nets/registry.py` with features `[B, *S, F]`, and the `head` that Grad-CAM differentiates.

    Logits of a finer grid are those of the image's, repeated.
    """

    features: int
    outputs: int
    dtype: Any
    axis_name: str | None
    dropout: float = 0.0
    scale: Sequence[int] = ()

    def setup(self) -> None:
        norm = partial(BatchNorm, axis_name=self.axis_name)
        self.block = ConvBlock(self.features, 1, norm=norm, activation=jnp.tanh, dtype=self.dtype)
        self.output = nn.Dense(self.outputs, dtype=self.dtype)
        self.drop = Dropout(self.dropout)

    def head(self, features: jax.Array, *, train: bool, mask: Any = None, index: Any = None) -> jax.Array:
        return self.output(features).astype(jnp.promote_types(features.dtype, jnp.float32))

    def __call__(self, x: jax.Array, *, train: bool, mask: Any = None, index: Any = None) -> Any:
        features = self.block(x, train=train, mask=mask).astype(jnp.promote_types(x.dtype, jnp.float32))
        logits = self.head(self.drop(features, train=train, index=index), train=train)
        return upsample_nearest(logits, self.scale) if self.scale else logits, features


def small(config: Config, request: NetRequest) -> Small:
    """A builder for the registry of networks."""
    return Small(config.filters, request.outputs, request.dtype, request.axis_name, scale=request.scale)


def dropping(config: Config, request: NetRequest) -> Small:
    """The same with dropout, for the configuration of SRSCN: --config.model.net=tests.small_nets:dropping."""
    return Small(config.features[0], request.outputs, request.dtype, request.axis_name, config.dropout)


class Coder(nn.Module):
    """The interface of ACNN's autoencoder of label maps, of one linear layer each way."""

    size: tuple[int, ...]
    classes: int
    code: int
    features: tuple[int, ...]
    strides: Any
    dtype: Any
    axis_name: str | None

    def setup(self) -> None:
        self.to_code, self.from_code = nn.Dense(self.code), nn.Dense(prod(self.size) * self.classes)

    def encode(self, x, *, train, mask=None, index=None):
        return self.to_code(x.reshape(x.shape[0], -1))

    def decode(self, code, *, train, mask=None, index=None):
        return self.from_code(code).reshape(code.shape[0], *self.size, self.classes)

    def __call__(self, x, *, train, mask=None, index=None):
        code = self.encode(x, train=train)
        return self.decode(code, train=train), code


class Guess(nn.Module):
    """The interface of ACNN's predictor, of one linear layer."""

    code: int
    features: tuple[int, ...]
    strides: Any
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x, *, train, mask=None, index=None):
        return nn.Dense(self.code)(x.reshape(x.shape[0], -1))
