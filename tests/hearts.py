"""An autoencoder of hearts that is a formula, so that its prior needs no training: a ring about a pool, and an RV.

The code is (pool's radius - 6, wall - 3, RV's radius - 6, gap of RV and wall) in pixels; a negative gap is none, a
thin wall is cut through, and an RV of radius 1 or less is absent.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cardiac_jax.anatomy import anatomical_prior, heart_check
from cardiac_jax.anatomy.heart import HEART
from cardiac_jax.anatomy.projection import pack
from cardiac_jax.core.types import Net

SIZE, SPACING_MM = (48, 48), 2.0
CLASSES = ("background", "RV", "Myo", "LV")
CODES = 4


def heart(code, shape: Sequence[int], centre: Sequence[float] | np.ndarray, module=np):
    """Codes `[..., 4]` -> labels `[..., *shape]` uint8, the pool about `centre`; `module` is `numpy` or `jax.numpy`."""
    pool, wall, right, gap = (code[..., i, None, None] for i in range(CODES))
    ones = (1,) * (code.ndim - 1)
    y = module.arange(shape[0]).reshape(*ones, -1, 1) - centre[0]
    x = module.arange(shape[1]).reshape(*ones, 1, -1) - centre[1]
    pool, right = pool + 6, right + 6
    outer = pool + wall + 3
    beside = outer + 0.3 * right + module.maximum(gap, 0)
    far = module.sqrt(y * y + x * x)
    cut = (wall < -1) & (module.abs(y) < 1) & (x < 0)
    labels = module.where((right > 1) & (module.sqrt(y * y + (x + beside) ** 2) < right), 1, 0)
    labels = module.where((far < outer + module.maximum(gap, 0)) & (labels == 1), 0, labels)
    labels = module.where((far < outer) & ~cut, 2, labels)
    return module.where(far < pool, 3, labels).astype(np.uint8).reshape(*code.shape[:-1], *shape)


class Hearts(nn.Module):
    """Maps one-hot `[B, H, W, 4]` <-> codes `[B, 4]`; one parameter, a factor of the logits."""

    size: Sequence[int] = SIZE
    bank_size: int = 200
    components: int = 2
    structures: str = "heart"

    def setup(self) -> None:
        self.gain = self.param("gain", nn.initializers.ones, ())

    def encode(self, x, *, train, mask=None, index=None):
        """The radii that the areas of a whole heart would have; of the gap something without meaning."""
        right, wall, pool = (x[..., k].sum((1, 2)) / jnp.pi for k in (1, 2, 3))
        inner = jnp.sqrt(pool)
        outer = jnp.sqrt(pool + wall)
        return jnp.stack([inner - 6, outer - inner - 3, jnp.sqrt(right) * 1.1 - 6, jnp.sin(right)], 1)

    def decode(self, code, *, train, mask=None, index=None):
        labels = heart(code, self.size, [(s - 1) / 2 for s in self.size], jnp)
        return self.gain * jax.nn.one_hot(labels, len(CLASSES))

    def __call__(self, x, *, train, mask=None, index=None):
        code = self.encode(x, train=train)
        return self.decode(code, train=train), code


NET = Net("autoencoder", Hearts(), ((*SIZE, len(CLASSES)),))
PARAMS = {"params": {"gain": jnp.ones(())}}


def decoded(codes: np.ndarray) -> np.ndarray:
    """Codes `[N, 4]` -> labels `[N, 48, 48]`."""
    return heart(np.asarray(codes, np.float32), SIZE, [(s - 1) / 2 for s in SIZE])


def bank(codes: np.ndarray) -> dict[str, jax.Array]:
    """The collection of a prior whose bank is `codes`."""
    return {
        "codes": jnp.asarray(codes, jnp.float32),
        "masks": pack(jnp.asarray(decoded(codes))),
        "weights": jnp.array([1.0, 0.0]),
        "means": jnp.zeros((2, CODES)),
        "cholesky": jnp.stack([jnp.eye(CODES)] * 2),
    }


def fits() -> dict[str, dict[str, Any]]:
    """The figures of the prior's fit that a prior is made of: the default limits."""
    return {anatomical_prior.STAGE: {"limits": heart_check.DEFAULT._asdict()}}


@cache
def prior() -> anatomical_prior.Prior:
    """A prior of those of 200 hearts that pass, small and large ones, with and without RV."""
    rng = np.random.default_rng(0)
    codes = rng.uniform((-3, -0.5, -6, -1), (3, 1, 2, 0), (200, CODES)).astype(np.float32)
    passed = HEART.is_valid(decoded(codes), SPACING_MM, heart_check.DEFAULT)
    return anatomical_prior.prior(NET, {"autoencoder": {**PARAMS, "bank": bank(codes[passed])}}, fits(), SPACING_MM)
