"""An autoencoder that is a formula, so that its prior needs no training and its valid codes are known; label maps.

The code is (middle radius - 7, wall - 3) in pixels: a ring, cut through where the second number is negative.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cardiac_jax.anatomy import anatomical_prior
from cardiac_jax.anatomy.wall_check import DEFAULT, Limits
from cardiac_jax.core.types import Net

SIZE, SPACING_MM = (40, 40), 2.0
CLASSES = ("background", "RV", "Myo", "LV")


class Rings(nn.Module):
    """Masks `[B, H, W, 1]` <-> codes `[B, 2]`; one parameter, a factor of the logits."""

    size: Sequence[int] = SIZE
    bank_size: int = 300
    components: int = 2
    structures: str = "wall"

    def setup(self) -> None:
        self.gain = self.param("gain", nn.initializers.ones, ())

    def _polar(self) -> tuple[jax.Array, jax.Array]:
        y, x = (jnp.arange(s, dtype=jnp.float32) - (s - 1) / 2 for s in self.size)
        return jnp.sqrt(y[:, None] ** 2 + x[None] ** 2), (jnp.abs(y) < 1)[:, None] & (x > 0)[None]

    def encode(self, x, *, train, mask=None, index=None):
        """Of a ring, area and mean squared radius give both radii; of anything else, two numbers."""
        area = x.sum((1, 2, 3)) / (2 * jnp.pi)
        square = (x[..., 0] * jnp.square(self._polar()[0])[None]).sum((1, 2)) / jnp.maximum(2 * jnp.pi * area, 1)
        outer, inner = jnp.sqrt(square + area), jnp.sqrt(jnp.maximum(square - area, 0))
        return jnp.stack([(outer + inner) / 2 - 7, outer - inner - 3], 1)

    def decode(self, code, *, train, mask=None, index=None):
        radius, gap = self._polar()
        middle, wall = code[:, 0, None, None] + 7, code[:, 1, None, None] + 3
        logits = wall / 2 - jnp.abs(radius[None] - middle)
        return (self.gain * jnp.where((wall < 3) & gap[None], -1.0, logits))[..., None]

    def __call__(self, x, *, train, mask=None, index=None):
        code = self.encode(x, train=train)
        return self.decode(code, train=train), code


NET = Net("autoencoder", Rings(), ((*SIZE, 1),))
PARAMS = {"params": {"gain": jnp.ones(())}}


def decoded(codes: np.ndarray) -> np.ndarray:
    """Codes `[N, 2]` -> masks bool `[N, 40, 40]`."""
    filled = np.zeros((-(-len(codes) // 32) * 32, 2), np.float32)  # few shapes are compiled
    filled[: len(codes)] = codes
    return np.asarray(_decode(filled))[: len(codes), ..., 0] > 0


@jax.jit
def _decode(codes: jax.Array) -> jax.Array:
    module: Any = NET.module
    return module.apply(PARAMS, codes, train=False, method="decode")


def bank(codes: np.ndarray) -> dict[str, jax.Array]:
    """The collection of a prior whose bank is `codes`."""
    return {
        "codes": jnp.asarray(codes, jnp.float32),
        "masks": jnp.asarray(np.packbits(decoded(codes), axis=-1)),
        "weights": jnp.array([1.0, 0.0]),
        "means": jnp.zeros((2, 2)),
        "cholesky": jnp.stack([jnp.eye(2)] * 2),
    }


def fits(limits: Limits = DEFAULT) -> dict[str, dict[str, Any]]:
    """The figures of the prior's fit that a prior is made of: its limits, the default ones."""
    return {anatomical_prior.STAGE: {"limits": limits._asdict()}}


@cache
def _sixty() -> anatomical_prior.Prior:
    rng = np.random.default_rng(0)
    return prior(np.stack([rng.normal(0, 1, 60), rng.uniform(0.1, 1.5, 60)], 1))


def prior(codes: np.ndarray | None = None) -> anatomical_prior.Prior:
    """A prior of 60 rings, made once, or of `codes`."""
    if codes is None:
        return _sixty()
    return anatomical_prior.prior(NET, {"autoencoder": {**PARAMS, "bank": bank(codes)}}, fits(), SPACING_MM)


def ring(
    shape: tuple[int, int], centre: tuple[float, float], inner: float, outer: float, stretch: float = 1.0
) -> np.ndarray:
    """Classes `[H, W]`: the pool 3 within the wall 2; stretched along the first axis."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    far = np.hypot((y - centre[0]) / stretch, x - centre[1])
    return np.select([far < inner, far < outer], [3, 2], 0).astype(np.uint8)


def gold(volumes: int, slices: int, seed: int = 0) -> np.ndarray:
    """Labels `[N, Z, 48, 48]` uint8: ovals of wall about a pool, anywhere."""
    rng = np.random.default_rng(seed)
    out = np.zeros((volumes, slices, 48, 48), np.uint8)
    for place in np.ndindex(volumes, slices):
        middle, wall = rng.normal(7, 0.8), np.clip(rng.normal(3.6, 0.9), 1.8, 5)
        inner, outer = middle - wall / 2, middle + wall / 2
        centre = tuple(rng.uniform(14, 33, 2))
        out[place] = ring((48, 48), centre, inner, outer, rng.uniform(1, 1.4))
    return out
