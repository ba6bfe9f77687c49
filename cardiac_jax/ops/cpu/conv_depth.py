"""3D convolution of stride 1 on a CPU as 2D convolutions: depth folded into the batch, its taps into the channels.

The gathered taps are several times the size of the input. Above `SLAB` elements, the forward pass and both gradients
gather them for one slab of the depth at a time, so that only one slab of taps exists. The gradients are written by
hand: automatic differentiation would store the gathered taps and add a full-size image for every slab.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from cardiac_jax.ops.cpu.remat import blank

SLAB = 2**20
"""Maximum number of gathered elements in a slab of more than one slice: 4 MB in float32, which fit in the cache."""


class Fold(NamedTuple):
    """Static description: padding and dilation per spatial axis, and 2D convolution `(x, kernel, pads, dilation)`."""

    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    plane: Callable[[Array, Array, tuple, tuple], Array]


def folded(x: Array, kernel: Array, fold: Fold) -> Array:
    """`x` [B, D, H, W, Cin], `kernel` [*k, Cin, Cout] -> [B, D', H', W', Cout], in one slab or several."""
    return _unsplit(x, kernel, fold) if _slab(x, kernel, fold) is None else _slabs(x, kernel, fold)


def added(x: Array, kernel: Array, fold: Fold) -> Array:
    """`folded` for inference: one 2D convolution computes the outputs of all taps, which are shifted and added."""
    taps, cout, step = kernel.shape[0], kernel.shape[-1], fold.dilation[0]
    x = _pad_depth(x, fold)
    depth = x.shape[1] - (taps - 1) * step
    y = _in_plane(x, jnp.moveaxis(kernel, 0, 3).reshape(*kernel.shape[1:4], taps * cout), fold)
    return sum(
        (y[:, i * step : i * step + depth, ..., i * cout : (i + 1) * cout] for i in range(1, taps)),
        start=y[:, :depth, ..., :cout],
    )


def _pad_depth(x: Array, fold: Fold) -> Array:
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*fold.pads[0], 0), *((0, 0, 0),) * 3))


def _in_plane(x: Array, kernel: Array, fold: Fold) -> Array:
    """`x` [B, D, H, W, C] convolved slice by slice with a 2D kernel."""
    y = fold.plane(x.reshape(-1, *x.shape[2:]), kernel, fold.pads[1:], fold.dilation[1:])
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _taps(x: Array, depth: int, taps: int, step: int) -> Array:
    """Gathered taps: [B, depth + (taps - 1) * step, H, W, C] -> [B, depth, H, W, taps * C]."""
    return jnp.concatenate([x[:, i * step : i * step + depth] for i in range(taps)], axis=-1)


def _window(x: Array, start: Array, size: int, fold: Fold) -> Array:
    """`size` slices from `start` of the depth-padded `x`, without a padded copy of `x`."""
    before, after = (max(pad, 0) for pad in fold.pads[0])
    start, held = start - fold.pads[0][0], min(size, x.shape[1])
    first = jnp.clip(start, 0, x.shape[1] - held)
    part = lax.dynamic_slice_in_dim(x, first, held, axis=1)
    part = lax.pad(part, jnp.zeros((), x.dtype), ((0, 0, 0), (before, after, 0), *((0, 0, 0),) * 3))
    return lax.dynamic_slice_in_dim(part, before + start - first, size, axis=1)


def _stacked(kernel: Array) -> Array:
    """2D kernel for gathered taps: [kd, kh, kw, Cin, Cout] -> [kh, kw, kd * Cin, Cout]."""
    return jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])


def _depth(x: Array, kernel: Array, fold: Fold) -> int:
    return x.shape[1] + sum(fold.pads[0]) - (kernel.shape[0] - 1) * fold.dilation[0]


def _slab(x: Array, kernel: Array, fold: Fold) -> int | None:
    """Slices per slab, a divisor of the output depth; None if one slab suffices or the kernel has depth 1."""
    depth = _depth(x, kernel, fold)
    slice_ = x.size // x.shape[1] * kernel.shape[0]
    if kernel.shape[0] == 1 or depth * slice_ <= SLAB:
        return None
    return max(n for n in range(1, depth) if depth % n == 0 and (n == 1 or n * slice_ <= SLAB))


def _unsplit(x: Array, kernel: Array, fold: Fold) -> Array:
    taps = _taps(_pad_depth(x, fold), _depth(x, kernel, fold), kernel.shape[0], fold.dilation[0])
    return _in_plane(taps, _stacked(kernel), fold)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _slabs(x: Array, kernel: Array, fold: Fold) -> Array:
    return _forward_after(x, x, kernel, fold)


def _forward_after(after: Array, x: Array, kernel: Array, fold: Fold) -> Array:
    """The convolution, which starts after `after` is computed."""
    taps, step, depth = kernel.shape[0], fold.dilation[0], _depth(x, kernel, fold)
    slab = _slab(x, kernel, fold) or depth
    shape = jax.eval_shape(partial(_unsplit, fold=fold), x, kernel).shape
    kernel = _stacked(kernel)

    def put(i: Array, y: Array) -> Array:
        window = _window(x, i * slab, slab + (taps - 1) * step, fold)
        part = _in_plane(_taps(window, slab, taps, step), kernel, fold)
        return lax.dynamic_update_slice_in_dim(y, part, i * slab, axis=1)

    return lax.fori_loop(0, depth // slab, put, blank(shape, after))


def _forward(x: Array, kernel: Array, fold: Fold):
    return _slabs(x, kernel, fold), (x, kernel)


def _backward(fold: Fold, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """Gradients with respect to `x` and `kernel`; that of `x` is computed last, when `x` can be freed."""
    x, kernel = saved
    reach = [(k - 1) * d for k, d in zip(kernel.shape, fold.dilation, strict=False)]
    back = fold._replace(pads=tuple((r - a, r - b) for r, (a, b) in zip(reach, fold.pads, strict=True)))
    of_kernel = by_kernel(x, kernel, gradient, fold)
    return _forward_after(of_kernel, gradient, jnp.flip(kernel, (0, 1, 2)).swapaxes(-1, -2), back), of_kernel


def by_kernel(x: Array, kernel: Array, gradient: Array, fold: Fold) -> Array:
    """Gradient with respect to the kernel, [kd, kh, kw, Cin, Cout], summed over slabs."""
    taps, step, depth = kernel.shape[0], fold.dilation[0], gradient.shape[1]
    slab = _slab(x, kernel, fold) or depth
    shape = (*kernel.shape[1:3], taps * kernel.shape[-2], kernel.shape[-1])
    pads = ((0, 0, 0), *((a, b, 0) for a, b in fold.pads[1:]), (0, 0, 0))

    def add(i: Array, total: Array) -> Array:
        window = _window(x, i * slab, slab + (taps - 1) * step, fold)
        gathered = _taps(window, slab, taps, step)
        gathered = lax.pad(gathered.reshape(-1, *gathered.shape[2:]), jnp.zeros((), x.dtype), pads)
        part = lax.dynamic_slice_in_dim(gradient, i * slab, slab, axis=1)
        return total + kernel_gradient(gathered, part.reshape(-1, *part.shape[2:]), shape, fold.dilation[1:])

    total = lax.fori_loop(0, depth // slab, add, jnp.zeros(shape, kernel.dtype))
    return jnp.moveaxis(total.reshape(*kernel.shape[1:3], taps, *kernel.shape[-2:]), 2, 0)


_slabs.defvjp(_forward, _backward)


def kernel_gradient(x: Array, gradient: Array, shape: tuple[int, ...], dilation: tuple[int, ...]) -> Array:
    """Gradient of a 2D convolution with respect to its kernel of `shape`; `x` [B, H', W', Cin] is already padded.

    For each image, the gradient is shifted along W by each column tap and concatenated; each row tap is then one matrix
    product.
    """
    rows, columns, cin, cout = shape
    height, width, (down, along) = gradient.shape[1], x.shape[2], dilation

    def image(total: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        v, g = pair
        fill = (columns - 1) * along
        shifted = [jnp.pad(g, ((0, 0), (j * along, fill - j * along), (0, 0))) for j in range(columns)]
        g = jnp.concatenate(shifted, axis=-1).reshape(height * width, columns * cout)
        v = v.reshape(x.shape[1], width * cin)
        dots = [v[i * down : i * down + height].reshape(height * width, cin).T @ g for i in range(rows)]
        return total + jnp.stack(dots), None

    total, _ = lax.scan(image, jnp.zeros((rows, cin, columns * cout), x.dtype), (x, gradient))
    return total.reshape(rows, cin, columns, cout).transpose(0, 2, 1, 3)
