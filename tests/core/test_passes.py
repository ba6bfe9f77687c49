"""Passes: names in and out, training mode and statistics of the right networks only, keys by name or example."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax.core import passes
from cardiac_jax.core.step import init_net
from cardiac_jax.core.types import Net, Pass
from tests import toys

KEY = jax.random.key(3)
NONE: frozenset[str] = frozenset()
SEGMENTER = frozenset({"segmenter"})


@functools.cache
def initial(net: Net) -> dict[str, Any]:
    return init_net(net, KEY)


@functools.cache
def call(net: Net) -> Pass:
    return passes.call(net, ["image"], ["logits", "bottleneck"])


@functools.cache
def compiled(step: Pass, train: frozenset[str]) -> Any:
    run = functools.partial(step, train=train)
    return jax.jit(lambda variables, values, key: run(variables, values, key=key), compiler_options=toys.QUICK)


def apply(step: Pass, variables: Any, values: Any, *, key: jax.Array = KEY, train: frozenset[str] = NONE) -> Any:
    """The values that a pass writes and the variables after it, by one program, as arrays of NumPy."""
    return jax.device_get(compiled(step, train)(variables, values, key))


def test_read_names_what_there_is():
    with pytest.raises(KeyError, match=r"no value named 'logit'; there are: image, logits"):
        passes.read({"logits": jnp.zeros(1), "image": jnp.zeros(1)}, "logit")


def test_name_key_differs_by_name_and_by_key_and_repeats():
    data = [
        tuple(np.asarray(jax.random.key_data(passes.name_key(jax.random.key(seed), name))).tolist())
        for seed in (0, 1)
        for name in ("a", "b", "ab")
    ]
    assert len(set(data)) == 6
    again = jax.random.key_data(passes.name_key(jax.random.key(0), "a"))
    assert tuple(np.asarray(again).tolist()) == data[0]


def test_example_keys_follow_the_index_not_the_place():
    keys = jax.random.key_data(passes.example_keys(KEY, {"index": jnp.array([4, 0, 7])}))
    swapped = jax.random.key_data(passes.example_keys(KEY, {"index": jnp.array([7, 4])}))
    np.testing.assert_array_equal(keys[jnp.array([2, 0])], swapped)
    assert len({tuple(key.tolist()) for key in np.asarray(keys)}) == 3


def test_call_writes_every_output_and_keeps_what_was_there():
    net, values = toys.segmenter(), toys.batch(2)
    variables = {"segmenter": initial(net)}
    run = call(net)

    def spared(variables, values, *, key, train):
        written, after = run(variables, values, key=key, train=train)
        assert after is variables and "logits" not in values
        return written, net.module.apply(variables["segmenter"], values["image"], train=False)

    written, expected = apply(spared, variables, values)
    np.testing.assert_array_equal(written["logits"], expected[0])
    np.testing.assert_array_equal(written["bottleneck"], expected[1])
    assert set(written) == set(values) | {"logits", "bottleneck"}


def test_call_with_another_number_of_names_than_outputs_is_refused():
    net = toys.segmenter()
    with pytest.raises(ValueError, match="zip"):
        apply(passes.call(net, ["image"], ["logits"]), {"segmenter": initial(net)}, toys.batch(2))


def test_call_of_a_method():
    net, values = (
        toys.autoencoder(),
        {"truth": np.eye(toys.CLASSES, dtype=np.float32)[np.asarray(toys.batch(2)["label"])]},
    )
    variables = {"autoencoder": initial(net)}
    whole, _ = apply(passes.call(net, ["truth"], ["logits", "code"]), variables, values)
    part, _ = apply(passes.call(net, ["truth"], ["code"], method="encode"), variables, values)
    np.testing.assert_array_equal(part["code"], whole["code"])
    assert "logits" not in part


def test_only_a_network_in_train_updates_its_statistics():
    net, values = toys.segmenter(), toys.batch(4)
    variables = {"segmenter": initial(net), "other": {"params": {}}}
    run = call(net)

    def frozen(variables, values, *, key, train):
        written, after = run(variables, values, key=key, train=train)
        assert after is variables
        return written, after

    apply(frozen, variables, values, train=frozenset({"other"}))

    def spared(variables, values, *, key, train):
        written, trained = run(variables, values, key=key, train=train)
        assert trained["segmenter"]["params"] is variables["segmenter"]["params"]
        assert trained["other"] is variables["other"]
        return written, trained

    _, trained = apply(spared, variables, values, train=SEGMENTER)
    stats = trained["segmenter"]["batch_stats"]["BatchNorm_0"]
    params = variables["segmenter"]["params"]["Dense_0"]
    features = np.asarray(values["image"]) * np.asarray(params["kernel"])[None, None]
    np.testing.assert_allclose(stats["mean"], 0.01 * features.mean((0, 1, 2)), rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(variables["segmenter"]["batch_stats"]["BatchNorm_0"]["mean"], np.zeros(3))


def test_the_mask_keeps_padding_out_of_the_statistics():
    net = toys.segmenter()
    variables = {"segmenter": initial(net)}
    run = call(net)
    padded = toys.batch(4, mask=[1, 0, 1, 0])
    real = {name: np.asarray(x)[::2] for name, x in padded.items()}
    _, expected = apply(run, variables, real, train=SEGMENTER)
    _, got = apply(run, variables, padded, train=SEGMENTER)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        got["segmenter"]["batch_stats"],
        expected["segmenter"]["batch_stats"],
    )


def test_dropout_in_training_only_by_key_and_by_example():
    net, values = toys.segmenter(dropout=0.5, norm=False), toys.batch(4)
    variables = {"segmenter": initial(net)}
    run = call(net)

    def dropped(key, values, train=frozenset({"segmenter"})):
        return apply(run, variables, values, key=key, train=train)[0]["bottleneck"] == 0

    assert not dropped(KEY, values, NONE).any()
    once = dropped(KEY, values)
    assert 0 < once.mean() < 1
    np.testing.assert_array_equal(dropped(KEY, values), once)
    assert (dropped(jax.random.key(4), values) != once).any()
    np.testing.assert_array_equal(dropped(KEY, {name: np.asarray(x)[2:] for name, x in values.items()}), once[2:])


def test_pure():
    run = passes.pure(lambda a, b: a - 2 * b, ["x", "y"], "z")
    variables = {"net": {"params": {}}}
    written, after = run(variables, {"x": jnp.ones(2), "y": jnp.arange(2.0)}, key=KEY, train=NONE)
    np.testing.assert_array_equal(written["z"], [1.0, -1.0])
    assert after is variables


def test_random_draws_by_example_and_by_what_it_writes():
    def jitter(keys, x):
        return (x + jax.vmap(lambda key: jax.random.normal(key))(keys),)

    values = {"x": jnp.zeros(4), "index": jnp.arange(4)}
    part = {"x": jnp.zeros(2), "index": jnp.array([2, 3])}
    written, _ = apply(passes.random(jitter, ["x"], ["y"]), {}, values)
    share, _ = apply(passes.random(jitter, ["x"], ["y"]), {}, part)
    other, _ = apply(passes.random(jitter, ["x"], ["z"]), {}, values)
    np.testing.assert_array_equal(share["y"], written["y"][2:])
    assert len(set(np.asarray(written["y"]).tolist())) == 4
    assert (other["z"] != written["y"]).all()


def test_chain_runs_in_order_and_threads_values_and_variables():
    net, values = toys.segmenter(), toys.batch(4)
    variables = {"segmenter": initial(net)}
    once = call(net)
    train = frozenset({"segmenter"})
    run = passes.chain(
        once,
        passes.pure(lambda x: x + 1.0, ["logits"], "more"),
        once,
        passes.pure(lambda x: 2.0 * x, ["more"], "more"),
    )
    written, after = apply(run, variables, values, train=train)
    np.testing.assert_array_equal(written["more"], 2.0 * (written["logits"] + 1.0))
    _, first = apply(once, variables, values, train=train)
    _, second = apply(once, first, values, train=train)
    jax.tree.map(np.testing.assert_array_equal, after, second)


def test_adding_a_pass_leaves_the_draws_of_the_others_alone():
    net, values = toys.segmenter(dropout=0.5), toys.batch(4)
    variables = {"segmenter": initial(net)}
    run = call(net)
    noise = passes.random(lambda keys: (jax.vmap(jax.random.normal)(keys),), [], ["noise"])
    alone, _ = apply(run, variables, values, train=SEGMENTER)
    after, _ = apply(passes.chain(noise, run), variables, values, train=SEGMENTER)
    np.testing.assert_array_equal(after["logits"], alone["logits"])


def stack(size: int = 3, depth: int = 4) -> dict[str, np.ndarray]:
    """Volumes `[B, Z, 4, 4, 1]`, the second of them padding; the last slice of every one is no real one."""
    image = np.random.default_rng(0).normal(size=(size, depth, *toys.SIZE, 1)).astype(np.float32)
    real = np.ones((size, depth), np.float32)
    real[:, -1] = 0
    return {"image": image, "mask": np.array([1, 0, 1], np.float32), "index": np.array([5, 6, 7]), "real": real}


def along(axis: int) -> dict[str, np.ndarray]:
    """The same volumes with their slices along another axis."""
    values = stack()
    return {**values, "image": np.moveaxis(values["image"], 1, axis)}


AXES = pytest.mark.parametrize("axis", [1, 2, 3])


@AXES
def test_per_is_the_inner_pass_on_all_entries(axis):
    net, values = toys.segmenter(), along(axis)
    variables = {"segmenter": initial(net)}
    inner = call(net)
    run = passes.per(axis, inner, ["image"], ["logits"], mask="real")

    def spared(variables, values, *, key, train):
        written, after = run(variables, values, key=key, train=train)
        assert after is variables and all(written[name] is value for name, value in values.items())
        return written, after

    written, _ = apply(spared, variables, values)
    flat, _ = apply(inner, variables, {"image": stack()["image"].reshape(12, *toys.SIZE, 1)})
    assert written["logits"].shape == (*values["image"].shape[:-1], toys.CLASSES)
    slices = np.moveaxis(written["logits"], axis, 1).reshape(12, *toys.SIZE, -1)
    np.testing.assert_array_equal(slices, flat["logits"])
    assert set(written) == {*values, "logits"}


@AXES
def test_per_keeps_padding_and_entries_that_are_not_real_out_of_the_statistics(axis):
    net, values, train = toys.segmenter(), along(axis), frozenset({"segmenter"})
    variables = {"segmenter": initial(net)}
    inner = call(net)

    def stats(depth: int) -> dict:
        real = {"image": stack()["image"][[0, 2], :depth].reshape(2 * depth, *toys.SIZE, 1)}
        flags = {"mask": np.ones(2 * depth, np.float32), "index": np.arange(2 * depth)}
        return apply(inner, variables, {**real, **flags}, train=train)[1]["segmenter"]["batch_stats"]

    def found(mask: str) -> dict:
        run = passes.per(axis, inner, ["image"], ["logits"], mask=mask)
        return apply(run, variables, values, train=train)[1]["segmenter"]["batch_stats"]

    def close(a, b) -> None:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)

    jax.tree.map(close, found("real"), stats(3))
    jax.tree.map(close, found(""), stats(4))  # a mask that is not named is not looked at
    assert (found("")["BatchNorm_0"]["mean"] != found("real")["BatchNorm_0"]["mean"]).any()


@AXES
def test_per_draws_by_place_in_the_global_batch(axis):
    def jitter(keys, image):
        return (image + jax.vmap(lambda key: jax.random.normal(key))(keys)[:, None, None, None],)

    run = passes.per(axis, passes.random(jitter, ["image"], ["image"]), ["image"], ["image"])
    values = {**along(axis), "image": np.zeros_like(along(axis)["image"])}

    def drawn(values) -> np.ndarray:
        image = apply(run, {}, values)[0]["image"]
        return np.moveaxis(image, axis, 1)[..., 0, 0, 0]

    assert len(np.unique(drawn(values))) == 12
    part = {name: value[1:] for name, value in values.items()}
    np.testing.assert_array_equal(drawn(part), drawn(values)[1:])


def test_per_splits_every_value_that_it_reads():
    """A value of one number per entry too."""
    values = stack()
    kept = passes.pure(lambda image, real: image * real[:, None, None, None], ["image", "real"], "kept")
    run = passes.per(1, kept, ["image", "real"], ["kept"])
    written, _ = run({}, values, key=KEY, train=NONE)
    np.testing.assert_array_equal(written["kept"], values["image"] * values["real"][..., None, None, None])


def test_per_without_its_mask_names_it():
    values = {name: value for name, value in stack().items() if name != "real"}
    run = passes.per(1, passes.pure(jnp.tanh, ["image"], "image"), ["image"], ["image"], mask="real")
    with pytest.raises(KeyError, match="no value named 'real'; there are: image, index, mask"):
        run({}, values, key=KEY, train=NONE)


def test_per_in_prediction_has_no_padding():
    """There is no `mask` then, and the inner pass is told of none."""

    def step(variables, values, *, key, train):
        assert set(values) == {"image"}
        return {"image": values["image"] + 1.0}, variables

    image = stack()["image"]
    written, _ = passes.per(1, step, ["image"], ["image"], mask="real")({}, {"image": image}, key=KEY, train=NONE)
    np.testing.assert_array_equal(written["image"], image + 1.0)
