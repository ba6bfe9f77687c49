"""Toy networks with the signature of the real ones, and a toy batch: what the tests of the theory train."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cardiac_jax.core.types import Net, Values, Variables
from cardiac_jax.nets.layers import BatchNorm, Dropout
from cardiac_jax.ops.pool import upsample_nearest

SIZE, CLASSES, CODE = (4, 4), 3, 2
QUICK = {"xla_backend_optimization_level": 0}  # halves the time to compile, which is most of a test on toys


class Segmenter(nn.Module):
    """`[B, *S, 1] -> logits [B, *S, K], features [B, *S, 3]`: two layers of one pixel each."""

    norm: bool = True
    dropout: float = 0.0
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, *, train, mask=None, index=None):
        x = nn.Dense(3, use_bias=not self.norm)(x)
        if self.norm:
            x = BatchNorm(axis_name=self.axis_name)(x, train=train, mask=mask)
        x = Dropout(self.dropout)(jnp.tanh(x), train=train, index=index)
        return nn.Dense(CLASSES)(x), x


class Autoencoder(nn.Module):
    """`[B, *S, K] -> logits [B, *S, K], code [B, D]`."""

    axis_name: str | None = None

    def setup(self):
        self.to_code, self.from_code = nn.Dense(CODE), nn.Dense(SIZE[0] * SIZE[1] * CLASSES)
        self.norm = BatchNorm(axis_name=self.axis_name)

    def encode(self, x, *, train, mask=None, index=None):
        return self.to_code(self.norm(x, train=train, mask=mask).reshape(x.shape[0], -1))

    def __call__(self, x, *, train, mask=None, index=None):
        code = self.encode(x, train=train, mask=mask)
        return self.from_code(code).reshape(x.shape), code


class Scalar(nn.Module):
    """`[B, *S, C] -> [B]`: a position head, with `squash` the sigmoid, or a discriminator."""

    squash: Callable[[jax.Array], jax.Array] = lambda x: x
    norm: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, *, train, mask=None, index=None):
        if self.norm:
            x = BatchNorm(axis_name=self.axis_name)(x, train=train, mask=mask)
        return self.squash(nn.Dense(1)(x.reshape(x.shape[0], -1))[:, 0])


def segmenter(**options) -> Net:
    return Net("segmenter", Segmenter(**options), ((*SIZE, 1),))


def autoencoder(name: str = "autoencoder", **options) -> Net:
    return Net(name, Autoencoder(**options), ((*SIZE, CLASSES),))


def head(**options) -> Net:
    return Net("head", Scalar(nn.sigmoid, **options), ((*SIZE, 3),))


def discriminator(**options) -> Net:
    return Net("discriminator", Scalar(**options), ((*SIZE, CLASSES),))


def alive(variables: Variables) -> Variables:
    """Variables without dead units in real autoencoders: a small one squeezes a map into a few rectified numbers."""

    def raised(path, leaf):
        name = jax.tree_util.keystr(path)
        normed = "autoencoder" in name and "norm" in name and "bias" in name
        return jnp.asarray(np.asarray(leaf) + np.float32(1)) if normed else leaf

    return jax.tree_util.tree_map_with_path(raised, variables)


def batch(size: int = 8, seed: int = 0, mask: list[float] | None = None) -> Values:
    """`size` examples with random labels; the image is the label and noise, so it can be learnt."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, CLASSES, (size, *SIZE)).astype(np.uint8)
    values = {
        "image": (label[..., None] + 0.3 * rng.normal(size=(size, *SIZE, 1))).astype(np.float32),
        "label": label,
        "position": rng.uniform(size=size).astype(np.float32),
        "fully_annotated": np.ones(size, np.float32),
        "mask": np.ones(size, np.float32) if mask is None else np.asarray(mask, np.float32),
        "index": np.arange(size, dtype=np.int32),
    }
    return jax.tree.map(jnp.asarray, values)


class NearestUp(nn.Module):
    """An injected part of a U-Net: nearest upsampling without parameters."""

    features: int
    window: Any = 2
    norm: Any = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, *, train, mask=None, index=None):
        return upsample_nearest(x, self.window)
