"""Random augmentation on the device, inside the compiled training step.

Rotation, scaling, shear, translation, mirroring and elastic deformation are composed into *one* resampling.
Blur, gamma, bias field, contrast, brightness and noise follow. Each transform uses the example's key folded with the
transform's number. Switching one transform off does not change the random numbers of the others, and the result for an
example depends only on its key, not on its batch or device. Transforms with probability 0 are not part of the compiled
program, so the configuration must be static: closed over, or `jit(..., static_argnames="config")`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, auto
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiac_jax.core.passes import random
from cardiac_jax.core.types import Array, Pass
from cardiac_jax.errors import InputError
from cardiac_jax.ops.geometry import affine_matrix, coordinates, quarter_turn_matrix, upsample
from cardiac_jax.ops.warp import resample, resample_labels


class Augment(NamedTuple):
    """Probability (`*_p`) and range of each transform.

    Lengths are in in-plane pixels, intensities in the unit of the image (SD, for a z-scored image). The defaults suit
    short-axis LGE. Intensity transforms have separate random parameters for each channel, i.e. for each sequence.
    """

    rotation_p: float = 0.5
    rotation_deg: float = 20.0  # uniform in +- this
    scale_p: float = 0.5
    scale: float = 0.15  # factor exp(u) per axis, u uniform in +- this
    shear_p: float = 0.3
    shear: float = 0.1  # uniform in +- this
    translation_p: float = 0.5
    translation_px: float = 10.0  # per axis, uniform in +- this
    flip_p: float = 0.0  # per in-plane axis; changes the side of the RV
    quarter_turn_p: float = 0.0  # in-plane rotation by 90, 180 or 270 degrees, exact on square images
    elastic_p: float = 0.5
    elastic_points: int = 13  # control points per axis
    elastic_px: float = 3.0  # SD ("normal") or half-width ("uniform") of a control point's displacement
    elastic_noise: str = "normal"
    elastic_basis: str = "cubic"  # "cubic" B-spline or "linear"
    depth_px: float = 0.0  # 0: in-plane, the same for all slices; else in 3D, with slices this many pixels apart
    outside_image: str = "edge"  # fill value: nearest edge pixel ("edge") or the channel's minimum ("min")
    outside_label: int = 0  # fill value: background (0) or not annotated (255)

    blur_p: float = 0.2
    blur_px: float = 1.0  # SD, uniform in [0, this]
    gamma_p: float = 0.3
    gamma: float = 0.4  # exponent exp(u), u uniform in +- this, on the image's range; mean and SD are preserved
    bias_p: float = 0.3
    bias: float = 0.4  # coil shading: log amplitude at the control points, uniform in +- this
    bias_points: int = 5
    contrast_p: float = 0.3
    contrast: float = 0.25  # factor exp(u) about the mean, u uniform in +- this
    brightness_p: float = 0.3
    brightness: float = 0.3  # uniform in +- this
    noise_p: float = 0.3
    noise: float = 0.15  # SD, uniform in [0, this]


PROBABILITIES = tuple(name for name in Augment._fields if name.endswith("_p"))
_OFF: dict[str, Any] = dict.fromkeys(PROBABILITIES, 0.0)
IDENTITY = Augment()._replace(**_OFF)

# Coarse-grid warp of the MyoPS system: 8 x 8 displacements in [-5, 5] px, bilinear; quarter turns in one of two.
MYOPS = IDENTITY._replace(
    elastic_p=1.0,
    elastic_points=8,
    elastic_px=5.0,
    elastic_noise="uniform",
    elastic_basis="linear",
    quarter_turn_p=0.5,
)


class _Id(IntEnum):
    """The number folded into the key. Only append: another order would change all random numbers."""

    ROTATION = 0
    SCALE = auto()
    SHEAR = auto()
    TRANSLATION = auto()
    FLIP = auto()
    QUARTER_TURN = auto()
    ELASTIC = auto()
    BLUR = auto()
    GAMMA = auto()
    BIAS = auto()
    CONTRAST = auto()
    BRIGHTNESS = auto()
    NOISE = auto()


def augment(
    image: jax.Array,
    label: jax.Array | None,
    key: jax.Array,
    config: Augment,
    image_scale: Sequence[int] = (),
    label_scale: Sequence[int] = (),
) -> tuple[jax.Array, jax.Array | None]:
    """Augment one example: `image` [*S, C] and `label` [*S] (int, or None), S = (H, W) or (Z, H, W).

    Returns arrays of the same shapes. The slices of a volume share one in-plane deformation unless `config.depth_px`
    > 0. Pure, for jit and vmap.

    Args:
      image_scale, label_scale: voxels of `image` and of `label` per voxel of the network's grid along each axis; (): 1.
        Pixels and slices in `config` are those of the network's grid. Arrays of one key move together in mm, whatever
        their grids, which cover the same box (see `coordinates` of `ops/geometry.py`).

    Raises:
      InputError: the configuration is invalid.
      ValueError: the shapes do not fit.
    """
    size = _network_size(image.shape[:-1], image_scale)
    fits = label is None or _network_size(label.shape, label_scale) == size
    if size is None or not fits or image.ndim not in (3, 4):
        raise ValueError(f"image {image.shape} and label {None if label is None else label.shape} do not fit")
    _check(config)
    bits = _draw(key, (*size, image.shape[-1]), config)
    coords = _source(bits, size, config, image_scale)
    if coords is not None:
        fill = None if config.outside_image == "edge" else image.min(tuple(range(image.ndim - 1)))
        image = resample(image, coords, fill)
        if label is not None:
            same = tuple(label_scale) == tuple(image_scale)
            moved = coords if same else _source(bits, size, config, label_scale)
            assert moved is not None
            label = resample_labels(label, moved, config.outside_label)
    return _intensity(image, bits, config), label


def augment_batch(
    image: jax.Array, label: jax.Array | None, keys: jax.Array, config: Augment
) -> tuple[jax.Array, jax.Array | None]:
    """Apply `augment` to each example of `image` [B, *S, C] and `label` [B, *S] with its key in `keys` [B]."""
    return jax.vmap(lambda x, y, k: augment(x, y, k, config))(image, label, keys)


def augmentation(config: Augment, scale: Sequence[int] = (), image: str = "image") -> Pass:
    """Return a pass that augments an image and `label` together, each example with its own key.

    Args:
      scale: voxels of `label` per voxel of the network's grid along each axis; (): 1.
      image: "image", which lies on the network's grid, or "fine", which lies on that of `label`.
    """
    finer = tuple(scale) if any(factor != 1 for factor in scale) else ()
    scales = {"label_scale": finer, "image_scale": () if image == "image" else finer}

    def both(keys: Array, image: Array, label: Array) -> tuple[Array, Array]:
        given = (image, label.astype(jnp.int32), keys)
        image, warped = jax.vmap(lambda x, y, k: augment(x, y, k, config, **scales))(*given)
        assert warped is not None
        return image, warped

    return random(both, [image, "label"], [image, "label"])


def in_plane(key: jax.Array, config: Augment) -> tuple[jax.Array, jax.Array]:
    """Return a random matrix [2, 2] and shift [2] (pixels): rotation, scaling, shear, mirroring, quarter turn, shift.

    They are distributed as in `augment` of a slice with this configuration; `coordinates` of `ops/geometry.py` takes
    them. Identity and zero where the configuration moves nothing.
    """
    c = config._replace(depth_px=0.0)
    return _affine(_draw(key, (1, 1, 1), c), 2, c)


def white_noise(seed: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return approximately normal noise of `shape`, mean 0, SD 1, within +-3.5.

    It is the sum of the four bytes of a hash of (seed, index), with `seed` [2] uint32. It takes a tenth of the time of
    `jax.random.normal` on a CPU. Use it for image noise, not for statistics.
    """
    x = jnp.zeros(shape, jnp.uint32)
    for axis, length in enumerate(shape):
        x = x * jnp.uint32(length) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    for k, (shift, factor) in enumerate(((16, 0x9E3779B1), (15, 0x7FEB352D), (13, 0x846CA68B))):
        x = (x ^ seed[k % 2]) * jnp.uint32(factor)
        x = x ^ (x >> jnp.uint32(shift))
    total = jnp.asarray(sum((x >> jnp.uint32(8 * k)) & jnp.uint32(255) for k in range(4)))
    return (total.astype(jnp.float32) - 510.0) * (4 * (256**2 - 1) / 12) ** -0.5


def _network_size(size: tuple[int, ...], scale: Sequence[int]) -> tuple[int, ...] | None:
    """Size of the network's grid of an array on a grid `scale` times finer; None if it does not divide."""
    scale = tuple(scale) or (1,) * len(size)
    fits = len(scale) == len(size) and all(s % f == 0 for s, f in zip(size, scale, strict=True))
    return tuple(s // f for s, f in zip(size, scale, strict=True)) if fits else None


def _source(bits: jax.Array, size: tuple[int, ...], c: Augment, scale: Sequence[int] = ()) -> jax.Array | None:
    """Source coordinates [n, *size[-n:]] of every output voxel, or None if no spatial transform is on.

    With `scale`, those of the voxels of a finer grid, see `coordinates`.
    """
    moves = (c.rotation_p, c.scale_p, c.shear_p, c.translation_p, c.flip_p, c.quarter_turn_p, c.elastic_p)
    if not any(moves):
        return None
    n = _dimensions(size, c)
    size = size[-n:]
    voxel_px = jnp.array([c.depth_px, 1.0, 1.0][-n:])
    matrix, shift_px = _affine(bits, n, c)
    control = None
    if c.elastic_p:
        grid = _control_grid(size, c)
        on, u = _on(bits, _Id.ELASTIC, c.elastic_p, prod(grid))
        field = 2.0 * u - 1.0
        if c.elastic_noise == "normal":
            field = 2**0.5 * jax.lax.erf_inv(field)
        amplitude = jnp.where(on, c.elastic_px, 0.0) / voxel_px
        control = (field.reshape(n, -1) * amplitude[:, None]).reshape(grid)
    # Rotations are rigid in pixels, not in voxels: neighbouring slices are `depth_px` apart.
    matrix = matrix * voxel_px[None, :] / voxel_px[:, None]
    return coordinates(matrix, shift_px / voxel_px, size, control, c.elastic_basis, tuple(scale)[-n:])


def _affine(bits: jax.Array, n: int, c: Augment) -> tuple[jax.Array, jax.Array]:
    """Matrix [n, n] and shift [n] in pixels of everything but the elastic deformation."""
    planes = n * (n - 1) // 2
    matrix = affine_matrix(
        jnp.deg2rad(_signed(bits, _Id.ROTATION, c.rotation_p, c.rotation_deg, planes)),
        jnp.exp(-_signed(bits, _Id.SCALE, c.scale_p, c.scale, n)),
        _signed(bits, _Id.SHEAR, c.shear_p, c.shear, planes),
    )
    if c.flip_p:
        mirrored = _uniform(bits[_Id.FLIP, 1:3]) < c.flip_p
        matrix = jnp.ones(n).at[-2:].set(jnp.where(mirrored, -1.0, 1.0))[:, None] * matrix
    if c.quarter_turn_p:
        on, u = _on(bits, _Id.QUARTER_TURN, c.quarter_turn_p, 1)
        turn = quarter_turn_matrix(jnp.where(on, 1 + (3.0 * u[0]).astype(jnp.int32), 0))
        turn = jnp.eye(n).at[-2:, -2:].set(turn)
        matrix = jnp.matmul(turn, matrix, precision=jax.lax.Precision.HIGHEST)
    return matrix, _signed(bits, _Id.TRANSLATION, c.translation_p, c.translation_px, n)


def _intensity(x: jax.Array, bits: jax.Array, c: Augment) -> jax.Array:
    """`x` [*S, C] with blur, gamma, bias field, contrast, brightness and noise; parameters per channel."""
    channels, dtype = x.shape[-1], x.dtype
    x = x.astype(jnp.float32)

    def spread(parameter: jax.Array) -> jax.Array:  # [C] -> [1, .., C]
        return parameter.reshape((1,) * (x.ndim - 1) + (channels,))

    if c.blur_p:
        on, u = _on(bits, _Id.BLUR, c.blur_p, channels)
        x = jnp.where(on, _blur(x, c.blur_px * u), x)
    low = _reduce(jnp.min, x)
    if c.gamma_p:
        on, _ = _on(bits, _Id.GAMMA, c.gamma_p, 0)
        exponent = spread(jnp.exp(_signed(bits, _Id.GAMMA, c.gamma_p, c.gamma, channels)))
        unit = (x - low) / jnp.maximum(_reduce(jnp.max, x) - low, 1e-6)
        curved = jnp.exp(exponent * jnp.log(jnp.maximum(unit, 1e-6)))
        (mean, sd), (curved_mean, curved_sd) = _moments(x), _moments(curved)
        gain = jnp.where(on, sd / jnp.maximum(curved_sd, 1e-6), 0.0)
        x = jnp.where(on, (curved - curved_mean) * gain + mean, x)
    if c.bias_p:
        grid = (channels, c.bias_points, c.bias_points)
        on, u = _on(bits, _Id.BIAS, c.bias_p, prod(grid))
        control = jnp.exp((2.0 * u - 1.0) * c.bias).reshape(grid)
        field = upsample(control, x.shape[-3:-1])  # positive, because the basis is
        field = jnp.moveaxis(field, 0, -1).reshape((1,) * (x.ndim - 3) + (*x.shape[-3:-1], channels))
        x = jnp.where(on, low + (x - low) * field, x)
    if c.contrast_p:
        mean = _reduce(jnp.mean, x)
        factor = jnp.exp(_signed(bits, _Id.CONTRAST, c.contrast_p, c.contrast, channels))
        x = x + (x - mean) * spread(factor - 1.0)
    if c.brightness_p:
        x = x + spread(_signed(bits, _Id.BRIGHTNESS, c.brightness_p, c.brightness, channels))
    if c.noise_p:
        on, u = _on(bits, _Id.NOISE, c.noise_p, channels)
        seed = bits[_Id.NOISE, 1 + channels : 3 + channels]
        x = x + white_noise(seed, x.shape) * spread(jnp.where(on, c.noise * u, 0.0))
    return x.astype(dtype)


def _blur(x: jax.Array, sigma_px: jax.Array) -> jax.Array:
    """In-plane Gaussian blur of `x` [*S, H, W, C] with `sigma_px` [C]; kernels renormalised at the edges."""

    def kernel(length: int) -> jax.Array:
        offset = np.subtract.outer(np.arange(length), np.arange(length)).astype(np.float32)
        weight = jnp.exp(-0.5 * (offset[None] / jnp.maximum(sigma_px, 1e-2)[:, None, None]) ** 2)
        return weight / weight.sum(2, keepdims=True)

    rows, columns = kernel(x.shape[-3]), kernel(x.shape[-2])
    return jnp.einsum("...hwc,cgh,cvw->...gvc", x, rows, columns, precision=jax.lax.Precision.HIGHEST)


def _draw(key: jax.Array, shape: tuple[int, ...], c: Augment) -> jax.Array:
    """Random bits [transforms, width], row i from the key folded with i; its first number switches transform i on.

    All rows come from one call with the largest width: on a CPU, compiling a second call costs more than generating a
    hundred times too many bits.
    """
    channels = shape[-1]
    width = 1 + max(3, channels + 2, prod(_control_grid(shape[:-1], c)), channels * c.bias_points**2)
    rows = jnp.arange(len(_Id))
    return jax.vmap(lambda row: jax.random.bits(jax.random.fold_in(key, row), (width,)))(rows)


def _dimensions(size: tuple[int, ...], c: Augment) -> int:
    return 3 if c.depth_px and len(size) == 3 else 2


def _control_grid(size: tuple[int, ...], c: Augment) -> tuple[int, ...]:
    """(n, *G): the configured control points per axis, but at most max(axis length, 4)."""
    n = _dimensions(size, c)
    return (n, *[min(c.elastic_points, max(s, 4)) for s in size[-n:]])


def _uniform(bits: jax.Array) -> jax.Array:
    """Uniform in the open interval (0, 1), exact in float32."""
    return ((bits >> jnp.uint32(9)).astype(jnp.float32) + 0.5) * 2.0**-23


def _on(bits: jax.Array, which: _Id, probability: float, count: int) -> tuple[jax.Array, jax.Array]:
    """Whether a transform happens, and `count` uniform numbers for it."""
    return _uniform(bits[which, 0]) < probability, _uniform(bits[which, 1 : 1 + count])


def _signed(bits: jax.Array, which: _Id, probability: float, limit: float, count: int) -> jax.Array:
    """[count] uniform in +-limit if the transform happens, else 0."""
    on, u = _on(bits, which, probability, count)
    return jnp.where(on, (2.0 * u - 1.0) * limit, 0.0)


def _reduce(f, x: jax.Array) -> jax.Array:
    """`f` over all axes of `x` [*S, C] except the channels, with reduced axes kept for broadcasting."""
    return f(x, axis=tuple(range(x.ndim - 1)), keepdims=True)


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean = _reduce(jnp.mean, x)
    return mean, jnp.sqrt(_reduce(jnp.mean, (x - mean) ** 2))


def _check(config: Augment) -> None:
    for name in PROBABILITIES:
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise InputError(f"augment.{name}", f"{getattr(config, name)} is not a probability")
    for name, allowed in (
        ("elastic_noise", ("normal", "uniform")),
        ("elastic_basis", ("cubic", "linear")),
        ("outside_image", ("edge", "min")),
    ):
        if getattr(config, name) not in allowed:
            raise InputError(f"augment.{name}", f"{getattr(config, name)!r} is none of {', '.join(allowed)}")
