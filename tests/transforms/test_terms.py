"""Loss transforms on toy networks: pass and term each adds, its weight and gradient, their composition."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax.core.passes import name_key
from cardiac_jax.core.step import init_net
from cardiac_jax.core.types import LossTransform, Objective
from cardiac_jax.losses.overlap import batch_dice_loss
from cardiac_jax.losses.pixelwise import exponential_logarithmic
from cardiac_jax.transforms import terms
from tests import toys

K = toys.CLASSES
KEY = jax.random.key(5)
PREDICTOR = toys.discriminator()._replace(name="predictor")  # a code of one number, of "images" of K channels
NETS = {net.name: net for net in (toys.segmenter(), toys.autoencoder(), toys.head(), toys.discriminator(), PREDICTOR)}
VARIABLES = {name: init_net(net, name_key(KEY, name)) for name, net in NETS.items()}
# Losses, codes and logits are sums and differences of numbers of about 1, each rounded to 1.2e-7 of itself.
ATOL = 1e-6
VALUES = {**toys.batch(4), "fully_annotated": jnp.array([1.0, 1.0, 0.0, 1.0])}
VALUES["fine"] = jnp.asarray(np.random.default_rng(9).normal(size=(4, *toys.SIZE, K)), jnp.float32)


class Row(NamedTuple):
    """A transform of weight `w`, the names its pass writes, and those of its networks that train."""

    of: Callable[..., LossTransform]
    make: Callable[[Any], LossTransform]  # by weight
    writes: frozenset[str]
    trains: frozenset[str] = frozenset()
    dense_only: bool = True


ROWS = {
    "shape": Row(
        terms.shape_prior,
        lambda w: terms.shape_prior(NETS["autoencoder"], K, w),
        frozenset({"truth", "predicted_shape", "true_shape"}),
    ),
    "code": Row(
        terms.code_prior,
        lambda w: terms.code_prior(NETS["autoencoder"], K, w),
        frozenset({"truth", "predicted_code", "true_code"}),
    ),
    "position": Row(
        terms.position,
        lambda w: terms.position(NETS["head"], w),
        frozenset({"predicted_position"}),
        frozenset({"head"}),
        dense_only=False,
    ),
    "adversarial": Row(terms.adversarial, lambda w: terms.adversarial(NETS["discriminator"], w), frozenset({"fake"})),
    "weight_decay": Row(
        terms.weight_decay,
        lambda w: terms.weight_decay(NETS["segmenter"], w),
        frozenset({"squared_weights"}),
        dense_only=False,
    ),
    "image_code": Row(
        terms.predictor_prior,
        lambda w: terms.predictor_prior(PREDICTOR, w, "probabilities"),
        frozenset({"predicted_image_code", "true_image_code"}),
        dense_only=False,
    ),
}
EVERY = pytest.mark.parametrize("name", ROWS)


def base(**options: Any) -> Objective:
    return terms.segmentation(toys.segmenter(**options), exponential_logarithmic((1.0, 2.0, 3.0)))


def once(objective: Objective, variables, values, train=frozenset({"segmenter", "head"})):
    written, after = objective.forward(variables, values, key=KEY, train=train)
    loss, _, logs = objective.loss.apply(objective.loss.init(), written)
    return loss, logs, written, after


def evaluate(objective: Objective, variables=None, values=None, train=frozenset({"segmenter", "head"})):
    """The loss `[B]`, its logs, the values written and the variables after; compiled."""
    run = jax.jit(functools.partial(once, objective, train=train), compiler_options=toys.QUICK)
    return jax.device_get(run(VARIABLES if variables is None else variables, VALUES if values is None else values))


@functools.cache
def alone(name: str | None = None):
    """What `evaluate` gives for one transform of weight 1/4, or for none."""
    return evaluate(ROWS[name].make(0.25)(base()) if name else base())


def everything(weight: Any = 0.25, **options: Any) -> Objective:
    return terms.compose(*(row.make(weight) for row in ROWS.values()))(base(**options))


def slopes(objective: Objective) -> dict[str, Any]:
    """Gradient of the sum of every logged term to the parameters, by name of the term and of the network."""

    def sums(params):
        variables = {name: {**VARIABLES[name], "params": p} for name, p in params.items()}
        return jax.tree.map(jnp.sum, once(objective, variables, VALUES)[1])

    params = {name: v["params"] for name, v in VARIABLES.items()}
    return jax.device_get(jax.jit(jax.jacrev(sums), compiler_options=toys.QUICK)(params))


@functools.cache
def slopes_of_everything() -> dict[str, Any]:
    return slopes(everything())


@functools.cache
def everything_with_dropout():
    return evaluate(everything(dropout=0.5))


def squared(tree: Any) -> float:
    return float(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(jax.device_get(tree))))


def test_every_transform_has_a_row():
    functions = [f for f in vars(terms).values() if getattr(f, "__module__", "") == terms.__name__]
    transforms = {f.__name__ for f in functions if f.__annotations__.get("return") is LossTransform}
    assert transforms - {"compose"} == {row.of.__name__ for row in ROWS.values()}


@EVERY
def test_adds_a_pass_and_a_term(name):
    _, logs, written, _ = alone()
    _, more, longer, _ = alone(name)
    assert set(more) - set(logs) == {name, f"{name}_weighted"}
    assert set(longer) - set(written) >= ROWS[name].writes
    for log, value in logs.items():
        np.testing.assert_allclose(more[log], value, rtol=1e-6, atol=ATOL)


@EVERY
def test_the_weight_is_exact(name):
    plain, _, _, _ = alone()
    loss, logs, _, _ = alone(name)
    assert (np.asarray(logs[name]) > 0).any()
    np.testing.assert_array_equal(logs[f"{name}_weighted"], 0.25 * logs[name])
    np.testing.assert_allclose(loss, plain + 0.25 * logs[name], rtol=1e-6, atol=ATOL)


def test_a_weight_may_be_a_schedule():
    objective = everything(lambda step: 0.25 + step)

    def twice():
        written, _ = objective.forward(VARIABLES, VALUES, key=KEY, train=frozenset())
        _, state, first = objective.loss.apply(objective.loss.init(), written)
        return first, objective.loss.apply(state, written)[2]

    for step, logs in enumerate(jax.device_get(jax.jit(twice, compiler_options=toys.QUICK)())):
        for name in ROWS:
            np.testing.assert_array_equal(logs[f"{name}_weighted"], (0.25 + step) * logs[name])


@EVERY
def test_the_term_reaches_the_segmenter_and_is_finite(name):
    reached = slopes_of_everything()[name]
    assert squared(reached["segmenter"]) > 1e-12
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(reached))


@pytest.mark.parametrize("log", ["segmentation", "segmentation/dice", "segmentation/cross"])
def test_the_supervised_terms_reach_the_segmenter_alone(log):
    reached = slopes_of_everything()[log]
    assert squared(reached["segmenter"]) > 1e-12
    assert squared({name: g for name, g in reached.items() if name != "segmenter"}) == 0


@EVERY
def test_an_example_that_is_not_dense_is_spared_by_priors_on_whole_shapes(name):
    _, logs, _, _ = alone(name)
    assert (logs[name][2] == 0) == ROWS[name].dense_only
    assert (np.asarray(logs[name])[[0, 1, 3]] > 0).all()


@EVERY
def test_only_the_networks_in_train_change_their_statistics(name):
    _, _, _, after = alone(name)
    for net in {*NETS} - {"segmenter"} - ROWS[name].trains:
        jax.tree.map(np.testing.assert_array_equal, after[net], VARIABLES[net])
    jax.tree.map(np.testing.assert_array_equal, after["segmenter"]["params"], VARIABLES["segmenter"]["params"])
    assert squared(after["segmenter"]["batch_stats"]["BatchNorm_0"]["mean"]) > 0


@jax.jit
def autoencode(x):
    return NETS["autoencoder"].module.apply(VARIABLES["autoencoder"], x, train=False)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_values_of_the_priors():
    _, logs, written, _ = evaluate(everything())
    truth = np.eye(K, dtype=np.float32)[np.asarray(VALUES["label"])]
    (predicted, predicted_code), (true, true_code) = autoencode(written["probabilities"]), autoencode(truth)
    fully_annotated = np.array([1, 1, 0, 1])
    difference = softmax(predicted) - softmax(true)
    np.testing.assert_allclose(logs["shape"], fully_annotated * (difference**2).sum((1, 2, 3)), rtol=1e-5, atol=ATOL)
    distance = ((np.asarray(predicted_code) - true_code) ** 2).sum(1)
    np.testing.assert_allclose(logs["code"], fully_annotated * distance, rtol=1e-5, atol=ATOL)
    place = NETS["head"].module.apply(VARIABLES["head"], written["bottleneck"], train=False)
    np.testing.assert_allclose(logs["position"], (place - VALUES["position"]) ** 2, rtol=1e-5, atol=ATOL)
    fake = NETS["discriminator"].module.apply(VARIABLES["discriminator"], written["probabilities"], train=False)
    fooled = fully_annotated * np.log1p(np.exp(-np.asarray(fake)))
    np.testing.assert_allclose(logs["adversarial"], fooled, rtol=1e-5, atol=ATOL)
    codes = [
        np.asarray(PREDICTOR.module.apply(VARIABLES["predictor"], image, train=False))
        for image in (written["probabilities"], VALUES["fine"])
    ]
    np.testing.assert_allclose(logs["image_code"], (codes[0] - codes[1]) ** 2, rtol=1e-5, atol=ATOL)
    half = 0.5 * squared(VARIABLES["segmenter"]["params"])
    np.testing.assert_allclose(logs["weight_decay"], np.full(4, half), rtol=1e-6)


def test_gradient_flows_through_the_frozen_prior_as_the_chain_rule_has_it():
    actual = slopes_of_everything()["code"]["segmenter"]
    truth = np.eye(K, dtype=np.float32)[np.asarray(VALUES["label"])]

    def code(params):
        variables = {**VARIABLES["segmenter"], "params": params}
        (logits, _), _ = NETS["segmenter"].module.apply(
            variables, VALUES["image"], train=True, mask=VALUES["mask"], mutable=["batch_stats"]
        )
        difference = autoencode(jax.nn.softmax(logits))[1] - autoencode(truth)[1]
        return jnp.sum(VALUES["fully_annotated"] * jnp.sum(difference**2, axis=1))

    expected = jax.jit(jax.grad(code), compiler_options=toys.QUICK)(VARIABLES["segmenter"]["params"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), actual, expected)


def test_compose_of_nothing_is_nothing():
    objective = base()
    assert terms.compose()(objective) is objective


def test_composition_adds_up_in_any_order():
    forth = [row.make(0.25) for row in ROWS.values()]
    plain, _, _, _ = alone()
    for transforms in (forth, forth[::-1]):
        loss, logs, _, _ = evaluate(terms.compose(*transforms)(base()))
        np.testing.assert_allclose(loss, plain + sum(0.25 * logs[name] for name in ROWS), rtol=1e-5, atol=ATOL)
        for name in ROWS:
            np.testing.assert_allclose(logs[name], alone(name)[1][name], rtol=1e-5, atol=ATOL)


@EVERY
def test_dropping_one_leaves_the_others_as_they_were(name):
    rest = [row.make(0.25) for other, row in ROWS.items() if other != name]
    _, logs, _, _ = everything_with_dropout()
    _, fewer, _, _ = evaluate(terms.compose(*rest)(base(dropout=0.5)))
    assert set(logs) - set(fewer) == {name, f"{name}_weighted"}
    for log, value in fewer.items():
        np.testing.assert_allclose(value, logs[log], rtol=1e-6, atol=ATOL)


def test_two_terms_of_one_name_are_refused():
    twice = terms.compose(ROWS["position"].make(1.0), ROWS["position"].make(1.0))(base())
    with pytest.raises(ValueError, match="two terms are named 'position'"):
        evaluate(twice)


@functools.cache
def with_another_autoencoder():
    """A second autoencoder, the variables with its own, and the logs of its shape prior alone."""
    other = toys.autoencoder("other")
    variables = {**VARIABLES, "other": init_net(other, jax.random.key(6))}
    return other, variables, evaluate(terms.shape_prior(other, K, 1.0)(base()), variables)[1]


@pytest.mark.parametrize("order", [1, -1])
def test_two_priors_with_autoencoders_of_their_own_do_not_mix(order):
    other, variables, shape = with_another_autoencoder()
    both = [ROWS["code"].make(1.0), terms.shape_prior(other, K, 1.0)][::order]
    _, logs, _, _ = evaluate(terms.compose(*both)(base()), variables)
    _, code, _, _ = alone("code")
    np.testing.assert_allclose(logs["code"], code["code"], rtol=1e-6, atol=ATOL)
    np.testing.assert_allclose(logs["shape"], shape["shape"], rtol=1e-6, atol=ATOL)


@functools.partial(jax.jit, compiler_options=toys.QUICK)
def segmented(values):
    return terms.segment(NETS["segmenter"])(VARIABLES, values, key=KEY, train=frozenset())[0]


def test_segment_writes_probabilities():
    written = jax.device_get(segmented({"image": VALUES["image"]}))
    np.testing.assert_allclose(written["probabilities"].sum(-1), np.ones((4, *toys.SIZE)), rtol=1e-6)
    np.testing.assert_allclose(
        np.log(written["probabilities"][..., 0] / written["probabilities"][..., 1]),
        written["logits"][..., 0] - written["logits"][..., 1],
        atol=1e-5,
    )


def test_segmentation_takes_any_loss():
    objective = terms.segmentation(toys.segmenter(), batch_dice_loss("probabilities", "label"))
    loss, logs, _, _ = evaluate(objective)
    assert set(logs) == {"segmentation"}
    np.testing.assert_array_equal(loss, logs["segmentation"])


def test_truth_is_one_hot_and_nothing_where_ignored():
    written, _ = terms.truth(3)({}, {"label": jnp.array([[0, 2, 255]])}, key=KEY, train=frozenset())
    np.testing.assert_array_equal(written["truth"], [[[1, 0, 0], [0, 0, 1], [0, 0, 0]]])


# ---------------------------------------------------------------- the prior's own objective


def corrupted(swap: float, values=None) -> np.ndarray:
    objective = terms.autoencoding(NETS["autoencoder"], K, swap)

    def run(values):
        return objective.forward(VARIABLES, values, key=KEY, train=frozenset())[0]["corrupted"]

    return np.asarray(jax.jit(run, compiler_options=toys.QUICK)(values or VALUES))


def test_autoencoding_swaps_as_many_labels_as_it_says():
    label, ones = np.ones((64, *toys.SIZE), np.uint8), np.ones(64, np.float32)
    values = {"label": label, "fully_annotated": ones, "mask": ones, "index": np.arange(64)}
    clean = np.eye(K)[label]
    np.testing.assert_array_equal(corrupted(0.0, values), clean)
    for swap in (0.1, 0.5, 1.0):
        share = corrupted(swap, values).mean((0, 1, 2))
        expected = np.array([swap / 3, 1 - 2 * swap / 3, swap / 3])
        # 1,024 pixels: four standard deviations, and the probability is realised in steps of 1/256
        np.testing.assert_allclose(share, expected, atol=4 * np.sqrt(0.25 / 1024) + 1 / 256)


def test_autoencoding_corrupts_each_example_by_its_index():
    whole = corrupted(0.5)
    part = corrupted(0.5, {name: np.asarray(x)[2:] for name, x in VALUES.items()})
    np.testing.assert_array_equal(part, whole[2:])


def test_autoencoding_compares_with_the_clean_map():
    objective = terms.autoencoding(NETS["autoencoder"], K, swap=0.5)
    loss, logs, written, _ = evaluate(objective, train=frozenset())
    logits = autoencode(written["corrupted"])[0]
    np.testing.assert_allclose(written["reconstruction_logits"], logits, rtol=1e-5, atol=ATOL)
    p, truth = softmax(logits), np.eye(K)[np.asarray(VALUES["label"])]
    fully_annotated = np.array([1, 1, 0, 1])
    ce = fully_annotated * -np.log((p * truth).sum(-1)).mean((1, 2))
    dice = fully_annotated * (1 - ((2 * (p * truth).sum((1, 2)) + 1) / ((p + truth).sum((1, 2)) + 1)).mean(-1))
    np.testing.assert_allclose(logs["reconstruction_ce"], ce, rtol=1e-5, atol=ATOL)
    np.testing.assert_allclose(logs["reconstruction_dice"], dice, rtol=1e-5, atol=ATOL)
    np.testing.assert_allclose(loss, ce + dice, rtol=1e-5, atol=ATOL)
    reached = slopes(objective)
    for log in ("reconstruction_ce", "reconstruction_dice"):
        assert squared(reached[log]["autoencoder"]) > 1e-12


def test_discrimination_learns_from_truth_and_prediction_and_leaves_the_segmenter():
    objective = terms.discrimination(NETS["discriminator"], K)
    values = segmented(VALUES)
    loss, logs, written, after = evaluate(objective, values=values, train=frozenset({"discriminator"}))
    real, fake = (np.asarray(written[name], np.float64) for name in ("real", "fake"))
    expected = np.array([1, 1, 0, 1]) * (np.log1p(np.exp(-real)) + np.log1p(np.exp(fake)))
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=ATOL)
    np.testing.assert_array_equal(loss, logs["discrimination"])
    jax.tree.map(np.testing.assert_array_equal, after["segmenter"], VARIABLES["segmenter"])
