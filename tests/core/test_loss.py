"""Combinators of losses: what they compute, log and keep as state, on leaf losses one can see through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax.core.loss import deep, pooled, term, total, weighted

X = jnp.array([1.0, 2.0, 4.0])
Y = jnp.array([[1.0, 0.0], [0.5, 0.5], [2.0, 3.0]])
VALUES = {"x": X, "y": Y, "mask": jnp.array([1.0, 1.0, 0.0])}


def square(x):
    return x * x


def evaluate(loss, values=None, state=None):
    return loss.apply(loss.init() if state is None else state, VALUES if values is None else values)


def test_term_is_the_leaf_of_each_example():
    value, state, logs = evaluate(term(lambda a, b: a + jnp.sum(b), a="x", b="y"))
    np.testing.assert_allclose(value, [2.0, 3.0, 9.0])
    assert (state, logs) == ((), {})


def test_term_of_a_missing_value_names_it():
    with pytest.raises(KeyError, match="no value named 'z'; there are: mask, x, y"):
        evaluate(term(square, x="z"))


def test_pooled_sums_the_statistics_of_real_examples_before_the_value():
    loss = pooled(lambda y: {"first": y[0], "all": y}, lambda s: s["first"] ** 2 + jnp.max(s["all"]), y="y")
    value, state, logs = evaluate(loss)
    np.testing.assert_allclose(value, np.full(3, 1.5**2 + 1.5))
    assert (state, logs) == ((), {})
    value, _, _ = evaluate(loss, {**VALUES, "mask": jnp.ones(3)})
    np.testing.assert_allclose(value, np.full(3, 3.5**2 + 3.5))


def test_pooled_over_an_axis_is_pooled_over_the_whole():
    x, mask = np.arange(8, dtype=np.float32), np.array([1, 1, 0, 1, 1, 1, 0, 0], np.float32)

    def mean_loss(scale, x, mask, axis_name):
        loss = pooled(lambda x: scale * x, lambda s: jnp.log1p(s) ** 2, axis_name, x="x")
        value, _, _ = loss.apply(loss.init(), {"x": x, "mask": mask})
        return jnp.sum(mask * value) / 5, value

    share = jax.value_and_grad(mean_loss, has_aux=True)
    spread = jax.vmap(lambda x, mask: share(2.0, x, mask, "devices"), axis_name="devices")
    (whole, value), gradient = jax.device_get(jax.jit(lambda x, mask: share(2.0, x, mask, None))(x, mask))
    (parts, values), gradients = jax.device_get(jax.jit(spread)(x.reshape(4, 2), mask.reshape(4, 2)))
    np.testing.assert_allclose(value, np.full(8, np.log1p(2 * 13.0) ** 2), rtol=1e-6)
    np.testing.assert_allclose(values.ravel(), value, rtol=1e-6)
    np.testing.assert_allclose(parts.sum(), whole, rtol=1e-6)
    np.testing.assert_allclose(gradients.sum(), gradient, rtol=1e-6)
    np.testing.assert_allclose(gradient, 2 * np.log1p(26.0) / 27 * 13, rtol=1e-6)


def test_weighted_by_a_number_logs_the_raw_value():
    value, state, logs = evaluate(weighted(term(square, x="x"), 0.25))
    np.testing.assert_allclose(value, [0.25, 1.0, 4.0])
    np.testing.assert_allclose(logs["raw"], [1.0, 4.0, 16.0])
    assert state == ()


def test_weighted_by_a_schedule_counts_its_calls():
    loss = weighted(term(square, x="x"), lambda step: 10.0 ** -step.astype(jnp.float32))
    state = loss.init()
    for step in range(3):
        value, state, logs = loss.apply(state, VALUES)
        np.testing.assert_allclose(value, np.array([1.0, 4.0, 16.0]) * 10.0**-step, rtol=1e-6)
        np.testing.assert_allclose(logs["raw"], [1.0, 4.0, 16.0])
    assert state[0] == 3


def test_weights_multiply_and_raw_is_the_innermost():
    value, _, logs = evaluate(weighted(weighted(term(square, x="x"), 0.5), 0.5))
    np.testing.assert_allclose(value, [0.25, 1.0, 4.0])
    np.testing.assert_allclose(logs["raw"], [1.0, 4.0, 16.0])


def test_total_sums_and_logs_each_raw_and_weighted():
    loss = total(plain=term(square, x="x"), small=weighted(term(square, x="x"), 0.25))
    value, state, logs = evaluate(loss)
    np.testing.assert_allclose(value, [1.25, 5.0, 20.0])
    assert set(logs) == {"plain", "small", "small_weighted"}
    np.testing.assert_allclose(logs["plain"], [1.0, 4.0, 16.0])
    np.testing.assert_allclose(logs["small"], [1.0, 4.0, 16.0])
    np.testing.assert_allclose(logs["small_weighted"], [0.25, 1.0, 4.0])
    assert set(state) == {"plain", "small"}


def test_total_nests_by_path_and_carries_every_state():
    double = weighted(term(square, x="x"), lambda step: 2.0 + step)
    loss = total(outer=weighted(total(a=double, b=term(square, x="x")), 10.0))
    value, state, logs = evaluate(loss)
    np.testing.assert_allclose(value, 10 * (2 + 1) * np.array([1.0, 4.0, 16.0]))
    assert set(logs) == {"outer", "outer_weighted", "outer/a", "outer/a_weighted", "outer/b"}
    np.testing.assert_allclose(logs["outer"], 3 * np.array([1.0, 4.0, 16.0]))
    value, _, _ = evaluate(loss, state=state)
    np.testing.assert_allclose(value, 10 * (3 + 1) * np.array([1.0, 4.0, 16.0]))


def test_deep_sums_the_loss_of_every_output():
    loss = deep(term(lambda y, scale: scale * jnp.sum(y), y="y", scale="x"), "y", (1.0, 0.5))
    value, _, logs = evaluate(loss, {"x": X, "y_0": Y, "y_1": 2 * Y, "mask": jnp.ones(3)})
    sums = np.array([1.0, 2.0, 20.0])
    np.testing.assert_allclose(value, sums + 0.5 * 2 * sums)
    np.testing.assert_allclose(logs["y_0"], sums)
    np.testing.assert_allclose(logs["y_1"], 2 * sums)


def test_deep_keeps_one_state_for_every_output():
    loss = deep(weighted(term(jnp.sum, a="y"), lambda step: 1.0 + step), "y", (1.0, 1.0))
    values = {"y_0": Y, "y_1": Y, "mask": jnp.ones(3)}
    _, state, _ = evaluate(loss, values)
    assert [int(s[0]) for s in state] == [1, 1]
    value, _, _ = evaluate(loss, values, state)
    np.testing.assert_allclose(value, 4 * np.asarray(Y).sum(1))


def test_deep_without_one_of_its_outputs_names_it():
    with pytest.raises(KeyError, match="no value named 'y_1'"):
        evaluate(deep(term(jnp.sum, a="y"), "y", (1.0, 0.5)), {"y_0": Y})


def test_every_combinator_is_the_same_compiled_and_keeps_the_structure_of_its_state():
    scheduled = weighted(term(square, x="x"), lambda step: 1.0 + step)
    summed = pooled(lambda y: y, jnp.sum, y="y")
    loss = total(a=scheduled, b=summed, c=deep(scheduled, "x", (1.0, 2.0)))
    values = {**VALUES, "x_0": X, "x_1": X}
    plain, compiled = loss.apply(loss.init(), values), jax.jit(loss.apply)(loss.init(), values)
    assert jax.tree.structure(plain[1]) == jax.tree.structure(loss.init())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), plain, compiled)
    assert jax.tree.map(lambda x: x.dtype, plain[1]) == jax.tree.map(lambda x: x.dtype, loss.init())
