"""The 3D DR-UNet, V-Net and the 3D U-Net by injection: the battery of `test_nets.py`, then what is particular."""

from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cardiac_jax.nets.drunet import DilatedBottleneck, DRUNet, ResidualEncoder
from cardiac_jax.nets.unet import UNet
from cardiac_jax.nets.vnet import PReLU, VNet
from tests.nets.test_nets import (
    AXIS,
    all_reached,
    block_count,
    close,
    conv_count,
    doubled,
    example,
    jit,
    total,
    unet_count,
    variables,
)
from tests.toys import NearestUp

CUBE = (3, 3, 3)


def drunet_count(f, channels, classes):
    """Bottleneck: four convolutions, each with scale and offset. A decoder block reads what lies below and its skip."""
    encoder = sum(block_count(CUBE, a, b) for a, b in ((channels, f), (f, 2 * f), (2 * f, 4 * f)))
    merging = conv_count((1,), f + 2 * f, 2 * f) + conv_count((1,), 2 * f + 4 * f, 4 * f)
    bottleneck = conv_count(CUBE, 4 * f, 8 * f) + 3 * conv_count(CUBE, 8 * f, 8 * f) + 4 * 2 * 8 * f
    decoder = sum(block_count(CUBE, below + b, b) for below, b in ((8 * f, 4 * f), (4 * f, 2 * f), (2 * f, f)))
    return encoder + merging + bottleneck + decoder + conv_count((1,), f, classes, bias=True)


def vnet_count(features, convs, channels, classes, kernel, window, norm=True):
    """A layer: convolution, then scale and offset of the norm, or else a bias; and a slope per channel."""

    def layer(kernel, a, b):
        return conv_count(kernel, a, b, bias=not norm) + (2 * b if norm else 0) + b

    down = layer(kernel, channels, features[0]) + (convs[0] - 1) * layer(kernel, features[0], features[0])
    down += sum(
        layer(window, a, b) + n * layer(kernel, b, b) for (a, b), n in zip(pairwise(features), convs[1:], strict=True)
    )
    below = [*(2 * f for f in features[1:-1]), features[-1]]  # stages up are twice as wide as their skip
    up = sum(
        layer(window, a, b) + n * layer(kernel, 2 * b, 2 * b)
        for a, b, n in zip(below, features[:-1], convs[:-1], strict=True)
    )
    return down + up + conv_count((1,), 2 * features[0], classes, bias=True)


# name -> network, shape of one example, shapes of the outputs for it, number of parameters
NETS = {
    "DRUNet": (
        partial(DRUNet, 2, 3),
        (8, 8, 16, 2),
        [(8, 8, 16, 3), (8, 8, 16, 2)],
        drunet_count(2, 2, 3),
    ),
    "DRUNet, Z kept": (
        partial(DRUNet, 2, 1, keep_z=True),
        (3, 8, 16, 1),
        [(3, 8, 16, 1), (3, 8, 16, 2)],
        drunet_count(2, 1, 1),
    ),
    "VNet": (
        partial(VNet, (3, 4), (1, 2), 3, kernel=(1, 3, 3), window=(1, 2, 2)),
        (2, 4, 8, 2),
        [(2, 4, 8, 3), (2, 4, 8, 6)],
        vnet_count((3, 4), (1, 2), 2, 3, (1, 3, 3), (1, 2, 2)),
    ),
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


TRAINED = ("DRUNet", "VNet")


@cache
def in_training(name):
    """Variables, a batch of six, and a step (v, x, mask, index) -> (total, (outputs, statistics)), (dv, dx)."""
    build, shape, *_ = NETS[name]
    net, x = build(dtype=jnp.float64), example(shape)
    return variables(net, x), x, jit(jax.value_and_grad(partial(total, net), (0, 1), has_aux=True))


def count(net, *shape):
    v = jax.eval_shape(partial(net.init, train=False), jax.random.key(0), np.zeros((1, *shape), np.float32))
    return sum(p.size for p in jax.tree.leaves(v["params"]))


@pytest.mark.parametrize("name", NETS)
def test_shapes_types_and_parameter_count(name):
    build, shape, outputs, parameters = NETS[name]
    x = example(shape, 2).astype(jnp.float32)
    for dtype in (jnp.float32, jnp.bfloat16):
        net = build(dtype=dtype)
        out, v = jax.eval_shape(partial(net.init_with_output, train=False), jax.random.key(0), x)
        out = jax.tree.leaves(out)
        assert [o.shape for o in out] == [(2, *o) for o in outputs]
        assert {o.dtype for o in out} == {jnp.dtype("float32")}
        assert sum(p.size for p in jax.tree.leaves(v["params"])) == parameters


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_and_every_example_get_a_finite_gradient(name):
    v, x, step = in_training(name)
    _, (by_variable, by_input) = step(v, x, np.ones(6), np.arange(6))
    all_reached(by_variable, by_input)


@pytest.mark.parametrize("name", TRAINED)
def test_padding_changes_nothing(name):
    """Three examples and three of rubbish are half of the three twice: in loss, gradients and statistics."""
    v, x, step = in_training(name)
    index, real = np.array([0, 1, 2, 0, 1, 2]), np.asarray(x)[:3]
    mask, rubbish = np.array([1.0, 1, 1, 0, 0, 0]), np.full_like(real, 100.0)
    (half, (_, got_new)), (half_v, half_x) = step(v, np.concatenate([real, rubbish]), mask, index)
    (full, (_, new)), (full_v, full_x) = step(v, np.concatenate([real, real]), np.ones(6), index)
    close((2 * half, got_new), (full, new))
    close(doubled(half_v["params"]), full_v["params"])
    half_x, full_x = np.asarray(half_x), np.asarray(full_x)
    close(half_x[:3], full_x[:3])
    assert (half_x[3:] == 0).all()


@pytest.mark.parametrize("name", TRAINED)
def test_devices_and_computing_again_change_nothing(name):
    """Three devices with unequal numbers of real examples, blocks computed again, give what one gives that keeps all.

    Here the devices are a mapped axis of that name, which compiles in a third of the time.
    """
    v, x, step = in_training(name)
    again = {"remat": True} if "remat" in NETS[name][0].func.__dataclass_fields__ else {}
    net = NETS[name][0](dtype=jnp.float64, axis_name=AXIS, **again)

    def on_device(v, x, mask, index):
        (value, (_, new)), gradient = jax.value_and_grad(partial(total, net), has_aux=True)(v, x, mask, index)
        return lax.psum((value, gradient["params"]), AXIS), new

    args = np.asarray(x), np.array([1.0, 1, 1, 1, 1, 0]), np.arange(6)
    shards = [a.reshape(3, 2, *a.shape[1:]) for a in args]
    got = jax.tree.map(np.asarray, jit(jax.vmap(on_device, axis_name=AXIS, in_axes=(None, 0, 0, 0)))(v, *shards))
    (value, (_, new)), (gradient, _) = step(v, *args)
    for device in range(3):
        close(jax.tree.map(lambda a, d=device: a[d], got), ((value, gradient["params"]), new))


# ------------------------------------------------------------------------------------------------------- DR-UNet


def pullback(net, x):
    """Variables, and the gradient of `total` as a function of them that holds what is kept for the backward pass."""
    return jax.eval_shape(partial(net.init, train=False), jax.random.key(0), x), backward(net, x)


def backward(net, x):
    mask, index = np.ones(len(x)), np.arange(len(x))
    return partial(jax.vjp, lambda v, x: total(net, v, x, mask, index), has_aux=True)


def test_of_every_block_only_the_input_is_kept_and_only_on_demand():
    """Five examples of 8 x 8 x 8, 2 filters; a decoder block convolves what lies below and its skip, concatenated."""
    x, trees = jnp.zeros((5, 8, 8, 8, 1)), []
    inputs = {(5, 8, 8, 8, 1), (5, 8, 8, 8, 2), (5, 4, 4, 4, 4), (5, 2, 2, 2, 8), (5, 1, 1, 1, 16)}
    inputs |= {(5, 8, 8, 8, 4)}  # the logits
    for remat in (False, True):
        v, f = pullback(DRUNet(2, remat=remat), x)
        kept = {leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(lambda *a, f=f: f(*a)[1], v, x))}
        images = {shape for shape in kept if len(shape) == 5 and shape[0] == 5}
        assert ((5, 8, 8, 8, 4 + 2) in images) != remat
        assert (images <= inputs) == remat
        trees.append(jax.tree.map(jnp.shape, v))
    assert trees[0] == trees[1]


def test_published_sizes():
    """The localiser (8 filters) has less than a million parameters, whether or not Z is kept."""
    for filters, keep_z, millions in ((8, False, 0.59), (8, True, 0.59), (16, True, 2.35), (32, False, 9.41)):
        got = count(DRUNet(filters, keep_z=keep_z), 8, 16, 16, 1)
        assert got == drunet_count(filters, 1, 4)
        assert round(got / 1e6, 2) == millions


def test_head_makes_the_logits_of_the_features():
    v, x, step = in_training("DRUNet")
    (_, ((logits, features), _)), _ = step(v, x, np.ones(6), np.arange(6))
    net = NETS["DRUNet"][0](dtype=jnp.float64)
    head = {"params": {"output": v["params"]["output"]}}  # all that it needs
    close(net.apply(head, features, train=False, method="head"), logits, 1e-12)


def test_poolings_keep_or_halve_z():
    x = jnp.zeros((1, 6, 16, 16, 1))
    v = jax.eval_shape(partial(DRUNet(2, keep_z=True).init, train=False), jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"\(6, 16, 16\) is not divisible by \(8, 8, 8\)"):
        jax.eval_shape(partial(DRUNet(2).apply, train=False), v, x)
    with pytest.raises(ValueError, match=r"\(6, 16, 12\) is not divisible by \(1, 8, 8\)"):
        jax.eval_shape(partial(DRUNet(2, keep_z=True).apply, train=False), v, x[..., :12, :])
    with pytest.raises(ValueError, match="is not"):
        jax.eval_shape(partial(DRUNet(2).apply, train=False), v, x[0])


def test_bottleneck_sums_successive_dilations():
    """Against the plain convolution: y_i = relu(k_i * y_(i-1)) with dilation 1, 2, 4, 8; the sum of the y_i."""
    net, x = DilatedBottleneck(3, (1, 2, 2), norm=None, dtype=jnp.float64), example((5, 18, 20, 2), 1)
    v = variables(net, x)
    y, want = x.reshape(1, 5, 9, 2, 10, 2, 2).max((3, 5)), 0
    for i, d in enumerate((1, 2, 4, 8)):
        kernel = v["params"][f"ConvBlock_{i}"]["Conv_0"]["kernel"]
        numbers = ("NDHWC", "DHWIO", "NDHWC")
        y = lax.conv_general_dilated(y, kernel, (1, 1, 1), "SAME", rhs_dilation=(d,) * 3, dimension_numbers=numbers)
        y = jnp.maximum(y, 0)
        want = want + y
    close(jit(partial(net.apply, train=False))(v, x), want, 1e-12)


def test_encoder_merges_its_input():
    """With both convolutions at zero, what is left is the pooled input through its rows of the merging matrix."""
    net, x = ResidualEncoder(4, (2, 2, 2), norm=None, dtype=jnp.float64), example((2, 4, 6, 3), 1)
    v = variables(net, x)
    zero = {**v["params"], "ConvBlock_0": jax.tree.map(jnp.zeros_like, v["params"]["ConvBlock_0"])}
    pooled = x.reshape(1, 1, 2, 2, 2, 3, 2, 3).max((2, 4, 6))
    close(
        jit(partial(net.apply, train=False))({"params": zero}, x),
        pooled @ v["params"]["merge"]["kernel"][0, 0, 0, :3],
        1e-12,
    )
    first = ResidualEncoder(4, 1, residual=False)
    y, v = jax.eval_shape(partial(first.init_with_output, train=False), jax.random.key(0), x)
    assert set(v["params"]) == {"ConvBlock_0"} and y.shape == (1, 2, 4, 6, 4)


# --------------------------------------------------------------------------------------------------- V-Net, U-Net


def test_vnet_published_size():
    """Five levels, 5x5x5; without normalisation as published, and with it."""
    features, convs = (16, 32, 64, 128, 256), (1, 2, 3, 3, 3)
    for net in (VNet(classes=2, norm=None), VNet(classes=2)):
        got = count(net, 16, 16, 16, 1)
        assert got == vnet_count(features, convs, 1, 2, (5, 5, 5), (2, 2, 2), norm=net.norm is not None)
    assert round(got / 1e6, 1) == 65.2


def test_vnet_learns_residuals():
    """With the convolutions of a stage at zero, the image repeated over the channels passes, but for the slope."""
    net, x = VNet((4,), (2,), 2, norm=None, dtype=jnp.float64), example((3, 4, 5, 3), 2) - 0.5
    v = variables(net, x)
    zero = {k: {**p, "Conv_0": jax.tree.map(jnp.zeros_like, p["Conv_0"])} if "Conv_0" in p else p
            for k, p in v["params"].items()}  # fmt: skip
    _, features = jit(partial(net.apply, train=False))({"params": zero}, x)
    repeated = jnp.concatenate([x, x[..., :1]], -1)
    close(features, jnp.where(repeated > 0, repeated, repeated / 4), 1e-12)


def test_prelu_slopes_are_per_channel():
    v = {"params": {"slope": jnp.array([0.5, -1.0])}}
    np.testing.assert_array_equal(PReLU().apply(v, jnp.array([[-2.0, -2], [3, 3], [0, 0]])), [[-1, 2], [3, 3], [0, 0]])


@pytest.mark.parametrize("window, bottleneck", [(2, (2, 32, 32)), ((1, 2, 2), (16, 32, 32))])
def test_unet_by_injection_is_the_3d_baseline(window, bottleneck):
    """Pooling in three axes or in plane, learned or nearest upsampling: shapes at the size of ACDC, and counts."""
    features = (16, 32, 64, 128)
    x = jax.ShapeDtypeStruct((1, 16, 256, 256, 1), jnp.float32)
    net = UNet(features, 4, window, dropout=0.0)
    (logits, deep), _ = jax.eval_shape(partial(net.init_with_output, train=False), jax.random.key(0), x)
    assert (logits.shape, deep.shape) == ((1, 16, 256, 256, 4), (1, *bottleneck, 128))
    taps = (2, 2, 2) if window == 2 else window
    assert count(net, 16, 16, 16, 1) == unet_count(features, 1, 4, CUBE, taps)
    nearest = UNet(features, 4, window, dropout=0.0, up=NearestUp)
    want = sum(block_count(CUBE, a, b) for a, b in pairwise((1, *features)))
    want += sum(block_count(CUBE, deep + f, f) for f, deep in pairwise(features))
    assert count(nearest, 16, 16, 16, 1) == want + conv_count((1,), 16, 4, bias=True)


# --- the forms of a CPU: last, for they take the place of the plain ones in what is traced after them


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of the forms and the scheduler of a CPU")
def test_computing_blocks_again_halves_memory(cpu_forms):
    """Temporary memory of the gradient as compiled, not run, against what is kept without computing again."""
    x = jnp.zeros((1, 16, 128, 128, 1), jnp.float32)

    v, f = pullback(DRUNet(8, keep_z=True), x)
    v = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.float32), v)
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(lambda *a: f(*a)[1], v, x)))
    again = backward(DRUNet(8, keep_z=True, remat=True), x)
    compiled = jit(lambda *a: again(*a)[1](jnp.ones(()))).lower(v, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 0.5 * kept
