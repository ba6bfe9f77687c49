"""Similarity of a restored image to its reference: SSIM (Wang et al. 2004, eq. 13) and PSNR, batched, for jit.

The window of the paper, a Gaussian of 11 taps and sigma 1.5 pixels, is taken in 3D (`ssim` of a volume) or in each
slice (`plane_ssim`).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

SIGMA = 1.5  # SD of the Gaussian window, px
RADIUS = 5  # 11 taps
K1, K2 = 0.01, 0.03


def ssim(
    image: jax.Array, truth: jax.Array, data_range: float | jax.Array, region: jax.Array | None = None
) -> jax.Array:
    """Mean structural similarity of each example: `[B, *S]`, `[B, *S]` -> `[B]`, 1 if equal; S is 2D or 3D.

    Local statistics use a Gaussian window of 11 taps and sigma 1.5 along each axis of S. They are weighted by the
    window (not sample covariances). The mean covers voxels whose window lies inside the image, 5 voxels from each edge.

    Args:
      image, truth: intensities of one floating-point type.
      data_range: largest minus smallest possible intensity, a number or `[B]`. If it is 0 the result is NaN.
      region: `[B, *S]` bool, voxels whose windows are averaged; the windows may reach beyond it. None: all. NaN where
        no window inside the image has its centre in the region.

    Raises:
      ValueError: the shapes differ, or an axis of S is shorter than the window.
    """
    _same_shape(image, truth)
    if image.ndim < 3 or min(image.shape[1:]) < 2 * RADIUS + 1:
        raise ValueError(f"each image of {image.shape} needs {2 * RADIUS + 1} voxels along every axis")
    size = jnp.reshape(jnp.asarray(data_range, image.dtype), (-1,) + (1,) * (image.ndim - 1))
    size = jnp.broadcast_to(size, (image.shape[0],) + (1,) * (image.ndim - 1))
    # Subtract a common level before the second moments: in float32 they lose digits if the mean is large.
    level = jnp.mean(truth, axis=tuple(range(1, truth.ndim)), keepdims=True)
    x, y = image - level, truth - level
    x_mean, y_mean, xx, yy, xy = _blur(jnp.stack([x, y, x * x, y * y, x * y]))
    x_variance, y_variance, covariance = xx - x_mean**2, yy - y_mean**2, xy - x_mean * y_mean
    x_mean, y_mean = x_mean + level, y_mean + level
    c1, c2 = (K1 * size) ** 2, (K2 * size) ** 2
    above = (2 * x_mean * y_mean + c1) * (2 * covariance + c2)
    below = (x_mean**2 + y_mean**2 + c1) * (x_variance + y_variance + c2)
    inside = (slice(None), *(slice(RADIUS, -RADIUS) for _ in image.shape[1:]))
    return _mean(above / below, None if region is None else region[inside])


def plane_ssim(
    image: jax.Array, truth: jax.Array, data_range: float | jax.Array, region: jax.Array | None = None
) -> jax.Array:
    """Mean structural similarity of the slices: `[B, Z, H, W]`, `[B, Z, H, W]` -> `[B]`.

    The window lies in the plane, as in the paper; a slice counts by its number of averaged pixels. `data_range` is a
    number or `[B]`, one of the whole volume. Other arguments and errors as in `ssim`.
    """
    b, z, *plane = image.shape
    sizes = jnp.repeat(jnp.broadcast_to(jnp.asarray(data_range, image.dtype), (b,)), z)
    masks = jnp.ones(image.shape, bool) if region is None else region
    flat, flat_truth, flat_mask = (jnp.reshape(a, (b * z, *plane)) for a in (image, truth, masks))
    inside = flat_mask[:, RADIUS:-RADIUS, RADIUS:-RADIUS]
    weights = jnp.reshape(jnp.sum(inside, axis=(1, 2)), (b, z)).astype(image.dtype)
    values = jnp.reshape(ssim(flat, flat_truth, sizes, flat_mask), (b, z))
    return jnp.sum(jnp.where(weights > 0, weights * values, 0), axis=1) / jnp.sum(weights, axis=1)


def psnr(
    image: jax.Array, truth: jax.Array, data_range: float | jax.Array, region: jax.Array | None = None
) -> jax.Array:
    """Peak signal-to-noise ratio of each example in dB: `[B, *S]`, `[B, *S]` -> `[B]`; infinite if equal.

    10 log10(data_range^2 / mean squared error); `data_range` is a number or `[B]`. The mean is over the voxels of
    `region [B, *S]` bool; None: all.

    Raises:
      ValueError: the shapes differ.
    """
    _same_shape(image, truth)
    error = _mean(jnp.square(image - truth), region)
    return 20 * jnp.log10(jnp.asarray(data_range, image.dtype)) - 10 * jnp.log10(error)


def _same_shape(image: jax.Array, truth: jax.Array) -> None:
    if image.shape != truth.shape:
        raise ValueError(f"image {image.shape} and truth {truth.shape} differ in shape")


def _mean(values: jax.Array, region: jax.Array | None) -> jax.Array:
    """Mean over S of `[B, *S]`, in the region; NaN where it is empty."""
    axes = tuple(range(1, values.ndim))
    if region is None:
        return jnp.mean(values, axis=axes)
    return jnp.sum(jnp.where(region, values, 0), axis=axes) / jnp.sum(region, axis=axes)


def _blur(x: jax.Array) -> jax.Array:
    """Gaussian blur along each axis of S, without padding: `[M, B, *S]` -> `[M, B, *(S - 10)]`.

    Uses shifted multiply-adds: they keep the input's precision on every device, which a convolution may not.
    """
    taps = np.exp(-0.5 * np.square(np.arange(-RADIUS, RADIUS + 1) / SIGMA))
    taps = [float(t) for t in taps / math.fsum(taps)]
    for axis in range(2, x.ndim):
        size = x.shape[axis] - 2 * RADIUS
        shifted = (jax.lax.slice_in_dim(x, k, k + size, axis=axis) * tap for k, tap in enumerate(taps))
        x = sum(shifted, start=jnp.zeros((), x.dtype))
    return x
