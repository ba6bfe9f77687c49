"""One training step on toy networks: who moves, in what order, by how much, on how many devices."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cardiac_jax import objectives
from cardiac_jax.loss import term, total, weighted
from cardiac_jax.losses.overlap import batch_dice_loss, dice, overlap
from cardiac_jax.losses.pixelwise import cross_entropy, exponential_logarithmic
from cardiac_jax.passes import call, chain, pure, random
from cardiac_jax.system import (
    inference_variables,
    init_net,
    init_state,
    parameter_counts,
    phase_id,
    predict_step,
    train_step,
)
from cardiac_jax.types import Loss, Objective, Phase, Stage, System, TrainState, Values
from tests import toys

K, AXIS = toys.CLASSES, "devices"
UNEVEN = [1, 1, 1, 0, 1, 1, 0, 0]
QUICK = {"xla_backend_optimization_level": 0}  # halves the time to compile, which is most of a test here
CROSS_ENTROPY = term(cross_entropy, logits="logits", label="label")


def system(axis_name: str | None = None, dropout: float = 0.0) -> System:
    """A prior, then a segmenter with every loss transform against a discriminator: all there is, in small."""
    nets = segmenter, autoencoder, head, discriminator = (
        toys.segmenter(axis_name=axis_name, dropout=dropout),
        toys.autoencoder(axis_name=axis_name),
        toys.head(axis_name=axis_name, norm=True),
        toys.discriminator(axis_name=axis_name, norm=True),
    )
    transforms = objectives.compose(
        objectives.shape_prior(autoencoder, K, 0.1),
        objectives.code_prior(autoencoder, K, lambda step: 0.1 * (1.0 + step)),
        objectives.position(head, 0.1),
        objectives.adversarial(discriminator, 0.1),
        objectives.weight_decay(segmenter, 0.1),
    )
    loss = exponential_logarithmic((1.0, 2.0, 3.0), axis_name=axis_name)
    segment = transforms(objectives.segmentation(segmenter, loss))
    jitter = random(
        lambda keys, image: (image + jax.vmap(lambda key: 0.1 * jax.random.normal(key))(keys)[:, None, None, None],),
        ["image"],
        ["image"],
    )
    prior = Phase("autoencode", ("autoencoder",), objectives.autoencoding(autoencoder, K), optax.sgd(0.1))
    phases = (
        Phase("segment", ("segmenter", "head"), segment, optax.sgd(0.1, momentum=0.9)),
        Phase("discriminate", ("discriminator",), objectives.discrimination(discriminator, K), optax.sgd(0.1)),
    )
    stages = (Stage("prior", 2, (prior,)), Stage("segmentation", 2, phases, jitter))
    return System(nets, stages, objectives.segment(segmenter))


def plain(
    loss: Loss = CROSS_ENTROPY, tx: optax.GradientTransformation | None = None, **options: Any
) -> tuple[System, Stage]:
    """A segmenter alone, in one stage of one phase."""
    net = toys.segmenter(**options)
    phase = Phase("segment", ("segmenter",), objectives.segmentation(net, loss), tx or optax.sgd(0.5))
    stage = Stage("segmentation", 4, (phase,))
    return System((net,), (stage,), objectives.segment(net)), stage


def step(stage: Stage, **options: Any) -> Callable[[TrainState, Values], tuple[TrainState, dict[str, Any]]]:
    return jax.jit(functools.partial(train_step, stage, **options), compiler_options=QUICK)


def on_devices(stage: Stage, n: int, pmap: bool = False, **options: Any):
    """The same step over `n` devices, or `n` parts of a vmap; what comes back has the axis of devices."""
    run = functools.partial(train_step, stage, axis_name=AXIS, **options)
    if pmap:
        spread = jax.pmap(run, axis_name=AXIS, in_axes=(None, 0), devices=jax.devices()[:n])
    else:
        spread = jax.jit(jax.vmap(run, axis_name=AXIS, in_axes=(None, 0), out_axes=0), compiler_options=QUICK)

    def go(state, batch):
        parts = jax.tree.map(lambda x: x.reshape(n, x.shape[0] // n, *x.shape[1:]), dict(batch))
        return spread(state, parts)

    return go


def flat(tree: Any) -> dict[str, np.ndarray]:
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def same(a: Any, b: Any, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Fails, by name of the leaf, unless two trees agree; with no tolerance, to the bit."""
    a, b = flat(a), flat(b)
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=atol, err_msg=name)


def differ(a: Any, b: Any) -> None:
    """Fails unless every leaf moved."""
    for name, leaf in flat(a).items():
        assert (leaf != flat(b)[name]).any(), name


SYSTEM = system(dropout=0.25)
PRIOR, SEGMENTATION = (step(stage, ema_decay=0.99) for stage in SYSTEM.stages)


@functools.cache
def trained() -> tuple[System, list[TrainState], list[dict[str, Any]]]:
    """The states before, between and after two steps of either stage of `SYSTEM`, and their metrics."""
    states, metrics = [init_state(SYSTEM, seed=1, ema=True)], []
    for seed, run in enumerate((PRIOR, PRIOR, SEGMENTATION, SEGMENTATION)):
        state, logs = run(states[-1], toys.batch(8, seed=seed, mask=UNEVEN))
        states.append(state)
        metrics.append(logs)
    return SYSTEM, states, metrics


# ---------------------------------------------------------------- state


def test_initial_state():
    whole, (state, *_), _ = trained()
    assert set(state.variables) == {net.name for net in whole.nets}
    assert set(state.opt) == {"prior.autoencode", "segmentation.segment", "segmentation.discriminate"}
    assert set(state.loss) == set(state.opt)
    assert state.step == 0
    same(inference_variables(state), state.variables)
    assert init_state(whole, seed=1).ema == {}


def test_initial_networks_depend_on_the_seed_and_on_their_own_name_only():
    whole, (state, *_), _ = trained()
    fewer = init_state(whole._replace(nets=whole.nets[1:2], stages=whole.stages[:1]), seed=1)
    same(fewer.variables["autoencoder"], state.variables["autoencoder"])
    kernel = lambda seed: init_state(plain()[0], seed).variables["segmenter"]["params"]["Dense_0"]["kernel"]  # noqa: E731
    assert (kernel(1) != kernel(2)).all()


def test_parameter_counts():
    whole, (state, *_), _ = trained()
    pixels = toys.SIZE[0] * toys.SIZE[1]
    assert parameter_counts(whole, state.variables) == {
        "segmenter": 1 * 3 + 2 * 3 + (3 + 1) * K,
        "autoencoder": (pixels * K + 1) * toys.CODE + (toys.CODE + 1) * pixels * K + 2 * K,
        "head": pixels * 3 + 1 + 2 * 3,
        "discriminator": pixels * K + 1 + 2 * K,
    }


def test_a_step_keeps_the_structure_and_types_of_the_state():
    _, states, _ = trained()
    for state in states[1:]:
        assert jax.tree.structure(state) == jax.tree.structure(states[0])
        assert [x.dtype for x in jax.tree.leaves(state)] == [x.dtype for x in jax.tree.leaves(states[0])]
        assert [x.shape for x in jax.tree.leaves(state)] == [x.shape for x in jax.tree.leaves(states[0])]
    assert [int(state.step) for state in states] == [0, 1, 2, 3, 4]


# ---------------------------------------------------------------- who moves


def test_each_stage_moves_its_own_networks_and_the_frozen_ones_stay_to_the_bit():
    _, (start, _, middle, _, end), _ = trained()
    for name in ("segmenter", "head", "discriminator"):
        same(middle.variables[name], start.variables[name])
        differ(end.variables[name]["batch_stats"], middle.variables[name]["batch_stats"])
        differ(end.variables[name]["params"], middle.variables[name]["params"])
    differ(middle.variables["autoencoder"]["batch_stats"], start.variables["autoencoder"]["batch_stats"])
    same(end.variables["autoencoder"], middle.variables["autoencoder"])


def test_a_phase_moves_nothing_of_another_phase():
    whole, (_, _, state, *_), _ = trained()
    stage, batch = whole.stages[1], toys.batch()
    both, _ = SEGMENTATION(state, batch)
    segment, _ = step(stage._replace(phases=stage.phases[:1]), ema_decay=0.99)(state, batch)
    same(segment.variables["discriminator"], state.variables["discriminator"])
    for name in ("segmenter", "head"):
        same(both.variables[name], segment.variables[name], rtol=1e-6, atol=1e-7)
    same(segment.opt["segmentation.discriminate"], state.opt["segmentation.discriminate"])
    differ(both.variables["discriminator"]["params"], state.variables["discriminator"]["params"])


def test_a_later_phase_sees_the_values_of_the_earlier_and_the_networks_it_moved():
    net = toys.segmenter(norm=False)
    shift = Phase(
        "first",
        ("segmenter",),
        Objective(chain(objectives.segment(net), pure(lambda x: x + 1.0, ["logits"], "seen")), CROSS_ENTROPY),
        optax.sgd(1.0),
    )
    again = call(net, ["image"], ["again", "more"])
    look = Objective(again, total(seen=term(jnp.sum, a="seen"), again=term(jnp.sum, a="again")))
    judge = Phase("second", ("head",), look, optax.sgd(1.0))
    stage = Stage("s", 1, (shift, judge))
    state = init_state(System((net, toys.head()), (stage,), objectives.segment(net)), seed=3)
    after, metrics = step(stage)(state, toys.batch())

    def logits(state):
        return net.module.apply(state.variables["segmenter"], toys.batch()["image"], train=False)[0]

    np.testing.assert_allclose(metrics["second/seen"], jnp.sum(logits(state) + 1.0) / 8, rtol=1e-4)
    np.testing.assert_allclose(metrics["second/again"], jnp.sum(logits(after)) / 8, rtol=1e-4)
    # no gradient reaches back: the second phase trains a network its loss never met
    same(after.variables["head"], state.variables["head"])
    assert metrics["second/grad_norm"] == 0


def test_phases_of_one_step_go_in_order():
    net = toys.segmenter(norm=False)
    phases = tuple(
        Phase(name, ("segmenter",), objectives.segmentation(net, CROSS_ENTROPY), optax.sgd(rate))
        for name, rate in (("fast", 1.0), ("slow", 0.1))
    )
    whole = System((net,), (Stage("s", 1, phases), Stage("r", 1, phases[::-1])), objectives.segment(net))
    state = init_state(whole, seed=4)

    def by_hand(rates):
        params = state.variables["segmenter"]["params"]
        for rate in rates:
            gradient = jax.grad(mean_cross_entropy, argnums=1)(net, params, toys.batch())
            params = jax.tree.map(lambda p, g, rate=rate: p - rate * g, params, gradient)
        return params

    for stage, rates in zip(whole.stages, [(1.0, 0.1), (0.1, 1.0)], strict=True):
        moved, _ = step(stage)(state, toys.batch())
        same(moved.variables["segmenter"]["params"], by_hand(rates), rtol=1e-4, atol=1e-6)


def mean_cross_entropy(net, params, batch):
    logits, _ = net.module.apply({"params": params}, batch["image"], train=False)
    picked = jnp.sum(jax.nn.log_softmax(logits) * jax.nn.one_hot(batch["label"], K), axis=-1)
    return -jnp.sum(batch["mask"] * jnp.mean(picked, axis=(1, 2))) / jnp.sum(batch["mask"])


def test_one_step_of_gradient_descent_is_the_gradient_of_the_mean_over_real_examples():
    whole, stage = plain(norm=False)
    state, batch = init_state(whole, seed=5), toys.batch(8, mask=UNEVEN)
    after, metrics = step(stage)(state, batch)
    params = state.variables["segmenter"]["params"]
    loss, gradient = jax.value_and_grad(mean_cross_entropy, argnums=1)(whole.nets[0], params, batch)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient)
    same(after.variables["segmenter"]["params"], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)


def test_prepare_runs_once_and_its_draws_follow_seed_and_step():
    whole = system()
    stage = whole.stages[1]
    seen = pure(lambda image: image[:, 0, 0, 0], ["image"], "pixel")
    keep = Objective(seen, total(pixel=term(jnp.sum, a="pixel")))
    watch = stage._replace(phases=tuple(Phase(name, (), keep, optax.sgd(1.0)) for name in ("a", "b")))
    state = init_state(whole._replace(stages=(watch,)), seed=6)
    run, batch = step(watch), toys.batch()
    once, first = run(state, batch)
    _, again = run(state, batch)
    _, next_step = run(once, batch)
    _, other_seed = run(init_state(whole._replace(stages=(watch,)), seed=7), batch)
    assert first["a/pixel"] == first["b/pixel"] == again["a/pixel"]
    raw = jnp.mean(batch["image"][:, 0, 0, 0])
    assert len({float(x) for x in (first["a/pixel"], next_step["a/pixel"], other_seed["a/pixel"], raw)}) == 4


# ---------------------------------------------------------------- metrics


def test_metrics_are_raw_and_weighted_means_over_real_examples():
    _, _, metrics = trained()
    logs = metrics[2]
    for name in ("shape", "code", "position", "adversarial", "weight_decay"):
        np.testing.assert_allclose(logs[f"segment/{name}_weighted"], 0.1 * logs[f"segment/{name}"], rtol=1e-6)
    # the weight of the code prior is a schedule: 0.1, then 0.2
    np.testing.assert_allclose(metrics[3]["segment/code_weighted"], 0.2 * metrics[3]["segment/code"], rtol=1e-6)
    parts = sum(value for name, value in logs.items() if name.endswith("_weighted") and "/segmentation/" not in name)
    np.testing.assert_allclose(logs["segment/loss"], logs["segment/segmentation"] + parts, rtol=1e-5)
    dice_and_cross = logs["segment/segmentation/dice_weighted"] + logs["segment/segmentation/cross_weighted"]
    np.testing.assert_allclose(logs["segment/segmentation"], dice_and_cross, rtol=1e-5)
    assert set(metrics[0]) == {"loss", "grad_norm", "reconstruction_ce", "reconstruction_dice"}
    assert {"discriminate/loss", "discriminate/discrimination", "discriminate/grad_norm"} < set(logs)
    assert all(np.shape(value) == () and np.isfinite(value) for value in logs.values())


def test_a_term_named_loss_does_not_take_the_place_of_the_loss():
    (net,), (stage,), forward = plain(norm=False)[0]
    bare = Objective(forward, total(loss=weighted(CROSS_ENTROPY, 0.5)))
    stage = stage._replace(phases=(stage.phases[0]._replace(objective=bare),))
    state = init_state(System((net,), (stage,), forward), seed=8)
    after, metrics = step(stage)(state, toys.batch())
    params = state.variables["segmenter"]["params"]
    gradient = jax.grad(mean_cross_entropy, argnums=1)(net, params, toys.batch())
    expected = jax.tree.map(lambda p, g: p - 0.5 * 0.5 * g, params, gradient)
    same(after.variables["segmenter"]["params"], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(metrics["loss"], metrics["loss_weighted"])


# ---------------------------------------------------------------- padding, devices, accumulation


def test_masked_padding_changes_nothing():
    whole, (state, *_), _ = trained()
    real, garbage = toys.batch(5, seed=1), {name: x[:3] for name, x in toys.batch(8, seed=2).items()}
    garbage |= {"image": 1e3 * garbage["image"], "mask": jnp.zeros(3), "index": jnp.arange(5, 8)}
    padded = {name: jnp.concatenate([x, garbage[name]]) for name, x in real.items()}
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
    state, batch = init_state(SYSTEM, seed=11, ema=True), toys.batch(8, mask=UNEVEN)
    same(init_state(four, seed=11, ema=True), state)
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
        moved.append(jax.tree.map(lambda x: x[0], (after, metrics)) if axis_name else (after, metrics))
    same(moved[1], moved[0], rtol=1e-5, atol=1e-7)

    net, real = whole.nets[0], np.flatnonzero(UNEVEN)

    def of_whole_batch(params):
        logits, _ = net.module.apply({"params": params}, batch["image"][real], train=False)
        joined = jax.nn.softmax(logits).reshape(-1, K)
        return 1 - jnp.mean(dice(overlap(joined, batch["label"][real].reshape(-1))))

    params = state.variables["segmenter"]["params"]
    loss, gradient = jax.value_and_grad(of_whole_batch)(params)
    np.testing.assert_allclose(moved[0][1]["loss"], loss, rtol=1e-5)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient)
    same(moved[1][0].variables["segmenter"]["params"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("devices", [1, 2])
def test_accumulation_is_the_full_batch_without_batch_statistics(devices):
    scheduled = total(plain=CROSS_ENTROPY, more=weighted(CROSS_ENTROPY, lambda step: 1.0 + step.astype(jnp.float32)))
    whole, stage = plain(scheduled, optax.adam(1e-2), norm=False, dropout=0.25)
    expected = parts = init_state(whole, seed=13)
    batch = toys.batch(8, mask=UNEVEN)
    whole_batch = step(stage)
    if devices == 1:
        in_parts = step(stage, accumulate=4)
    else:
        spread = on_devices(stage, devices, accumulate=2)
        in_parts = lambda state, batch: jax.tree.map(lambda x: x[0], spread(state, batch))  # noqa: E731
    for _ in range(3):
        expected, logs = whole_batch(expected, batch)
        parts, metrics = in_parts(parts, batch)
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


# ---------------------------------------------------------------- averages and prediction


def test_the_average_of_parameters_warms_up_from_each_networks_own_first_step():
    _, states, _ = trained()
    for name, steps in (("autoencoder", (0, 1)), ("segmenter", (2, 3)), ("discriminator", (2, 3))):
        average = states[0].variables[name]["params"]
        for count, i in enumerate(steps, start=1):
            decay = min(0.99, (1 + count) / (10 + count))
            average = jax.tree.map(
                lambda old, new, decay=decay: decay * old + (1 - decay) * new,
                average,
                states[i + 1].variables[name]["params"],
            )
        same(inference_variables(states[steps[-1] + 1])[name]["params"], average, rtol=1e-5, atol=1e-7)


def test_the_average_of_a_frozen_network_stays():
    _, states, _ = trained()
    frozen = [inference_variables(state)["autoencoder"]["params"] for state in states[2:]]
    same(frozen[1], frozen[0])
    same(frozen[2], frozen[0])


def test_inference_without_an_average_uses_the_parameters_themselves():
    whole, _ = plain()
    state = init_state(whole, seed=15)
    same(inference_variables(state), state.variables)


def test_predict_step_is_the_network_in_inference_mode():
    whole, states, _ = trained()
    variables, image = states[-1].variables, toys.batch(3)["image"]
    logits, _ = whole.nets[0].module.apply(variables["segmenter"], image, train=False)
    np.testing.assert_allclose(predict_step(whole, variables, image), jax.nn.softmax(logits), rtol=1e-6)


def test_training_lowers_the_loss():
    whole, stage = plain(exponential_logarithmic((1.0, 1.0, 1.0)), optax.adam(0.05))
    state, run = init_state(whole, seed=16), step(stage)
    losses = []
    for _ in range(60):
        state, metrics = run(state, toys.batch(8))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.7 * losses[0]


def test_phase_id():
    whole = system()
    assert phase_id(whole.stages[1], whole.stages[1].phases[0]) == "segmentation.segment"


def test_init_net_has_parameters_and_statistics():
    assert set(init_net(toys.segmenter(), jax.random.key(0))) == {"params", "batch_stats"}
    assert set(init_net(toys.segmenter(norm=False), jax.random.key(0))) == {"params"}
