"""Convolution and transposed convolution, channels last, any rank.

On a CPU, both run in the form that XLA runs fastest; elsewhere, and with CARDIAC_JAX_PLAIN_OPS=1, `conv` is the plain
`lax` operation, which compiles sooner. The forms agree to rounding. Convolution is bilinear, so one gradient rule
serves every form: the vector-Jacobian product of the form with respect to one argument, with the other fixed.

A transposed convolution is a convolution of stride 1 to prod(strides) * Cout channels followed by depth-to-space, on
every platform (sub-pixel form; with kernel 2 and stride 2 it is one matrix product). On a GPU, cuDNN has no form for
the kernel gradient of `lax.conv_transpose`, which runs as a convolution with a window as large as the image.

Forms used on a CPU:
- stride > 1: space-to-depth, then a convolution of stride 1 with a rearranged kernel;
- kernel 1: a matrix product;
- one input channel: a sum of shifted multiply-adds;
- three spatial axes: depth is folded into the batch; its taps are concatenated on the channel axis slab by slab
  (training), or added after one 2D convolution (inference), see `conv_depth.py`;
- few channels on a large image: the kernel gradient is computed image by image, see `_conv2d`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from cardiac_jax.ops.cpu.conv_depth import Fold, added, by_kernel, folded, kernel_gradient
from cardiac_jax.ops.cpu.switch import by_platform, is_plain

Pads = tuple[tuple[int, int], ...]
Size = int | Sequence[int]


class Geometry(NamedTuple):
    """Static description of a convolution: one entry per spatial axis."""

    strides: tuple[int, ...]
    pads: Pads
    dilation: tuple[int, ...]


def per_axis(value: Size, rank: int) -> tuple[int, ...]:
    """One value per spatial axis, `rank` in all; an int is repeated.

    Raises:
      ValueError: the number of values is not `rank`.
    """
    axes = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(axes) != rank:
        raise ValueError(f"{axes} does not fit {rank} spatial axes")
    return axes


def conv(x: Array, kernel: Array, *, strides: Size = 1, dilation: Size = 1, padding: str | Pads = "SAME") -> Array:
    """Cross-correlation of `x` [B, *S, Cin] with `kernel` [*k, Cin, Cout] -> [B, *S', Cout], as in `flax.linen.Conv`.

    Raises:
      ValueError: `strides` or `dilation` does not fit the number of spatial axes.
    """
    rank = kernel.ndim - 2
    strides, dilation = per_axis(strides, rank), per_axis(dilation, rank)
    if isinstance(padding, str):
        extent = [(k - 1) * d + 1 for k, d in zip(kernel.shape, dilation, strict=False)]
        padding = tuple(lax.padtype_to_pads(x.shape[1:-1], extent, strides, padding))
    return _conv(x, kernel, Geometry(strides, padding, dilation))


def conv_transpose(x: Array, kernel: Array, *, strides: Size) -> Array:
    """Transposed "SAME" convolution: [B, *S, Cin], [*k, Cin, Cout] -> [B, *(S * strides), Cout].

    The conventions are those of `flax.linen.ConvTranspose`.

    Raises:
      ValueError: the kernel is smaller than its stride along an axis (the output would have gaps).
    """
    strides = per_axis(strides, kernel.ndim - 2)
    if any(k < s for k, s in zip(kernel.shape, strides, strict=False)):
        raise ValueError(f"kernel {kernel.shape[:-2]} is smaller than its stride {strides}")
    return _conv_transpose(x, kernel, strides)


# -------------------------------------------------------------------------------------- platform and gradient


def _bilinear(stock: Callable, training: Callable, inference: Callable) -> Callable:
    """Function (x, kernel, static) that runs `training` or `inference` on a CPU and `stock` elsewhere."""

    @partial(jax.custom_vjp, nondiff_argnums=(2, 3))
    def call(x: Array, kernel: Array, static, plain: bool) -> Array:
        return by_platform(partial(inference, static=static), partial(stock, static=static), x, kernel, plain=plain)

    def forward(x: Array, kernel: Array, static, plain: bool):
        forms = partial(training, static=static), partial(stock, static=static)
        return by_platform(*forms, x, kernel, plain=plain), (x, kernel)

    def backward(static, plain: bool, saved, gradient: Array):
        def gradients(form: Callable, x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
            return jax.vjp(partial(form, static=static), x, kernel)[1](g)

        return by_platform(partial(gradients, training), partial(gradients, stock), *saved, gradient, plain=plain)

    call.defvjp(forward, backward)
    compiled = jax.jit(call, static_argnums=(2, 3))  # one trace for all layers of a shape
    return lambda x, kernel, static: compiled(x, kernel, static, is_plain())


def _stock_conv(x: Array, kernel: Array, static: Geometry) -> Array:
    space = "DHW"[3 - (kernel.ndim - 2) :]
    return lax.conv_general_dilated(
        x,
        kernel,
        static.strides,
        static.pads,
        rhs_dilation=static.dilation,
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
    )


# ---------------------------------------------------------------------------------------------- rearrangement


def space_to_depth(x: Array, block: Sequence[int]) -> Array:
    """[B, *S, C] -> [B, *(S / block), prod(block) * C]; the channel axis is ordered (offset in the block, C)."""
    rank = len(block)
    split = [v for size, b in zip(x.shape[1:-1], block, strict=True) for v in (size // b, b)]
    x = x.reshape(x.shape[0], *split, x.shape[-1])
    order = (0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    return x.transpose(order).reshape(x.shape[0], *split[::2], -1)


def depth_to_space(x: Array, block: Sequence[int]) -> Array:
    """Inverse of `space_to_depth`: [B, *S, prod(block) * C] -> [B, *(S * block), C]."""
    rank, space = len(block), x.shape[1:-1]
    y = x.reshape(x.shape[0], *space, *block, -1)
    order = (0, *(axis for i in range(rank) for axis in (1 + i, 1 + rank + i)), 2 * rank + 1)
    return y.transpose(order).reshape(x.shape[0], *(s * b for s, b in zip(space, block, strict=True)), y.shape[-1])


def _pad_space(x: Array, pads: Pads) -> Array:
    """`x` [B, *S, C] with zero-padded spatial axes; negative values crop."""
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((a, b, 0) for a, b in pads), (0, 0, 0)))


def _tap(x: Array, at: Sequence[int], size: Sequence[int]) -> Array:
    """Window of `x` [B, *S, C] with spatial extent `size` and first voxel `at`."""
    return lax.slice(x, (0, *at, 0), (x.shape[0], *(a + s for a, s in zip(at, size, strict=True)), x.shape[-1]))


def _block_kernel(kernel: Array, pads: Pads, block: Sequence[int]) -> Array:
    """Kernel [*k, Cin, Cout], padded by `pads` to a multiple of `block` per axis -> [*taps, *block, Cin, Cout]."""
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), (*((a, b, 0) for a, b in pads), (0, 0, 0), (0, 0, 0)))
    rank = len(block)
    split = [v for size, b in zip(kernel.shape[:-2], block, strict=True) for v in (size // b, b)]
    order = (*range(0, 2 * rank, 2), *range(1, 2 * rank, 2), 2 * rank, 2 * rank + 1)
    return kernel.reshape(*split, *kernel.shape[-2:]).transpose(order)


# -------------------------------------------------------------------------------------------------- CPU forms


def _cpu_conv(x: Array, kernel: Array, static: Geometry, inference: bool = False) -> Array:
    strides, pads, dilation = static
    if max(strides) > 1:
        return _strided(x, kernel, static)
    if max(kernel.shape[:-2]) == 1:
        return _pad_space(x, pads) @ kernel.reshape(kernel.shape[-2:])
    if kernel.shape[-2] == 1:
        return _one_channel(_pad_space(x, pads), kernel, dilation)
    if len(strides) == 3:
        return (added if inference else folded)(x, kernel, Fold(pads, dilation, _plane))
    if len(strides) == 2 and max(dilation) == 1:
        return _conv2d(x, kernel, pads)
    return _stock_conv(x, kernel, static)


def _strided(x: Array, kernel: Array, static: Geometry) -> Array:
    strides, pads, dilation = static
    if max(dilation) > 1:
        return _stock_conv(x, kernel, static)
    taps = [-(-k // s) for k, s in zip(kernel.shape, strides, strict=False)]
    fits, fill = [], []
    for size, (before, after), k, s, m in zip(x.shape[1:-1], pads, kernel.shape, strides, taps, strict=False):
        out = (size + before + after - k) // s + 1
        fits.append((before, (out - 1 + m) * s - size - before))
        fill.append((0, m * s - k))
    blocks = _block_kernel(kernel, tuple(fill), strides)
    kernel = blocks.reshape(*taps, prod(strides) * kernel.shape[-2], kernel.shape[-1])
    ones = (1,) * len(strides)
    plain = Geometry(ones, ((0, 0),) * len(strides), ones)
    return _cpu_conv(space_to_depth(_pad_space(x, tuple(fits)), strides), kernel, plain)


def _subpixel(x: Array, kernel: Array, static: tuple[int, ...], plain: Callable = _cpu_conv) -> Array:
    """Transposed convolution in sub-pixel form; `plain` is the convolution of stride 1.

    Output s q + r gathers input q + u through tap t = s u + a - r, where a is the number of zeros before the dilated
    input.
    """
    fill, pads = [], []
    for k, s in zip(kernel.shape, static, strict=False):
        a = k - 1 if s > k - 1 else -(-(k + s - 2) // 2)
        low, high = -(a // s), (k - 1 - a + s - 1) // s
        before = s - 1 - a - s * low
        fill.append((before, s * (high - low + 1) - k - before))
        pads.append((-low, high))
    blocks = _block_kernel(kernel, tuple(fill), static)
    rank = len(static)
    blocks = jnp.flip(blocks, tuple(range(rank, 2 * rank)))
    blocks = jnp.moveaxis(blocks, 2 * rank, rank)
    kernel = blocks.reshape(*blocks.shape[:rank], kernel.shape[-2], prod(static) * kernel.shape[-1])
    ones = (1,) * rank
    return depth_to_space(plain(x, kernel, Geometry(ones, tuple(pads), ones)), static)


def _plane(x: Array, kernel: Array, pads: Pads, dilation: tuple[int, ...]) -> Array:
    return _cpu_conv(x, kernel, Geometry((1, 1), pads, dilation))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _one_channel(x: Array, kernel: Array, dilation: tuple[int, ...]) -> Array:
    """Convolution of `x` [B, *S, 1], already padded: the sum over taps of the shifted image times the kernel row."""
    first, *others = (tap * row.reshape((1,) * (x.ndim - 1) + (-1,)) for tap, row in _taps(x, kernel, dilation))
    return sum(others, first)


def _taps(x: Array, kernel: Array, dilation: tuple[int, ...]) -> list[tuple[Array, Array]]:
    size = [s - (k - 1) * d for s, k, d in zip(x.shape[1:-1], kernel.shape, dilation, strict=False)]
    taps = list(product(*(range(k) for k in kernel.shape[:-2])))
    return [(_tap(x, [i * d for i, d in zip(tap, dilation, strict=True)], size), kernel[tap][0]) for tap in taps]


def _one_channel_product(x: Array, kernel: Array, dilation: tuple[int, ...]) -> Array:
    """`_one_channel` as one matrix product, whose two gradients are matrix products too."""
    patches = jnp.concatenate([tap for tap, _ in _taps(x, kernel, dilation)], axis=-1)
    return patches @ kernel.reshape(-1, kernel.shape[-1])


def _one_channel_forward(x: Array, kernel: Array, dilation: tuple[int, ...]):
    return _one_channel(x, kernel, dilation), (x, kernel)


def _one_channel_backward(dilation: tuple[int, ...], saved, gradient: Array):
    x, kernel = saved
    by_input, of_kernel = jax.vjp(partial(_one_channel_product, dilation=dilation), *saved)[1](gradient)
    if len(dilation) == 3:
        of_kernel = by_kernel(x, kernel, gradient, Fold(((0, 0),) * 3, dilation, _plane))
    return by_input, of_kernel


_one_channel.defvjp(_one_channel_forward, _one_channel_backward)


def _plain2d(x: Array, kernel: Array, pads: Pads) -> Array:
    return _stock_conv(x, kernel, Geometry((1, 1), pads, (1, 1)))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv2d(x: Array, kernel: Array, pads: Pads) -> Array:
    """2D convolution of stride 1; with few channels on a large image, its kernel gradient is `kernel_gradient`."""
    return _plain2d(x, kernel, pads)


def _conv2d_forward(x: Array, kernel: Array, pads: Pads):
    return _plain2d(x, kernel, pads), (x, kernel)


def _conv2d_backward(pads: Pads, saved, gradient: Array):
    x, kernel = saved
    (by_input,) = jax.vjp(lambda v: _plain2d(v, kernel, pads), x)[1](gradient)
    if max(kernel.shape[-2:]) <= 64 and min(gradient.shape[1:3]) >= 100:
        return by_input, kernel_gradient(_pad_space(x, pads), gradient, kernel.shape, (1, 1))
    return by_input, jax.vjp(lambda v: _plain2d(x, v, pads), kernel)[1](gradient)[0]


_conv2d.defvjp(_conv2d_forward, _conv2d_backward)


_conv = _bilinear(_stock_conv, _cpu_conv, partial(_cpu_conv, inference=True))
_conv_transpose = _bilinear(partial(_subpixel, plain=_stock_conv), _subpixel, _subpixel)
