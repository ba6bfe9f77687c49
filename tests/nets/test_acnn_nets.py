"""The networks of ACNN: published sizes and layers, the contract, then what is particular to each."""

from functools import cache, partial
from math import prod

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from cardiac_jax.nets import fcn, multiview, predictor, registry, shape_autoencoder, subpixel, upsampled
from cardiac_jax.nets.fcn import FCN, BySlice
from cardiac_jax.nets.layers import Conv, ConvTranspose
from cardiac_jax.nets.multiview import MultiView
from cardiac_jax.nets.predictor import Predictor
from cardiac_jax.nets.registry import NetRequest
from cardiac_jax.nets.shape_autoencoder import AE_SEG, AE_SEG_M, ShapeAutoencoder
from cardiac_jax.nets.subpixel import SubPixel
from cardiac_jax.nets.upsampled import SRCNN
from tests.nets.test_nets import AXIS, all_reached, close, doubled, example, jit, total, variables

F = (2, 3)
VIEW = partial(FCN, (2,), convs=(1,), dropout=0.0)
# name -> network, shape of one example, shapes of the outputs for it
NETS = {
    "SubPixel": (partial(SubPixel, F, 3, (3, 1, 1)), (2, 4, 6, 2), [(6, 4, 6, 3), (2, 2, 3, 3)]),
    "BySlice": (
        lambda dtype=jnp.float32, axis_name=None: BySlice(FCN(F, 3, (1, 1), 0.25, dtype, axis_name), (3, 1, 1)),
        (2, 4, 6, 2),
        [(6, 4, 6, 3), (2, 2, 3, 3)],
    ),
    "MultiView": (partial(MultiView, VIEW, 3, 0), (2, 4, 6, 1), [(2, 4, 6, 3), (2, 4, 6, 2)]),
    "SRCNN": (partial(SRCNN, F, 2, (3, 1, 1)), (2, 3, 4, 2), [(6, 3, 4, 2), (6, 3, 4, 3)]),
    "ShapeAutoencoder": (
        partial(ShapeAutoencoder, (5, 8, 10), 3, 4, (3,), strides=((1, 2, 2), 3)),
        (5, 8, 10, 3),
        [(5, 8, 10, 3), (4,)],
    ),
    "Predictor": (partial(Predictor, 4, F, (1, 2)), (3, 6, 4, 1), [(4,)]),
}
TRAINED = ("SubPixel", "BySlice", "ShapeAutoencoder")  # the others are chains of the same layers


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def alive(v):
    """Variables without dead units: a small network rectifies a few numbers, of a map of one voxel just one."""

    def raised(path, leaf):
        of_a_norm = path[-1].key == "bias" and "norm" in jax.tree_util.keystr(path).lower()
        return leaf + 1 if of_a_norm else leaf

    return jax.tree_util.tree_map_with_path(raised, v)


@cache
def in_training(name):
    """Variables, a batch of six, and a step (v, x, mask, index) -> total, (outputs, statistics), with its gradient."""
    build, shape, _ = NETS[name]
    net, x = build(dtype=jnp.float64), example(shape)
    step = partial(total, net)
    return alive(variables(net, x)), x, jit(jax.value_and_grad(step, (0, 1), has_aux=True) if name in TRAINED else step)


def traced(net, *shape):
    """Layers and parameters of a network, without compiling it.

    Returns:
      (kind, kernel, channels, size of the output) of every convolution in the order in which they run, and the tree of
      parameters.
    """
    layers = []

    def record(call, args, given, context):
        y = call(*args, **given)
        if isinstance(context.module, Conv | ConvTranspose) and context.method_name == "__call__":
            kernel = context.module.variables["params"]["kernel"].shape
            layers.append((type(context.module), kernel[:-2], kernel[-1], y.shape[1:-1]))
        return y

    with nn.intercept_methods(record):
        v = jax.eval_shape(partial(net.init, train=False), jax.random.key(0), np.zeros((1, *shape), np.float32))
    return layers, v["params"]


def count(params):
    return sum(p.size for p in jax.tree.leaves(params))


def printed(size, *rows):
    """Rows (kind, (f: x, y, z), (s: x, y, z), N) of the paper, for an input of `size` (z, y, x), as `traced`."""
    want = []
    for kind, kernel, strides, channels in rows:
        each = zip(size, strides[::-1], strict=True)
        size = tuple(n * s if kind is ConvTranspose else -(-n // s) for n, s in each)
        want.append((kind, kernel[::-1], channels, size))
    return want


# ---------------------------------------------------------------------------------------------- published networks

STACK, FINE = (12, 120, 120), (60, 120, 120)
CMR = NetRequest(STACK, 1, 3, jnp.dtype("float32"), None, (5, 1, 1))
IMAGE = CMR._replace(outputs=1)
UNET3D = {"features": (24, 40, 72, 128), "keep_z": True}
SEG3D = 1_603_907


def close_to_the_paper(got, paper):
    return abs(got / paper - 1) < 0.05


@pytest.mark.parametrize(
    ("name", "request_", "settings", "exact", "paper"),
    [
        ("fcn2d", CMR, {}, 1_365_808, 1.39e6),
        ("unet", CMR, UNET3D, 1_644_579, 1.64e6),
        ("srcnn", IMAGE, {}, 1_552_577, 1.60e6),  # "the same number of filters and capacity" as ACNN-SR
    ],
)
def test_parameters_of_baselines(name, request_, settings, exact, paper):
    """Tables I and III."""
    _, params = traced(registry.NETS[name](ConfigDict(settings), request_), *STACK, 1)
    assert count(params) == exact and close_to_the_paper(exact, paper)


def test_parameters_of_the_cascades():
    """The segmenter and a second network of 0.08 million (text on AE-Seg): 1.68 and 1.91 million in table I."""
    for features, exact, paper in ((AE_SEG, 76_071, 1.68e6), (AE_SEG_M, 333_111, 1.91e6)):
        assert count(traced(ShapeAutoencoder(features=features), *FINE, 3)[1]) == exact
        assert close_to_the_paper(SEG3D + exact, paper)
    assert close_to_the_paper(76_071, 8e4)


def test_layers_of_the_sub_pixel_network():
    """Figure 2, the head as a layer of its own; 1.60 million in table I."""
    a, b, c, d = SubPixel.features
    cube, flat, one, half = (3, 3, 3), (3, 3, 1), (1, 1, 1), (2, 2, 1)
    encoder = [(Conv, cube, one, a), (Conv, cube, one, a), (Conv, cube, half, b), (Conv, cube, one, b)]
    encoder += [(Conv, cube, half, c), (Conv, cube, one, c), (Conv, flat, half, d), (Conv, flat, one, d)]
    decoder = [(ConvTranspose, (4, 4, 1), half, c), (Conv, flat, one, c)]
    decoder += [(ConvTranspose, (4, 4, 1), half, b), (Conv, cube, one, b)]
    decoder += [(ConvTranspose, (4, 4, 1), half, a), (Conv, cube, one, a)]
    fine = [(ConvTranspose, (1, 1, 10), (1, 1, 5), a), (Conv, cube, one, a), (Conv, one, one, 3)]
    layers, params = traced(registry.NETS["subpixel"](ConfigDict(), CMR), *STACK, 1)
    assert layers == printed(STACK, *encoder, *decoder, *fine)
    assert count(params) == SEG3D and close_to_the_paper(SEG3D, 1.60e6)


def test_layers_of_the_autoencoder():
    """Table V."""
    cube, one, two, three = (3, 3, 3), (1, 1, 1), (2, 2, 2), (3, 3, 3)
    encoder = [(Conv, cube, (2, 2, 1), 16), (Conv, cube, one, 16), (Conv, cube, two, 32), (Conv, cube, one, 32)]
    encoder += [(Conv, cube, two, 64), (Conv, cube, one, 64), (Conv, cube, three, 1)]
    decoder = [(ConvTranspose, (7, 7, 7), three, 64), (Conv, cube, one, 64)]
    decoder += [(ConvTranspose, (4, 4, 4), two, 32), (Conv, cube, one, 32)]
    decoder += [(ConvTranspose, (4, 4, 4), two, 16), (Conv, cube, one, 16)]
    decoder += [(ConvTranspose, (4, 4, 1), (2, 2, 1), 16), (Conv, cube, one, 3)]
    want = printed(FINE, *encoder, *decoder)
    layers, params = traced(ShapeAutoencoder(), *FINE, 3)
    assert layers == want and (want[6][-1], want[-1][-1]) == ((5, 5, 5), FINE)
    dense = {name: jax.tree.map(jnp.shape, params[name]) for name in ("to_code", "from_code")}
    assert dense == {"to_code": {"kernel": (125, 64), "bias": (64,)}, "from_code": {"kernel": (64, 125)}}
    assert count(params) == 570_631


def test_layers_of_the_predictor():
    """Table IV."""
    cube, one, two = (3, 3, 3), (1, 1, 1), (2, 2, 2)
    rows = [(Conv, cube, one, 32), (Conv, cube, one, 32), (Conv, cube, two, 64), (Conv, cube, one, 64)]
    rows += [(Conv, cube, two, 128), (Conv, cube, one, 128), (Conv, cube, two, 256), (Conv, cube, one, 1)]
    want = printed(FINE, *rows)
    layers, params = traced(Predictor(), *FINE, 1)
    assert layers == want
    assert params["to_code"]["kernel"].shape == (prod(want[-1][-1]), 64) == (8 * 15 * 15, 64)
    assert count(params) == 1_866_274


# -------------------------------------------------------------------------------------------------------- contract


def test_every_network_is_in_the_battery():
    files = (fcn, multiview, predictor, shape_autoencoder, subpixel, upsampled)
    modules = {n for f in files for n, held in vars(f).items() if getattr(held, "__module__", "") == f.__name__}
    assert {n for n in modules if n[0].isupper()} - {"FCN", "Upsampled"} == set(NETS)
    # BySlice runs an FCN; what Upsampled runs has its tests elsewhere, and the registry's tests run it


@pytest.mark.parametrize("name", NETS)
def test_shapes_types_and_devices(name):
    """Outputs are float32 whatever the compute type; statistics are the same on all devices (else vmap refuses)."""
    build, shape, outputs = NETS[name]
    x = example(shape, 2).astype(jnp.float32)
    out, v = jax.eval_shape(partial(build(dtype=jnp.bfloat16).init_with_output, train=False), jax.random.key(0), x)
    assert [o.shape for o in jax.tree.leaves(out)] == [(2, *o) for o in outputs]
    assert {o.dtype for o in jax.tree.leaves((out, v))} == {jnp.dtype("float32")}
    net = build(axis_name=AXIS)

    def on_device(v, x):
        rngs = {"dropout": jax.random.key(0)}
        return net.apply(v, x, train=True, rngs=rngs, mutable=["batch_stats"])

    run = jax.vmap(on_device, axis_name=AXIS, in_axes=(None, 0), out_axes=(0, None))
    _, new = jax.eval_shape(run, v, x[None].repeat(2, 0))
    assert jax.tree.map(jnp.shape, new["batch_stats"]) == jax.tree.map(jnp.shape, v["batch_stats"])


HALF = np.array([0, 1, 2, 0, 1, 2]), np.array([1.0, 1, 1, 0, 0, 0])


def real_and_rubbish(x):
    """Three examples and three of rubbish, which are half of the second array, the three twice."""
    real = np.asarray(x)[:3]
    return np.concatenate([real, np.full_like(real, 100.0)]), np.concatenate([real, real])


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_gets_a_gradient_and_padding_changes_nothing(name, float64):
    """In loss, gradients and statistics."""
    v, x, step = in_training(name)
    (index, mask), (padded, twice) = HALF, real_and_rubbish(x)
    (half, (_, got_new)), (half_v, half_x) = step(v, padded, mask, index)
    (full, (_, new)), (full_v, full_x) = step(v, twice, np.ones(6), index)
    all_reached(full_v, full_x)
    close((2 * half, got_new), (full, new))
    close(doubled(half_v["params"]), full_v["params"])
    close(np.asarray(half_x)[:3], np.asarray(full_x)[:3])
    assert (np.asarray(half_x)[3:] == 0).all()


@pytest.mark.parametrize("name", ["MultiView", "SRCNN", "Predictor"])
def test_padding_changes_neither_loss_nor_statistics(name, float64):
    v, x, step = in_training(name)
    (index, mask), (padded, twice) = HALF, real_and_rubbish(x)
    half, (_, got_new) = step(v, padded, mask, index)
    full, (_, new) = step(v, twice, np.ones(6), index)
    close((2 * half, got_new), (full, new))


def test_dropout_is_keyed_by_example_and_slice(float64):
    """What an example drops goes with its index in the global batch; equal slices of an example drop differently."""
    v, x, step = in_training("BySlice")
    same = np.broadcast_to(np.asarray(x)[:1, :1], x.shape)
    index, order = np.array([5, 7, 5, 900, 8, 9]), np.array([3, 1, 0, 5, 4, 2])
    out = np.asarray(step(v, same, np.ones(6), index)[0][1][0][0])
    close(step(v, same, np.ones(6), index[order])[0][1][0][0], out[order])
    for i in range(1, 6):
        assert (np.abs(out[0] - out[i]).max() > 1e-3) == (i != 2)
    assert np.abs(out[0, 0] - out[0, -1]).max() > 1e-3


# ----------------------------------------------------------------------------------------------------- particulars


def test_a_scale_of_one_leaves_the_sub_pixel_layer_out():
    """As for isotropic ultrasound, where every axis is halved."""
    net = SubPixel((16, 40, 64, 96), 2, 1, 2)
    rows, params = traced(net, 8, 8, 8, 1)
    assert [kernel for kind, kernel, *_ in rows if kind is ConvTranspose] == [(4, 4, 4)] * 3
    assert {kernel for kind, kernel, *_ in rows if kind is Conv} == {(3, 3, 3), (1, 1, 1)}
    assert rows[-1][-1] == (8, 8, 8)
    assert count(params) == 1_590_002 and close_to_the_paper(1_590_002, 1.60e6)
    with pytest.raises(ValueError, match=r"\(8, 8, 4\) is not divisible by \(8, 8, 8\)"):
        traced(net, 8, 8, 4, 1)


def test_a_slice_is_segmented_alone_and_repeated():
    build, shape, _ = NETS["BySlice"]
    net, x = build(), np.asarray(example(shape, 2), np.float32)
    run = jit(partial(net.apply, variables(net, jnp.asarray(x)), train=False))
    other = x.copy()
    other[:, 0] += 1
    before, after = (np.asarray(run(given)[0]) for given in (x, other))
    np.testing.assert_array_equal(before, before[:, ::3].repeat(3, 1))
    np.testing.assert_array_equal(before[:, 3:], after[:, 3:])
    assert np.abs(before[:, :3] - after[:, :3]).min() > 0


def test_views_are_averaged_and_fed_back():
    """Against the 2D networks called one by one, on slices that numpy cuts."""
    net, x = MultiView(VIEW, 3), np.asarray(example((4, 4, 4, 1), 2), np.float32)
    v = variables(net, jnp.asarray(x))
    got, features = jit(partial(net.apply, train=False))(v, x)
    run = jit(lambda v, x: VIEW(classes=3).apply(v, x, train=False))

    def average(iteration, x):
        """Mean probability of the views, and the features of the first."""
        mean, deep = np.zeros((*x.shape[:-1], 3)), {}
        for axis, order in (("z", (0, 1, 2, 3, 4)), ("y", (0, 2, 1, 3, 4)), ("x", (0, 3, 1, 2, 4))):
            one = {kind: held[f"view_{iteration}_{axis}"] for kind, held in v.items()}
            slices = x.transpose(order)  # the axis of the slices first, then those within one
            logits, deep[axis] = run(one, slices.reshape(-1, *slices.shape[2:]))
            odds = np.exp(np.asarray(logits, np.float64)).reshape(*slices.shape[:-1], 3)
            mean += (odds / odds.sum(-1, keepdims=True)).transpose(np.argsort(order)) / 3
        return mean, deep["z"]

    context, _ = average(0, x)
    want, deep = average(1, np.concatenate([x, context.astype(np.float32)], -1))
    np.testing.assert_allclose(np.exp(got), want, rtol=0, atol=1e-5)
    close(features, np.asarray(deep).reshape(features.shape), 1e-5)


def test_srcnn_learns_what_linear_interpolation_lacks():
    """With its last layer at zero, what is left is the image, linear between the centres of the slices."""
    x, at = np.asarray(example((3, 4, 5, 1), 2), np.float32), (np.arange(15) - 2) / 5
    net = SRCNN(F, 1, (5, 1, 1))
    v = variables(net, jnp.asarray(x))
    zero = {**v, "params": {**v["params"], "head": jax.tree.map(jnp.zeros_like, v["params"]["head"])}}
    got = jit(partial(net.apply, train=False))(zero, x)[0]
    want = np.apply_along_axis(lambda column: np.interp(at, np.arange(3), column), 1, x)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_remat_of_srcnn_stores_less_and_changes_no_variable():
    x, trees, kept = jnp.zeros((2, 3, 4, 5, 1)), [], []
    for remat in (False, True):
        net = SRCNN((2,) * 3, 1, (5, 1, 1), remat)
        v = jax.eval_shape(partial(net.init, train=False), jax.random.key(0), x)
        step = partial(total, net, x=x, mask=np.ones(2), index=np.arange(2))
        pull = jax.eval_shape(lambda v, step=step: jax.vjp(step, v, has_aux=True)[1], v)
        kept.append(sum(leaf.size for leaf in jax.tree.leaves(pull)))
        trees.append(jax.tree.map(jnp.shape, v))
    assert trees[0] == trees[1] and kept[1] < 0.6 * kept[0]


def test_autoencoder_composes_and_its_code_is_linear(float64):
    """In training mode, in which a small network has no dead units."""
    build, shape, _ = NETS["ShapeAutoencoder"]
    net, x = build(dtype=jnp.float64), example(shape)
    v, x, step = in_training("ShapeAutoencoder")
    (_, ((logits, code), _)), _ = step(v, x, np.ones(6), np.arange(6))
    assert (np.asarray(code) < 0).any() and (np.asarray(code) > 0).any()
    run = partial(net.apply, train=True, mutable=["batch_stats"])
    parts = jit(lambda v, x, code: (run(v, x, method="encode")[0], run(v, code, method="decode")[0]))(v, x, code)
    close(parts, (code, logits))
    with pytest.raises(ValueError, match="autoencoder for"):
        net.apply(v, x[:, :3], train=False, method="encode")
