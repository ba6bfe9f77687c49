"""Low-resolution stacks from high-resolution volumes: thick slices, breath-hold motion, noise (Oktay et al. 2018).

All functions are for one volume `[D, H, W, C]`; D runs along the slices, apex first. `spacing_mm` is that of the volume
given, along D, H, W. A scanner exposes a thick slice in one breath-hold, so motion is applied to the thick slices
(`misalign` with `factor` 1 after `thick`); before `thick`, neighbouring groups that moved apart are blurred together.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cardiac_jax.ops.geometry import affine_matrix, coordinates
from cardiac_jax.ops.warp import resample

TRUNCATE = 4.0  # radius of the Gaussian, in sigma
LEAST = 0.05  # sigma, in slices, up to which nothing is blurred


def misalign(
    key: jax.Array,
    fine: jax.Array,
    shift_mm: float | jax.Array = 4.0,
    rotation_deg: float | jax.Array = 5.0,
    *,
    spacing_mm: Sequence[float],
    factor: int = 1,
) -> jax.Array:
    """Returns `fine` `[D, H, W, C]` with each group of `factor` slices moved rigidly in plane, edges continued.

    Every group has its own shift, uniform in +-`shift_mm` along each axis, and rotation about the centre of the image,
    uniform in +-`rotation_deg`. A group's motion depends on the key and its number only.

    Raises:
      ValueError: D is not a multiple of `factor`.
    """
    groups = _groups(fine, factor)
    pixel_mm = jnp.asarray(spacing_mm[-2:], jnp.float32)

    def move(x: jax.Array, number: jax.Array) -> jax.Array:
        u = jax.random.uniform(jax.random.fold_in(key, number), (3,), minval=-1.0, maxval=1.0)
        turn = affine_matrix(jnp.deg2rad(u[:1] * rotation_deg), jnp.ones(2), jnp.zeros(1))
        matrix = turn * (pixel_mm[None, :] / pixel_mm[:, None])  # a rotation in mm, not in pixels
        return resample(x, coordinates(matrix, u[1:] * shift_mm / pixel_mm, x.shape[-3:-1]))

    return jax.vmap(move)(groups, jnp.arange(len(groups))).reshape(fine.shape)


def thick(fine: jax.Array, sigma_mm: float = 4.0, *, spacing_mm: Sequence[float], factor: int = 5) -> jax.Array:
    """Returns slices `factor` times thicker: `[D, H, W, C]` -> `[D / factor, H, W, C]`.

    A Gaussian along the slices, continued beyond the boundary by the nearest slice, is sampled at the middle of each
    group of `factor` slices (between two slices, if `factor` is even).

    Raises:
      ValueError: D is not a multiple of `factor`, or `sigma_mm` is negative.
    """
    _groups(fine, factor)
    weights = jnp.asarray(_profile(len(fine), sigma_mm / spacing_mm[0], factor), fine.dtype)
    return jnp.tensordot(weights, fine, 1, precision=jax.lax.Precision.HIGHEST)


def noise(key: jax.Array, image: jax.Array, sd: float | jax.Array) -> jax.Array:
    """Returns the image with white Gaussian noise of standard deviation `sd`, in units of the image."""
    return image + sd * jax.random.normal(key, image.shape, image.dtype)


def _groups(fine: jax.Array, factor: int) -> jax.Array:
    """`[D, H, W, C]` -> `[D / factor, factor, H, W, C]`."""
    if fine.ndim != 4 or len(fine) % factor:
        raise ValueError(f"a volume [D, H, W, C] with D a multiple of {factor} is expected, not {fine.shape}")
    return fine.reshape(-1, factor, *fine.shape[1:])


def _profile(depth: int, sigma: float, factor: int) -> np.ndarray:
    """Weights `[depth / factor, depth]` of a Gaussian at the middle of each group; `sigma` in slices."""
    if sigma < 0:
        raise ValueError(f"sigma {sigma} is negative")
    middle = np.arange(depth // factor) * factor + (factor - 1) / 2
    radius = max(int(TRUNCATE * sigma + 0.5), 1)
    taps = np.floor(middle)[:, None] + np.arange(-radius, radius + 2)
    far = taps - middle[:, None]
    heights = np.exp(-0.5 * (far / sigma) ** 2) if sigma > LEAST else (np.abs(far) < 1).astype(float)
    heights[np.abs(far) > max(radius, 0.5)] = 0
    heights /= heights.sum(axis=1, keepdims=True)
    out = np.zeros((len(middle), depth))
    np.add.at(out, (np.arange(len(middle))[:, None], np.clip(taps, 0, depth - 1).astype(int)), heights)
    return out
