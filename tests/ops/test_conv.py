"""The fast forms against the plain `lax` operations in float64: values and both gradients to 1e-12."""

import re
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from cardiac_jax.ops import conv as form
from cardiac_jax.ops.conv import conv, conv_transpose, depth_to_space, per_axis, space_to_depth
from cardiac_jax.ops.cpu import conv_depth
from cardiac_jax.ops.cpu.compiler import accepted, compiler_options
from cardiac_jax.ops.cpu.remat import wait
from cardiac_jax.ops.cpu.switch import PLAIN
from cardiac_jax.ops.pool import max_pool, upsample_linear, upsample_nearest

pytestmark = pytest.mark.usefixtures("cpu_forms")

# These programs run once: most of their time is compilation.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def assert_same(ours: Callable, stock: Callable, *args: np.ndarray) -> None:
    """Equal values, and equal gradients for a random cotangent, relative to the largest entry."""
    cotangent = np.random.default_rng(1).standard_normal(jax.eval_shape(stock, *args).shape)

    def value_and_gradients(f: Callable, *args: jax.Array):
        value, pull = jax.vjp(f, *args)
        return f(*args), value, pull(jnp.asarray(cotangent))  # without and with a gradient: two different forms

    got = jit(lambda *a: value_and_gradients(ours, *a))(*args)
    want = jit(lambda *a: value_and_gradients(stock, *a))(*args)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1, np.abs(b).max()))


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


def names(rank: int) -> tuple[str, str, str]:
    space = "HW" if rank == 2 else "DHW"
    return f"N{space}C", f"{space}IO", f"N{space}C"


CONVOLUTIONS = {
    # size, kernel, Cin, Cout, strides, dilation
    "plain": ((13, 17), (3, 3), 5, 7, 1, 1),
    "kernel gradient image by image": ((101, 103), (3, 3), 2, 3, 1, 1),
    "even kernel": ((12, 13), (4, 2), 2, 3, 1, 1),
    "dilated": ((12, 13), (3, 3), 2, 3, 1, 2),
    "stride 2": ((13, 18), (3, 3), 5, 7, 2, 1),
    "stride 3": ((12, 16), (3, 3), 5, 1, 3, 1),
    "stride 2, kernel 4": ((13, 17), (4, 4), 5, 7, 2, 1),
    "stride 2, kernel 1": ((7, 9), (1, 1), 3, 4, 2, 1),
    "stride 2, dilated": ((13, 17), (3, 3), 5, 7, 2, 2),
    "one channel": ((13, 17), (3, 3), 1, 7, 1, 1),
    "one channel, dilated": ((13, 17), (3, 3), 1, 7, 1, 2),
    "kernel 1": ((8, 9), (1, 1), 3, 4, 1, 1),
    "3D": ((6, 8, 9), (3, 3, 3), 3, 4, 1, 1),
    "3D dilated": ((6, 8, 9), (3, 3, 3), 3, 4, 1, 2),
    "3D one channel": ((6, 8, 9), (3, 3, 3), 1, 4, 1, 1),
    "3D in plane": ((6, 8, 9), (1, 3, 3), 3, 4, 1, 1),
    "3D, flat last axis": ((6, 8, 9), (3, 3, 1), 3, 4, 1, 1),
    "3D stride 2": ((6, 8, 9), (3, 3, 3), 3, 4, 2, 1),
    "3D stride in plane": ((6, 8, 9), (3, 3, 3), 3, 4, (1, 2, 2), 1),
}


@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_conv(case):
    size, kernel, cin, cout, strides, dilation = case

    def stock(x, k):
        rank = len(size)
        return lax.conv_general_dilated(
            x,
            k,
            per_axis(strides, rank),
            "SAME",
            rhs_dilation=per_axis(dilation, rank),
            dimension_numbers=names(rank),
        )

    def ours(x, k):
        return conv(x, k, strides=strides, dilation=dilation)

    assert_same(ours, stock, normal(2, *size, cin), normal(*kernel, cin, cout))


@pytest.mark.parametrize("name", [name for name in CONVOLUTIONS if name.startswith("3D")])
@pytest.mark.parametrize("slab", [1, 4000])
def test_conv_3d_slab_by_slab(name, slab, monkeypatch):
    """A slice at a time, and two or three."""
    monkeypatch.setattr(conv_depth, "SLAB", slab)
    test_conv(CONVOLUTIONS[name])


def test_what_waits_is_unchanged():
    for after in (np.nan, -0.0, np.inf, -1.5):
        for dtype in (jnp.float64, jnp.float32, jnp.bfloat16):
            x = jnp.asarray([1.0, np.nan, -np.inf], dtype)
            waited = wait(x, jnp.full((1, 2), after, dtype))
            assert waited.dtype == dtype
            np.testing.assert_array_equal(waited.astype(float), x.astype(float))


@pytest.mark.parametrize(
    ("size", "kernel", "strides"),
    [
        ((5, 6), (2, 2), (2, 2)),
        ((5, 6), (3, 3), (2, 2)),
        ((5, 6), (4, 4), (2, 2)),
        ((5, 6), (7, 7), (3, 3)),
        ((5, 6), (5, 5), (1, 1)),
        ((5, 6), (5, 3), (2, 3)),
        ((3, 5, 6), (2, 2, 2), (2, 2, 2)),
        ((3, 5, 6), (1, 2, 2), (1, 2, 2)),
        ((3, 5, 6), (1, 4, 4), (1, 2, 2)),
        ((3, 5, 6), (10, 1, 1), (5, 1, 1)),
    ],
)
def test_conv_transpose(size, kernel, strides):
    def stock(x, k):
        return lax.conv_transpose(x, k, strides, "SAME", dimension_numbers=names(len(size)))

    given = normal(2, *size, 3), normal(*kernel, 3, 4)
    assert_same(lambda x, k: conv_transpose(x, k, strides=strides), stock, *given)
    elsewhere = partial(form._subpixel, static=strides, plain=form._stock_conv)  # what other platforms run
    assert_same(elsewhere, stock, *given)


@pytest.mark.parametrize("size, kernel, strides", [((8, 8), (2, 2), (2, 2)), ((9, 9), (7, 7), (3, 3))])
def test_on_a_gpu_no_transposed_convolution_dilates_an_image(size, kernel, strides, monkeypatch):
    """cuDNN knows no kernel gradient of one that does: XLA then slides a window as large as the image."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # where JAX knows a GPU, both forms are traced

    def dilated(transpose: Callable) -> int:
        def loss(x, k):
            return (transpose(x, k) ** 2).sum()

        step = jax.jit(jax.value_and_grad(loss, (0, 1))).trace(jnp.zeros((1, *size, 3)), jnp.zeros((*kernel, 3, 4)))
        lowered = step.lower(lowering_platforms=("cuda",)).as_text()
        assert "stablehlo.convolution" in lowered
        return len(re.findall(r"lhs_dilate = \[(?!1, 1\])", lowered))

    assert dilated(partial(conv_transpose, strides=strides)) == 0
    names_ = names(2)
    assert dilated(lambda x, k: lax.conv_transpose(x, k, strides, "SAME", dimension_numbers=names_)) > 0


def test_conv_transpose_refuses_gaps():
    with pytest.raises(ValueError, match="smaller than its stride"):
        conv_transpose(jnp.zeros((1, 4, 4, 1)), jnp.zeros((1, 1, 1, 1)), strides=2)


def test_gradient_of_a_gradient():
    x, k = normal(1, 6, 7, 2), normal(3, 3, 2, 3)

    def penalty(f):
        return lambda k: (jax.grad(lambda x: (f(x, k) ** 3).sum())(x) ** 2).sum()

    def stock(x, k):
        return lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=names(2))

    got, want = jax.grad(penalty(conv))(k), jax.grad(penalty(stock))(k)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12 * np.abs(want).max())


@pytest.mark.parametrize(
    ("size", "window"),
    [((6, 8), (2, 2)), ((7, 9), (2, 2)), ((5, 6, 8), (1, 2, 2)), ((5, 7, 8), (2, 2, 2)), ((6, 9), (2, 3))],
)
def test_max_pool(size, window):
    """With many ties, as after a ReLU: they go to the same element as in the stock operation."""
    x = np.maximum(np.random.default_rng(0).integers(-3, 3, (2, *size, 3)), 0).astype(float)
    assert_same(lambda x: max_pool(x, window), lambda x: nn.max_pool(x, window_shape=window, strides=window), x)


def test_max_pool_keeps_the_sum_of_the_gradient():
    gradient = jax.grad(lambda x: (max_pool(x) * jnp.arange(1.0, 7.0).reshape(1, 2, 3, 1)).sum())(
        jnp.zeros((1, 4, 6, 1))
    )
    assert gradient.sum() == 1 + 2 + 3 + 4 + 5 + 6


def test_upsample_nearest():
    x = normal(2, 3, 4, 5, 2)
    want = x.repeat(2, 2).repeat(3, 3)
    np.testing.assert_array_equal(upsample_nearest(jnp.asarray(x), (1, 2, 3)), want)


def test_upsample_linear():
    """Finer index q is index (q - (f - 1) / 2) / f, and beyond the first and last centre it is the value there."""
    x = normal(2, 3, 4, 2)
    want = x
    for axis, factor in ((1, 5), (2, 2)):
        size = want.shape[axis]
        at = (np.arange(size * factor) - (factor - 1) / 2) / factor
        want = np.apply_along_axis(lambda line, at=at, size=size: np.interp(at, np.arange(size), line), axis, want)
    np.testing.assert_allclose(upsample_linear(jnp.asarray(x), (5, 2)), want, atol=1e-12)
    with pytest.raises(ValueError, match="does not fit"):
        upsample_linear(jnp.asarray(x), (5, 1, 1))


@pytest.mark.parametrize("block", [(2, 3), (1, 2, 3)])
def test_space_to_depth_and_back(block):
    x = jnp.asarray(normal(2, *(2 * b for b in block), 3))
    packed = space_to_depth(x, block)
    assert packed.shape == (2, *(2 for _ in block), np.prod(block) * 3)
    np.testing.assert_array_equal(depth_to_space(packed, block), x)


def test_per_axis_refuses_another_rank():
    with pytest.raises(ValueError, match="does not fit 2"):
        per_axis((1, 2, 2), 2)


@pytest.mark.parametrize("once", [False, True])
def test_compiler_options_are_accepted_here(once):
    compiled = jax.jit(lambda x: x + 1, compiler_options=compiler_options(once=once))
    assert compiled(1) == 2


def test_unknown_compiler_options_are_recognised():
    assert not accepted(no_such_option="1")
    assert not accepted(xla_cpu_experimental_ynn_fusion_type="NO_SUCH_FUSION")


def test_the_switch_chooses_the_plain_operation(monkeypatch):
    x, kernel = jnp.zeros((1, 4, 8, 8, 2)), jnp.zeros((3, 3, 3, 2, 4))

    def convolutions() -> list[int]:
        jaxpr = str(jax.make_jaxpr(lambda x, k: conv(x, k))(x, kernel))
        return [spec.count(",") - 1 for spec in re.findall(r"lhs_spec=\(([\d, ]*)\)", jaxpr)]

    assert convolutions() and set(convolutions()) == {2}, "depth is folded into the batch"
    monkeypatch.setenv(PLAIN, "1")
    assert convolutions() == [3]
