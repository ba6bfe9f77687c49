"""One training step on toy networks: who moves, in what order, and by how much."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cardiac_jax.core.loss import term, total, weighted
from cardiac_jax.core.passes import call, chain, pure
from cardiac_jax.core.step import (
    inference_variables,
    init_net,
    init_state,
    keep_best,
    parameter_counts,
    phase_id,
    predict_step,
    take_best,
    trained_by,
)
from cardiac_jax.core.types import Objective, Output, Phase, Stage, System, TrainState
from cardiac_jax.inference.postprocess import unchanged
from cardiac_jax.losses.pixelwise import exponential_logarithmic
from cardiac_jax.transforms import terms
from tests import toys
from tests.toy_systems import (
    CROSS_ENTROPY,
    OUTPUTS,
    SEGMENTATION,
    UNEVEN,
    K,
    differ,
    mean_cross_entropy,
    plain,
    same,
    step,
    system,
    trained,
)

compiled = partial(jax.jit, compiler_options=toys.QUICK)

# ---------------------------------------------------------------- state


def test_initial_state():
    whole, (state, *_), _ = trained()
    assert set(state.variables) == {net.name for net in whole.nets}
    assert set(state.opt) == {"prior.autoencode", "segmentation.segment", "segmentation.discriminate"}
    assert set(state.loss) == set(state.opt)
    assert state.step == 0
    same(inference_variables(state), state.variables)
    assert jax.eval_shape(lambda: init_state(whole, seed=1)).ema == {}


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


def test_a_frozen_network_runs_in_inference_mode():
    net, segmenter = toys.autoencoder(), toys.segmenter(norm=False)
    forward = chain(terms.truth(K), call(net, ["truth"], ["code"], method="encode"))
    phase = Phase("p", ("segmenter",), Objective(forward, total(code=term(jnp.sum, a="code"))), optax.sgd(1.0))
    stage = Stage("s", 1, (phase,))
    state = init_state(System((net, segmenter), (stage,), terms.segment(segmenter), OUTPUTS), seed=3)
    _, metrics = step(stage)(state, toys.batch())
    truth = np.eye(K, dtype=np.float32)[np.asarray(toys.batch()["label"])]
    encode = partial(net.module.apply, train=False, method="encode")
    code = np.asarray(compiled(encode)(state.variables["autoencoder"], truth))
    np.testing.assert_allclose(metrics["code"], np.sum(code) / 8, rtol=1e-4, atol=1e-6)  # of either sign


def test_a_phase_moves_nothing_of_another_phase():
    whole, (_, _, state, *_), _ = trained()
    stage, batch = whole.stages[1], toys.batch()
    both, _ = SEGMENTATION(state, batch)
    segment, _ = step(stage._replace(phases=stage.phases[:1]), ema_decay=0.99)(state, batch)
    same(segment.variables["discriminator"], state.variables["discriminator"])
    for name in ("segmenter", "head"):
        same(both.variables[name], segment.variables[name], rtol=1e-6, atol=1e-6)
    same(segment.opt["segmentation.discriminate"], state.opt["segmentation.discriminate"])
    differ(both.variables["discriminator"]["params"], state.variables["discriminator"]["params"])


def test_a_later_phase_sees_the_values_of_the_earlier_and_the_networks_it_moved():
    net = toys.segmenter(norm=False)
    shift = Phase(
        "first",
        ("segmenter",),
        Objective(chain(terms.segment(net), pure(lambda x: x + 1.0, ["logits"], "seen")), CROSS_ENTROPY),
        optax.sgd(1.0),
    )
    again = call(net, ["image"], ["again", "more"])
    look = Objective(again, total(seen=term(jnp.sum, a="seen"), again=term(jnp.sum, a="again")))
    stale = Objective(pure(jnp.tanh, ["seen"], "stale"), term(jnp.sum, a="stale"))
    stage = Stage(
        "s",
        1,
        (
            shift,
            Phase("second", ("head",), look, optax.sgd(1.0)),
            Phase("third", ("segmenter",), stale, optax.sgd(1.0)),
        ),
    )
    state = init_state(System((net, toys.head()), (stage,), terms.segment(net), OUTPUTS), seed=3)
    after, metrics = step(stage)(state, toys.batch())

    of_segmenter = compiled(partial(net.module.apply, train=False))

    def logits(state):
        return np.asarray(of_segmenter(state.variables["segmenter"], toys.batch()["image"])[0])

    # 48 logits of either sign to an example: rounding is 1.2e-7 of the sum of their sizes
    np.testing.assert_allclose(metrics["second/seen"], np.sum(logits(state) + 1.0) / 8, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics["second/again"], np.sum(logits(after)) / 8, rtol=1e-4, atol=1e-5)
    same(after.variables["head"], state.variables["head"])
    # no gradient goes back through a value of an earlier phase
    assert metrics["third/grad_norm"] == 0


def test_phases_of_one_step_go_in_order():
    net = toys.segmenter(norm=False)
    phases = tuple(
        Phase(name, ("segmenter",), terms.segmentation(net, CROSS_ENTROPY), optax.sgd(rate))
        for name, rate in (("fast", 1.0), ("slow", 0.1))
    )
    whole = System((net,), (Stage("s", 1, phases), Stage("r", 1, phases[::-1])), terms.segment(net), OUTPUTS)
    state = init_state(whole, seed=4)

    def by_hand(rates):
        params = jax.device_get(state.variables["segmenter"]["params"])
        for rate in rates:
            gradient = mean_cross_entropy(net, params, toys.batch())[1]
            params = jax.tree.map(
                lambda p, g, rate=rate: np.asarray(p) - np.float32(rate) * np.asarray(g), params, gradient
            )
        return params

    for stage, rates in zip(whole.stages, [(1.0, 0.1), (0.1, 1.0)], strict=True):
        moved, _ = step(stage)(state, toys.batch())
        same(moved.variables["segmenter"]["params"], by_hand(rates), rtol=1e-4, atol=1e-6)


def test_one_step_of_gradient_descent_is_the_gradient_of_the_mean_over_real_examples():
    whole, stage = plain(norm=False)
    state, batch = init_state(whole, seed=5), toys.batch(8, mask=UNEVEN)
    after, metrics = step(stage)(state, batch)
    params = jax.device_get(state.variables["segmenter"]["params"])
    loss, gradient = jax.device_get(mean_cross_entropy(whole.nets[0], params, batch))
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient)
    same(after.variables["segmenter"]["params"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6, atol=1e-6)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5, atol=1e-6)


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
    raw = np.mean(np.asarray(batch["image"])[:, 0, 0, 0])
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
    (net,), (stage,), forward, _ = plain(norm=False)[0]
    bare = Objective(forward, total(loss=weighted(CROSS_ENTROPY, 0.5)))
    stage = stage._replace(phases=(stage.phases[0]._replace(objective=bare),))
    state = init_state(System((net,), (stage,), forward, OUTPUTS), seed=8)
    after, metrics = step(stage)(state, toys.batch())
    params = jax.device_get(state.variables["segmenter"]["params"])
    gradient = jax.device_get(mean_cross_entropy(net, params, toys.batch())[1])
    expected = jax.tree.map(lambda p, g: p - 0.5 * 0.5 * g, params, gradient)
    same(after.variables["segmenter"]["params"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(metrics["loss"], metrics["loss_weighted"])


# ---------------------------------------------------------------- averages


def test_the_average_of_parameters_warms_up_from_each_networks_own_first_step():
    _, states, _ = trained()
    for name, steps in (("autoencoder", (0, 1)), ("segmenter", (2, 3)), ("discriminator", (2, 3))):
        average = jax.device_get(states[0].variables[name]["params"])
        for count, i in enumerate(steps, start=1):
            decay = min(0.99, (1 + count) / (10 + count))
            average = jax.tree.map(
                lambda old, new, decay=decay: np.float32(decay) * old + np.float32(1 - decay) * np.asarray(new),
                average,
                states[i + 1].variables[name]["params"],
            )
        same(inference_variables(states[steps[-1] + 1])[name]["params"], average, rtol=1e-5, atol=1e-6)


def test_the_average_of_a_frozen_network_stays():
    _, states, _ = trained()
    frozen = [inference_variables(state)["autoencoder"]["params"] for state in states[2:]]
    same(frozen[1], frozen[0])
    same(frozen[2], frozen[0])


def test_inference_without_an_average_uses_the_parameters_themselves():
    whole, _ = plain()
    state = init_state(whole, seed=15)
    same(inference_variables(state), state.variables)


# ---------------------------------------------------------------- best weights


def validated(ema: bool = False) -> tuple[Stage, TrainState]:
    """The first, validated, of two stages that train one network, and the state before it."""
    whole, stage = plain()
    first = stage._replace(name="first", validate="probabilities")
    last = stage._replace(validate="probabilities")
    return first, init_state(whole._replace(stages=(first, last)), seed=17, ema=ema)


def shifted(state: TrainState, by: float) -> TrainState:
    """The state with every number of networks and averages moved."""

    def add(tree):
        return jax.tree.map(lambda x: jnp.asarray(np.asarray(x) + np.asarray(by, x.dtype)), tree)

    ema = {name: {**held, "params": add(held["params"])} for name, held in state.ema.items()}
    return state.replace(variables=add(state.variables), ema=ema)


def test_only_an_earlier_stage_that_is_validated_keeps_its_best_weights():
    first, state = validated()
    assert set(state.best) == {"first"} and trained_by(first) == ("segmenter",)
    assert state.best["first"]["score"] == -jnp.inf
    assert init_state(plain()[0], seed=17).best == {}


def test_the_best_validation_decides_and_the_first_of_two_alike():
    first, state = validated()
    for by, score in ((1, 0.5), (2, 0.4), (3, 0.7), (4, 0.7), (5, float("nan")), (6, -1.0)):
        state = keep_best(first, shifted(state, 1), score)
        assert state.best["first"]["score"] == np.float32(0.7 if by >= 3 else 0.5)
    _, start = validated()
    third = shifted(shifted(shifted(start, 1), 1), 1).variables
    same(state.best["first"]["nets"], third)
    after = take_best(first, state)
    same(after.variables, third)
    same(after.best, state.best)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_what_is_kept_and_put_back_is_the_average():
    first, state = validated(ema=True)
    averaged = shifted(state, 1).ema["segmenter"]["params"]
    state = state.replace(ema=shifted(state, 1).ema)
    state = keep_best(first, state, 0.5)
    after = take_best(first, shifted(state, 1))
    same(after.variables["segmenter"]["params"], averaged)
    same(after.ema["segmenter"]["params"], averaged)
    same(after.variables["segmenter"]["batch_stats"], state.variables["segmenter"]["batch_stats"])
    assert after.ema["segmenter"]["steps"] == state.ema["segmenter"]["steps"]


def test_a_stage_without_a_finite_score_ends_as_it_is():
    first, state = validated()
    assert take_best(first, state) is state
    assert keep_best(first, state, float("nan")) is state
    other = first._replace(name="another")
    assert keep_best(other, state, 1.0) is state and take_best(other, state) is state


# ---------------------------------------------------------------- prediction


def test_predict_step_is_the_network_in_inference_mode():
    whole, states, _ = trained()
    variables, image = states[-1].variables, toys.batch(3)["image"]
    logits, _ = compiled(partial(whole.nets[0].module.apply, train=False))(variables["segmenter"], image)
    found = compiled(partial(predict_step, whole))(variables, image)
    assert set(found) == {"probabilities", "found"}
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(found["probabilities"], softmax, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found["found"], np.ones(3))


def test_predict_step_gives_every_output_by_name():
    whole, states, _ = trained()
    second = Output("bottleneck", "image", unchanged)
    lost = pure(lambda image: jnp.arange(image.shape[0]) == 1, ["image"], "found")
    both = whole._replace(predict=chain(whole.predict, lost), outputs=(*whole.outputs, second))
    found = compiled(partial(predict_step, both))(states[-1].variables, toys.batch(3)["image"])
    assert set(found) == {"probabilities", "bottleneck", "found"}
    of_segmenter = compiled(partial(whole.nets[0].module.apply, train=False))
    _, bottleneck = of_segmenter(states[-1].variables["segmenter"], toys.batch(3)["image"])
    np.testing.assert_allclose(found["bottleneck"], bottleneck, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found["found"], [0, 1, 0])
    missing = whole._replace(outputs=(Output("edges", "image", unchanged),))
    with pytest.raises(KeyError, match="no value named 'edges'"):
        jax.eval_shape(partial(predict_step, missing), states[-1].variables, toys.batch(3)["image"])


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
