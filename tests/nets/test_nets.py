"""One battery for every network, then what is particular to each."""

from functools import cache, partial
from itertools import pairwise
from math import ceil, prod

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax.nets import autoencoder, discriminator, heads, unet
from cardiac_jax.nets.autoencoder import Autoencoder
from cardiac_jax.nets.discriminator import Discriminator
from cardiac_jax.nets.heads import PositionHead, flatten, global_average
from cardiac_jax.nets.layers import BatchNorm, ConvBlock, Dropout
from cardiac_jax.nets.unet import UNet
from tests.toys import NearestUp


def conv_count(kernel, cin, cout, bias=False):
    return prod(kernel) * cin * cout + (cout if bias else 0)


def block_count(kernel, cin, cout):
    """Two convolutions without bias, scale and offset after each."""
    return conv_count(kernel, cin, cout) + conv_count(kernel, cout, cout) + 4 * cout


def unet_count(features, channels, classes, kernel, window):
    down = sum(block_count(kernel, a, b) for a, b in pairwise((channels, *features)))
    up = sum(conv_count(window, deep, f) + 2 * f + block_count(kernel, 2 * f, f) for f, deep in pairwise(features))
    return down + up + conv_count((1,), features[0], classes, bias=True)


def autoencoder_count(size, classes, code, features):
    small = prod(ceil(ceil(s / 2 ** len(features)) / 3) for s in size)
    encoder = sum(block_count((3, 3), a, b) for a, b in pairwise((classes, *features)))
    encoder += conv_count((3, 3), features[-1], 1) + 2 + small * code + code
    widths = (*features[::-1], features[0])
    decoder = code * small + 2 + conv_count((7, 7), 1, widths[0]) + 2 * widths[0]
    decoder += sum(conv_count((4, 4), a, b) + 2 * b for a, b in pairwise(widths))
    return encoder + decoder + conv_count((3, 3), widths[-1], classes, bias=True)


def discriminator_count(size, classes, features):
    convs = sum(conv_count((4, 4), a, b, True) for a, b in pairwise((classes, *features)))
    return convs + prod(ceil(s / 2 ** len(features)) for s in size) * features[-1] + 1


F = (3, 4)
# name -> network, shape of one example, shapes of the outputs for it, number of parameters
NETS = {
    "UNet 2D": (partial(UNet, F, 3), (6, 8, 1), [(6, 8, 3), (3, 4, 4)], unet_count(F, 1, 3, (3, 3), (2, 2))),
    "UNet 3D": (
        partial(UNet, F, 3),
        (2, 4, 6, 2),
        [(2, 4, 6, 3), (1, 2, 3, 4)],
        unet_count(F, 2, 3, (3, 3, 3), (2, 2, 2)),
    ),
    "UNet 3D, Z kept": (
        partial(UNet, F, 3, window=(1, 2, 2)),
        (3, 4, 4, 1),
        [(3, 4, 4, 3), (3, 2, 2, 4)],
        unet_count(F, 1, 3, (3, 3, 3), (1, 2, 2)),
    ),
    "Autoencoder": (
        partial(Autoencoder, (20, 12), 3, 5, F),
        (20, 12, 3),
        [(20, 12, 3), (5,)],
        autoencoder_count((20, 12), 3, 5, F),
    ),
    "PositionHead": (partial(PositionHead, 16), (3, 2, 8), [()], 8 * 16 + 16 + 16 + 1),
    "Discriminator": (partial(Discriminator, (4, 6)), (9, 12, 3), [()], discriminator_count((9, 12), 3, (4, 6))),
}
RANDOM = ("UNet 2D", "UNet 3D, Z kept")
RUN = tuple(name for name in NETS if name != "UNet 3D")  # three axes and windows of two pixels are in the other two
AXIS = "devices"
# These programs run once: most of their time is compilation.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(params=RUN)
def name(request):
    return request.param


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def example(shape, batch=6):
    """Real values, or for the label networks soft labels: any will do for the shapes here."""
    return jnp.asarray(np.random.default_rng(0).random((batch, *shape)))


def variables(net, x):
    """Random variables, without compiling what initialises them: glorot's scale for kernels, ones and zeros else."""
    rng = np.random.default_rng(0)

    def filled(path, leaf):
        if leaf.ndim > 1:
            size = prod(leaf.shape[:-2])
            reach = (6 / (size * (leaf.shape[-1] + leaf.shape[-2]))) ** 0.5
            return jnp.asarray(rng.uniform(-reach, reach, leaf.shape), x.dtype)
        name = path[-1].key
        value = {"scale": 1, "var": 1, "slope": 0.25}.get(name, 0)
        return jnp.asarray(np.full(leaf.shape, value), x.dtype)

    shapes = jax.eval_shape(partial(net.init, train=False), jax.random.key(0), x)
    return jax.tree_util.tree_map_with_path(filled, shapes)


def total(net, v, x, mask, index):
    """A scalar that every output enters, each real example with a weight of its own; outputs and new statistics."""
    out, new = net.apply(
        v, x, train=True, mask=mask, index=index, rngs={"dropout": jax.random.key(1)}, mutable=["batch_stats"]
    )
    per_example = sum(jnp.sin(y).reshape(x.shape[0], -1).sum(-1) for y in jax.tree.leaves(out))
    return (per_example * mask * (1.0 + index)).sum(), (jax.tree.leaves(out), new)


@cache
def in_training(name):
    """Variables, a batch of six, and a step (v, x, mask, index) -> (total, (outputs, statistics)), (dv, dx)."""
    build, shape, *_ = NETS[name]
    net, x = build(dtype=jnp.float64), example(shape)
    return variables(net, x), x, jit(jax.value_and_grad(partial(total, net), (0, 1), has_aux=True))


def close(got, want, tolerance=1e-9):
    """Equal up to `tolerance` times the largest entry of each leaf, or 1."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, float(np.abs(b).max())))


def all_reached(by_variable, by_input):
    """Fails unless every parameter and every example have a finite gradient that is not zero."""
    by_input = np.asarray(by_input)
    assert (np.abs(by_input).max(tuple(range(1, by_input.ndim))) > 0).all()
    for path, g in jax.tree_util.tree_leaves_with_path(by_variable["params"]):
        assert np.isfinite(g).all() and np.abs(g).max() > 0, jax.tree_util.keystr(path)


def doubled(tree):
    return jax.tree.map(lambda a: 2 * np.asarray(a), tree)


def test_every_network_is_in_the_battery():
    files = (autoencoder, discriminator, heads, unet)
    modules = {n for f in files for n, held in vars(f).items() if getattr(held, "__module__", "") == f.__name__}
    modules = {n for n in modules if n[0].isupper()}
    assert modules == {build.func.__name__ for build, *_ in NETS.values()}


@pytest.mark.parametrize("name", NETS)
def test_shapes_types_and_parameter_count(name):
    build, shape, outputs, count = NETS[name]
    x = example(shape, 2)
    for dtype in (jnp.float32, jnp.bfloat16):
        net = build(dtype=dtype)
        out, v = jax.eval_shape(partial(net.init_with_output, train=False), jax.random.key(0), x)
        out = jax.tree.leaves(out)
        assert [o.shape for o in out] == [(2, *o) for o in outputs]
        assert {o.dtype for o in out} == {jnp.dtype("float32")}
        assert {p.dtype for p in jax.tree.leaves(v)} == {jnp.dtype("float32")}
        assert sum(p.size for p in jax.tree.leaves(v["params"])) == count


def test_bfloat16_is_near_float32(name):
    build, shape, *_ = NETS[name]
    x = example(shape, 2)
    v = variables(build(), x)
    full, half = (jit(partial(build(dtype=dtype).apply, train=False))(v, x) for dtype in (jnp.float32, jnp.bfloat16))
    close(half, full, 0.05)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(half), jax.tree.leaves(full), strict=True))


def test_every_parameter_and_every_example_get_a_gradient(name, float64):
    v, x, step = in_training(name)
    _, (by_variable, by_input) = step(v, x, np.ones(6), np.arange(6))
    all_reached(by_variable, by_input)


def test_gradient_reaches_the_input_of_a_frozen_network(name):
    """From every output, and per example: nothing couples the examples when not training."""
    build, shape, outputs, _ = NETS[name]
    net, x = build(), example(shape, 2)
    v = variables(net, x)

    def first(x, which):
        return (jax.tree.leaves(net.apply(v, x, train=False))[which][0] ** 2).sum()

    gradients = jit(lambda x: [jax.grad(first)(x, k) for k in range(len(outputs))])(x)
    for g in map(np.asarray, gradients):
        assert np.abs(g[0]).max() > 0
        assert np.abs(g[1]).max() == 0


def test_padding_changes_nothing(name, float64):
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


def test_devices_change_nothing(name, float64):
    """Three devices with unequal numbers of real examples give what one gives: loss, gradients, statistics.

    The devices are real for one network, and else a mapped axis of that name, which compiles in a third of the time.
    """
    build, *_ = NETS[name]
    v, x, step = in_training(name)
    has_statistics = "axis_name" in build.func.__dataclass_fields__
    net = build(dtype=jnp.float64, **({"axis_name": AXIS} if has_statistics else {}))

    def on_device(v, x, mask, index):
        (value, (_, new)), gradient = jax.value_and_grad(partial(total, net), has_aux=True)(v, x, mask, index)
        return jax.lax.psum((value, gradient["params"]), AXIS), new

    args = np.asarray(x), np.array([1.0, 1, 1, 1, 1, 0]), np.arange(6)
    shards = [a.reshape(3, 2, *a.shape[1:]) for a in args]
    mapped = jax.pmap if name == "UNet 2D" else lambda *a, **k: jit(jax.vmap(*a, **k))
    got = jax.tree.map(np.asarray, mapped(on_device, axis_name=AXIS, in_axes=(None, 0, 0, 0))(v, *shards))
    (value, (_, new)), (gradient, _) = step(v, *args)
    for device in range(3):
        close(jax.tree.map(lambda a, d=device: a[d], got), ((value, gradient["params"]), new))


@pytest.mark.parametrize("name", RANDOM)
def test_dropout_is_keyed_by_example(name, float64):
    """What an example drops goes with its index in the global batch, wherever it lies in this one."""
    v, x, step = in_training(name)
    same = np.broadcast_to(x[:1], x.shape)
    index, order = np.array([5, 7, 5, 900, 8, 9]), np.array([3, 1, 0, 5, 4, 2])
    out = np.asarray(step(v, same, np.ones(6), index)[0][1][0][0])
    close(step(v, same, np.ones(6), index[order])[0][1][0][0], out[order])
    for i in range(1, 6):
        assert (np.abs(out[0] - out[i]).max() > 1e-3) == (i != 2)


# ------------------------------------------------------------------------------------------------------ particulars


def test_batch_norm_is_flax(float64):
    """In float64 values, gradients and statistics are those of `flax.linen.BatchNorm`, in training and after."""
    rng, momentum = np.random.default_rng(0), 0.9
    ours = BatchNorm(momentum=momentum, dtype=jnp.float64)
    flax = nn.BatchNorm(momentum=momentum, dtype=jnp.float64, param_dtype=jnp.float64)

    def run(net, argument, v, x, weight):
        y, new = net.apply(v, x, **argument, mutable=["batch_stats"])
        return (jnp.tanh(y) * weight).sum(), (y, new)

    @jit
    def all_four(*args):
        return [
            [
                jax.value_and_grad(partial(run, net, argument), (0, 1), has_aux=True)(*args)
                for net, argument in ((ours, {"train": train}), (flax, {"use_running_average": not train}))
            ]
            for train in (True, False)
        ]

    for shape in ((4, 5, 6, 3), (4, 2, 3, 2, 2), (3, 4, 5, 70), (8, 3)):
        x, weight = (jnp.asarray(rng.standard_normal(shape)) for _ in range(2))
        scale, bias, mean, var = (jnp.asarray(rng.random(shape[-1])) for _ in range(4))
        v = {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": var}}
        for got, want in all_four(v, x, weight):
            close(got, want, 1e-12)


def test_batch_norm_initialises_like_flax():
    x = jnp.ones((2, 3, 3, 4))
    got = jit(partial(BatchNorm(axis_name="anything").init, train=True))(jax.random.key(0), x)
    want = jit(nn.BatchNorm(use_running_average=False).init)(jax.random.key(0), x)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    close(got, want, 0)


def test_batch_norm_of_nothing_but_padding_is_finite():
    x = np.ones((2, 4, 4, 3), np.float32)
    net = BatchNorm()
    v = variables(net, x)
    y, new = jit(partial(net.apply, train=True, mutable=["batch_stats"]))(v, x, mask=np.zeros(2, np.float32))
    assert all(np.isfinite(a).all() for a in jax.tree.leaves((y, new)))


def test_dropout_keeps_its_share_and_the_mean():
    """A rate of 0.2 drops 51 of the 256 values of a byte, and divides the rest by exactly 205 / 256."""
    x = np.ones((4, 128, 128, 15), np.float32)
    y = np.asarray(
        jit(lambda x, key: Dropout(0.2).apply({}, x, train=True, rngs={"dropout": key}))(x, jax.random.key(0))
    )
    keep = (256 - round(0.2 * 256)) / 256
    values = np.unique(y)
    np.testing.assert_allclose(values, [0, 1 / keep], rtol=1e-6)
    deviation = (keep * (1 - keep) / x[0].size) ** 0.5
    kept = (y > 0).mean((1, 2, 3))
    assert np.abs(kept - keep).max() < 5 * deviation
    flat = (y > 0).reshape(4, -1) - keep
    for lag in (1, 2, 4, 15, 128 * 15):  # neighbours in memory, channel and space are independent
        correlation = (flat[:, lag:] * flat[:, :-lag]).mean() / (keep * (1 - keep))
        assert abs(correlation) < 5 / flat[:, lag:].size ** 0.5, lag
    assert abs(np.corrcoef(flat)[~np.eye(4, dtype=bool)]).max() < 5 / x[0].size ** 0.5


def test_dropout_at_rest_and_out_of_range():
    x = jnp.ones((2, 3))
    assert Dropout(0.5).apply({}, x, train=False) is x
    assert Dropout(0.0).apply({}, x, train=True) is x
    with pytest.raises(ValueError, match="not in"):
        Dropout(1.0).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})


def test_unet_refuses_sizes_it_would_have_to_pad():
    with pytest.raises(ValueError, match=r"\(30, 32\) is not divisible by \(4, 4\)"):
        UNet((2, 2, 2)).init(jax.random.key(0), jnp.zeros((1, 30, 32, 1)), train=False)
    with pytest.raises(ValueError, match="does not fit 2"):
        UNet(F, window=(1, 2, 2)).init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)), train=False)


def test_unet_published_sizes():
    """Five levels; 32..512 as in Yue et al., 16..256 as on two cores."""
    for features in ((32, 64, 128, 256, 512), (16, 32, 64, 128, 256)):
        shapes = jax.eval_shape(
            partial(UNet(features).init, train=False), jax.random.key(0), jnp.zeros((1, 240, 240, 1))
        )
        count = sum(p.size for p in jax.tree.leaves(shapes["params"]))
        assert count == unet_count(features, 1, 4, (3, 3), (2, 2))
    assert round(count / 1e6, 2) == 1.94


def test_unet_of_other_parts():
    """No normalisation, no dropout, nearest upsampling: biases, no batch statistics, no upsampling parameters."""
    net = UNet((4, 6, 8), 2, dropout=0.0, norm=None, up=NearestUp, block=partial(ConvBlock, convs=1))
    v = jax.eval_shape(partial(net.init, train=False), jax.random.key(0), jnp.ones((1, 8, 8, 3)))
    assert set(v) == {"params"}
    want = sum(conv_count((3, 3), a, b, True) for a, b in ((3, 4), (4, 6), (6, 8), (6 + 8, 6), (4 + 6, 4)))
    assert sum(p.size for p in jax.tree.leaves(v)) == want + conv_count((1,), 4, 2, True)


def test_autoencoder_published_size_and_others():
    for size in ((240, 240), (128, 128)):
        net = Autoencoder(size)
        x = jnp.zeros((1, *size, 4))
        shapes = jax.eval_shape(partial(net.init, train=False), jax.random.key(0), x)
        count = sum(p.size for p in jax.tree.leaves(shapes["params"]))
        assert count == autoencoder_count(size, 4, 64, (16, 32, 64))
        code = jax.eval_shape(partial(net.apply, train=False, method="encode"), shapes, x)
        logits = jax.eval_shape(partial(net.apply, train=False, method="decode"), shapes, code)
        assert (code.shape, logits.shape) == ((1, 64), (1, *size, 4))


def test_autoencoder_composes_and_its_code_is_linear():
    net, x = Autoencoder((12, 12), 3, 5, (4,)), example((12, 12, 3), 2)
    v = variables(net, x)

    @jit
    def both(v, x):
        whole = net.apply(v, x, train=False)
        code = net.apply(v, x, train=False, method="encode")
        return whole, (net.apply(v, code, train=False, method="decode"), code)

    whole, parts = both(v, x)
    assert (np.asarray(parts[1]) < 0).any()
    close(parts, whole, 1e-6)
    with pytest.raises(ValueError, match="autoencoder for"):
        net.apply(v, x[:, :6], train=False, method="encode")


def test_position_is_a_probability_and_flatten_sees_where():
    x = example((4, 4, 8), 3)
    moved = np.roll(x, 1, 1)
    for summary, same in ((global_average, True), (flatten, False)):
        head = PositionHead(summary=summary)
        v = variables(head, x)
        apply = jit(partial(head.apply, train=False))
        a, b = np.asarray(apply(v, x)), np.asarray(apply(v, moved))
        assert ((a > 0) & (a < 1)).all()
        assert np.allclose(a, b, atol=1e-6) is same


def test_discriminator_judges_each_example_alone():
    net, x = Discriminator((4, 6)), example((8, 8, 3))
    v = variables(net, x)
    apply = jit(partial(net.apply, train=True))
    together, alone = apply(v, x), apply(v, x[:1])
    close(together[:1], alone, 1e-6)
