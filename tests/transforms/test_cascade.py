"""Passes of a cascade: coarse grid, heat map, box, crop and paste."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiac_jax.core.passes import chain, pure
from cardiac_jax.core.types import Net
from cardiac_jax.nets.drunet import DRUNet
from cardiac_jax.transforms import cascade
from tests import toys

KEY = jax.random.key(0)
compiled = partial(jax.jit, compiler_options=toys.QUICK)


def run(step, variables=None, **values):
    whole = compiled(lambda variables, values: step(variables, values, key=KEY, train=frozenset())[0])
    return whole(variables or {}, values)


def test_shrinking_takes_the_mean_of_every_block():
    image = np.random.default_rng(0).normal(size=(2, 4, 6, 8, 1)).astype(np.float32)
    low = run(cascade.shrink((1, 2, 4)), image=jnp.asarray(image))["low"]
    expected = image.reshape(2, 4, 3, 2, 2, 4, 1).mean((3, 5))
    np.testing.assert_allclose(low, expected, rtol=1e-5, atol=1e-6)


def test_shrinking_a_label_takes_the_most_frequent_class_and_keeps_the_unknown():
    label = np.zeros((1, 1, 4, 4), np.int32)
    label[0, 0, :2, :2] = [[1, 1], [1, 2]]
    label[0, 0, :2, 2:] = [[255, 255], [255, 2]]
    label[0, 0, 2:, :2] = [[255, 2], [2, 0]]
    low = run(cascade.shrink_label((1, 2, 2), 3), label=jnp.asarray(label))["low_label"]
    assert low[0, 0].tolist() == [[1, 255], [2, 0]]


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="not divisible"):
        run(cascade.shrink((1, 2, 2)), image=jnp.zeros((1, 4, 5, 4, 1)))


SHAPE, BOX = (6, 24, 24), (6, 10, 8)


@compiled
def there_and_back(heat, label):
    """The box about the heat, how much of the label it covers, and the label as probabilities cut out and pasted."""
    steps = (
        cascade.locate(BOX, SHAPE, 0.2),
        cascade.crop({"label": 255}, BOX),
        pure(lambda label: jax.nn.one_hot(label, 2), ["label"], "probabilities"),
        cascade.paste(SHAPE),
    )
    found, _ = chain(*steps)({}, {"heat": heat, "label": label}, key=KEY, train=frozenset())
    return found["found"], cascade.covered(label, found["start"], BOX), found["probabilities"]


@settings(max_examples=20, deadline=None)
@given(st.tuples(st.integers(0, 5), st.integers(0, 11), st.integers(0, 11)))
def test_where_the_heat_is_the_box_is_and_paste_puts_it_back(at):
    heat = np.zeros((1, 6, 12, 12), np.float32)
    heat[(0, *at)] = 1
    label = np.zeros((1, *SHAPE), np.int32)
    label[0, at[0], 2 * at[1] : 2 * at[1] + 2, 2 * at[2] : 2 * at[2] + 2] = 1
    found, (inside, marked), back = jax.device_get(there_and_back(heat, label))
    assert found.tolist() == [1.0]
    assert inside.tolist() == marked.tolist() == [4]
    np.testing.assert_array_equal(back.argmax(-1), label)
    np.testing.assert_allclose(back.sum(-1), 1)


def test_without_heat_the_box_lies_in_the_middle_and_says_so():
    found = run(cascade.locate((2, 4, 4), (4, 8, 8), 0.2), heat=np.zeros((2, 4, 4, 4), np.float32))
    assert found["found"].tolist() == [0.0, 0.0]
    assert found["start"].tolist() == [[1, 2, 2]] * 2


def test_the_heat_map_is_that_of_the_head_alone():
    """Eq. 1 by hand: the head is linear, so the gradient of S_c is its weight, everywhere."""
    net = Net("net", DRUNet(filters=2, classes=3, keep_z=True), ((2, 8, 8, 1),))
    rng = np.random.default_rng(0)
    features, weight = rng.normal(size=(2, 2, 8, 8, 2)).astype(np.float32), rng.normal(size=(2, 3)).astype(np.float32)
    head = {"params": {"output": {"kernel": weight.reshape(1, 1, 1, 2, 3), "bias": np.ones(3, np.float32)}}}
    found = run(cascade.heat_map(net, "f", (1, 2)), {"net": head}, f=jnp.asarray(features))["heat"]
    expected = sum(np.maximum(np.einsum("bzhwf,f->bzhw", features, weight[:, k]), 0) for k in (1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_attention_multiplies_every_channel_by_every_feature():
    image, features = np.arange(1.0, 3).reshape(1, 1, 1, 1, 2), np.arange(3.0, 6).reshape(1, 1, 1, 1, 3)
    out = run(cascade.attend("i", "f", "o"), i=image, f=features)["o"]
    assert out.reshape(-1).tolist() == [3, 4, 5, 6, 8, 10]


def test_enlarged_probabilities_stay_probabilities():
    probabilities = np.random.default_rng(0).dirichlet((0.5, 0.5, 0.5), (1, 2, 4, 4)).astype(np.float32)
    out = run(cascade.enlarge((2, 8, 12)), probabilities=probabilities)["probabilities"]
    assert out.shape == (1, 2, 8, 12, 3)
    np.testing.assert_allclose(out.sum(-1), 1, rtol=1e-5)


def test_some_slices_are_those_annotated_in_full_then_others_and_padding_last():
    """Six slices of two volumes: 0 and 3 in full, 1, 2 and 4 with strokes, 5 padding (which is labelled in full)."""
    label = np.full((2, 6, 4, 4), 255)
    label[:, [0, 3, 5]] = 0
    label[:, :, 0, 0] = np.arange(6)
    real = np.array([[1, 1, 1, 1, 1, 0]] * 2, np.float32)
    whole = np.array([[1, 0, 0, 1, 0, 1]] * 2, np.float32)
    values = {"label": label.astype(np.int32), "real": real, "whole": whole, "index": np.arange(2)}

    def chosen_of(number: int):
        step = cascade.some_slices(number, ("label", "real"))
        return compiled(lambda key: step({}, values, key=key, train=frozenset())[0])

    draw = chosen_of(3)
    seen = []
    for seed in range(20):
        found = jax.device_get(draw(jax.random.key(seed)))
        assert found["label"].shape == (2, 3, 4, 4) and found["real"].tolist() == [[1, 1, 1]] * 2
        seen.append(np.sort(found["label"][:, :, 0, 0], 1))
    chosen = np.stack(seen)
    assert all({0, 3} <= set(row) for row in chosen.reshape(-1, 3))
    third = [set(row) - {0, 3} for row in chosen.reshape(-1, 3)]
    assert {frozenset(t) for t in third} == {frozenset({k}) for k in (1, 2, 4)}, "each at times"
    assert (chosen[:, 0] != chosen[:, 1]).any(), "volumes are drawn apart"
    every = jax.device_get(chosen_of(6)(KEY))
    np.testing.assert_array_equal(np.sort(every["label"][:, :, 0, 0], 1), [np.arange(6)] * 2)
    assert (every["real"][:, -1] == 0).all(), "padding last"
