"""One training step, however the batch is laid out: padded, over devices, in parts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cardiac_jax.core.loss import total, weighted
from cardiac_jax.core.step import init_state
from cardiac_jax.losses.overlap import batch_dice_loss, dice, overlap
from tests import toys
from tests.toy_systems import (
    AXIS,
    CROSS_ENTROPY,
    PRIOR,
    SEGMENTATION,
    UNEVEN,
    K,
    differ,
    flat,
    on_devices,
    plain,
    same,
    step,
    system,
    trained,
)


def test_masked_padding_changes_nothing():
    whole, (state, *_), _ = trained()
    real, garbage = toys.batch(5, seed=1), {name: np.asarray(x)[:3] for name, x in toys.batch(8, seed=2).items()}
    flags = {"mask": np.zeros(3, np.float32), "index": np.arange(5, 8, dtype=np.int32)}
    garbage |= {"image": np.float32(1e3) * garbage["image"], **flags}
    padded = {name: np.concatenate([x, garbage[name]]) for name, x in real.items()}
    for stage, run in zip(whole.stages, (PRIOR, SEGMENTATION), strict=True):
        same(run(state, padded), step(stage, ema_decay=0.99)(state, real), rtol=1e-5, atol=1e-6)


def test_a_batch_of_nothing_but_padding_is_finite():
    whole, stage = plain()
    after, metrics = step(stage)(init_state(whole, seed=10), toys.batch(4, mask=[0] * 4))
    assert metrics["loss"] == 0
    assert all(np.isfinite(leaf).all() for leaf in flat(after).values())


def test_one_device_and_four_agree():
    assert jax.device_count() == 8
    four = system(AXIS, dropout=0.25)
    _, (state, *_), _ = trained()
    batch = toys.batch(8, mask=UNEVEN)
    same(init_state(four, seed=1, ema=True), state)
    expected, spread = state, state
    for run, stage in zip((PRIOR, SEGMENTATION), four.stages, strict=True):
        expected, logs = run(expected, batch)
        states, metrics = on_devices(stage, 4, pmap=True, ema_decay=0.99)(spread, batch)
        states, metrics = jax.device_get((states, metrics))
        for device in range(1, 4):  # every device holds the same
            same(*(jax.tree.map(lambda x, i=i: x[i], (states, metrics)) for i in (0, device)))
        spread, metrics = jax.tree.map(lambda x: x[0], (states, metrics))
        same(metrics, logs, rtol=1e-5, atol=1e-6)
        same(spread, expected, rtol=1e-5, atol=1e-6)


def test_pooled_dice_over_devices_is_that_of_the_whole_batch_with_its_gradient():
    batch = toys.batch(8, mask=UNEVEN)
    moved = []
    for axis_name in (None, AXIS):
        whole, stage = plain(batch_dice_loss("probabilities", "label", axis_name=axis_name), norm=False)
        state = init_state(whole, seed=12)
        run = on_devices(stage, 4) if axis_name else step(stage)
        after, metrics = run(state, batch)
        moved.append(jax.tree.map(lambda x: np.asarray(x)[0], (after, metrics)) if axis_name else (after, metrics))
    same(moved[1], moved[0], rtol=1e-5, atol=1e-6)

    net, real = whole.nets[0], np.flatnonzero(UNEVEN)

    def of_whole_batch(params):
        logits, _ = net.module.apply({"params": params}, np.asarray(batch["image"])[real], train=False)
        joined = jax.nn.softmax(logits).reshape(-1, K)
        return 1 - jnp.mean(dice(overlap(joined, np.asarray(batch["label"])[real].reshape(-1))))

    params = state.variables["segmenter"]["params"]
    loss, gradient = jax.jit(jax.value_and_grad(of_whole_batch), compiler_options=toys.QUICK)(params)
    np.testing.assert_allclose(moved[0][1]["loss"], loss, rtol=1e-5, atol=1e-6)
    expected = jax.tree.map(lambda p, g: np.asarray(p) - np.float32(0.5) * np.asarray(g), params, gradient)
    same(moved[1][0].variables["segmenter"]["params"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("devices", [1, 2])
def test_accumulation_is_the_full_batch_without_batch_statistics(devices):
    scheduled = total(plain=CROSS_ENTROPY, more=weighted(CROSS_ENTROPY, lambda step: 1.0 + step.astype(jnp.float32)))
    whole, stage = plain(scheduled, optax.adam(1e-2), norm=False, dropout=0.25)
    expected = parts = init_state(whole, seed=13)
    batch = toys.batch(8, mask=UNEVEN)
    whole_batch = step(stage)
    in_parts = step(stage, accumulate=4) if devices == 1 else on_devices(stage, devices, accumulate=2)
    for _ in range(3):
        expected, logs = whole_batch(expected, batch)
        parts, metrics = in_parts(parts, batch)
        if devices > 1:  # with the axis of devices
            parts, metrics = jax.tree.map(lambda x: np.asarray(x)[0], (parts, metrics))
        same(metrics, logs, rtol=1e-5, atol=1e-6)
        same(parts, expected, rtol=1e-5, atol=1e-6)


def test_accumulation_hands_the_values_of_the_whole_batch_to_the_next_phase():
    whole, (_, _, state, *_), _ = trained()
    batch = toys.batch(8)
    after, logs = step(whole.stages[1], accumulate=2, ema_decay=0.99)(state, batch)
    once, expected = SEGMENTATION(state, batch)
    # a logit of the discriminator needs that example's own probabilities and label; its norm sees half the batch
    np.testing.assert_allclose(logs["discriminate/loss"], expected["discriminate/loss"], rtol=0.1)
    differ(after.variables["discriminator"]["params"], state.variables["discriminator"]["params"])

    def moved(s):  # the statistics of a network move once per part
        mean = lambda s: np.asarray(s.variables["segmenter"]["batch_stats"]["BatchNorm_0"]["mean"])  # noqa: E731
        return np.abs(mean(s) - mean(state))

    assert (moved(after) > 1.5 * moved(once)).all()
