"""Leaf losses: one battery through which every public function of `losses/` goes.

A new loss needs a row in `ROWS` (the battery), and anything else that is public a row in `PARTS` and a test
of its own name.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax import losses
from cardiac_jax.core.loss import term
from cardiac_jax.core.types import Loss
from cardiac_jax.losses import adversarial, latent, overlap, pixelwise, position, regions, restoration
from tests import toys

K, B = 3, 4
SIZE = (4, 6)  # of nearly every example: each shape is compiled anew
ONES = np.ones(B, np.float32)
IGNORE = overlap.IGNORE
ATOL = 1e-6  # 1 - Dice and the logarithm of a softmax are differences of float32 numbers of about 1


# ---------------------------------------------------------------- the battery


def scores(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
    """Values of a segmentation `[B, *shape, K]`; one pixel in ten is not annotated."""
    logits = 2 * rng.normal(size=(B, *shape, K)).astype(np.float32)
    label = rng.integers(0, K, (B, *shape)).astype(np.uint8)
    label[rng.uniform(size=label.shape) < 0.1] = IGNORE
    exponentials = np.exp(logits)
    probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    return {"logits": logits, "probabilities": probabilities, "label": label, "where": ONES}


def extreme_scores() -> dict[str, dict[str, Any]]:
    """Certain and right, certain and wrong, nothing annotated, one class missing, all alike."""
    label = np.random.default_rng(0).integers(0, K, (B, *SIZE)).astype(np.uint8)
    one_hot = np.eye(K, dtype=np.float32)
    right, wrong = one_hot[label], one_hot[(label + 1) % K]
    base = {"where": ONES, "label": label}
    return {
        "right": {**base, "logits": np.float32(1e4) * right, "probabilities": right},
        "wrong": {**base, "logits": np.float32(1e4) * wrong, "probabilities": wrong},
        "ignored": {
            **base,
            "logits": np.float32(1e4) * wrong,
            "probabilities": wrong,
            "label": np.full_like(label, IGNORE),
        },
        "one class": {**base, "logits": np.float32(1e4) * right, "probabilities": right, "label": np.zeros_like(label)},
        "undecided": {**base, "logits": np.zeros_like(right), "probabilities": np.full_like(right, 1 / K)},
    }


def pairs(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
    """Two arrays to compare, `[B, *shape, K]`."""
    prediction, target = rng.normal(size=(2, B, *shape, K)).astype(np.float32)
    return {"prediction": prediction, "target": target, "where": ONES}


def extreme_pairs() -> dict[str, dict[str, Any]]:
    zeros = np.zeros((B, *SIZE, K), np.float32)
    far = np.full_like(zeros, 1e6)
    return {
        "equal": {"prediction": zeros, "target": zeros, "where": ONES},
        "far": {"prediction": far, "target": -far, "where": ONES},
        "dropped": {"prediction": far, "target": zeros, "where": 0 * ONES},
    }


def verdicts(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
    """One number per example for each name."""
    return {name: rng.normal(size=B).astype(np.float32) for name in ("real", "fake")} | {"where": ONES}


def extreme_verdicts() -> dict[str, dict[str, Any]]:
    cases = {"fooled": (-1e4, 1e4), "certain": (1e4, -1e4), "undecided": (0.0, 0.0)}
    return {name: {"real": real * ONES, "fake": fake * ONES, "where": ONES} for name, (real, fake) in cases.items()}


def positions(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
    return {name: rng.uniform(size=B).astype(np.float32) for name in ("prediction", "target")}


def extreme_positions() -> dict[str, dict[str, Any]]:
    return {
        name: {"prediction": a * ONES, "target": b * ONES}
        for name, (a, b) in {"equal": (1.0, 1.0), "far": (0.0, 1.0)}.items()
    }


class Row(NamedTuple):
    """A loss of named values, how to draw values for it, and the values at the ends of their ranges."""

    loss: Loss
    draw: Callable[[np.random.Generator, tuple[int, ...]], dict[str, Any]]
    extremes: Callable[[], dict[str, dict[str, Any]]]
    pools: bool = False  # over the batch
    drops: bool = False  # examples whose `where` is 0


def segmenting(fn: Callable[..., Any], score: str, **more: str) -> Row:
    reads = {score: score, "label": "label", **more}
    return Row(term(fn, **reads), scores, extreme_scores, drops="where" in reads)


def comparing(fn: Callable[..., Any]) -> Row:
    return Row(term(fn, prediction="prediction", target="target", where="where"), pairs, extreme_pairs, drops=True)


def judging(fn: Callable[..., Any], **reads: str) -> Row:
    return Row(term(fn, **reads, where="where"), verdicts, extreme_verdicts, drops=True)


def balanced(logits: Any, label: Any) -> Any:
    """`balanced_cross_entropy` of every class as a mask of its own."""
    return pixelwise.balanced_cross_entropy(logits, overlap.one_hot(label, K), label != IGNORE, 0.6)


WEIGHTS = (0.5, 1.0, 2.0)
ROWS: dict[str, tuple[Row, ...]] = {
    "overlap.dice_loss": (segmenting(overlap.dice_loss, "probabilities"),),
    "overlap.batch_dice_loss": (
        Row(overlap.batch_dice_loss("probabilities", "label"), scores, extreme_scores, pools=True),
    ),
    "pixelwise.cross_entropy": (
        segmenting(pixelwise.cross_entropy, "logits"),
        segmenting(lambda **kw: pixelwise.cross_entropy(**kw, class_weights=WEIGHTS, gamma=0.3), "logits"),
        segmenting(lambda **kw: pixelwise.cross_entropy(**kw, gamma=2.0), "logits"),
    ),
    "pixelwise.masked_cross_entropy": (segmenting(pixelwise.masked_cross_entropy, "logits", where="where"),),
    "pixelwise.balanced_cross_entropy": (segmenting(balanced, "logits"),),
    "pixelwise.exponential_logarithmic": (
        Row(pixelwise.exponential_logarithmic(WEIGHTS), scores, extreme_scores, pools=True),
        Row(
            pixelwise.exponential_logarithmic(WEIGHTS, gamma_dice=1.0, gamma_cross=1.0),
            scores,
            extreme_scores,
            pools=True,
        ),
    ),
    "regions.region_loss": (Row(regions.region_loss([(0, 1), (2,), (1,)], 0.6), scores, extreme_scores),),
    "latent.code_distance": (comparing(latent.code_distance),),
    "latent.sum_squared_error": (comparing(latent.sum_squared_error),),
    "latent.relative_code_distance": (
        Row(latent.relative_code_distance("prediction", "target"), pairs, extreme_pairs, pools=True),
    ),
    "restoration.smooth_l1": (
        Row(term(restoration.smooth_l1, prediction="prediction", target="target"), pairs, extreme_pairs),
    ),
    "position.position_error": (
        Row(
            term(position.position_error, prediction="prediction", target="target"),
            positions,
            extreme_positions,
        ),
    ),
    "adversarial.generator_loss": (
        Row(term(adversarial.generator_loss, fake="fake", where="where"), verdicts, extreme_verdicts),
    ),
    "adversarial.discriminator_loss": (
        Row(
            term(adversarial.discriminator_loss, real="real", fake="fake", where="where"),
            verdicts,
            extreme_verdicts,
        ),
    ),
}
PARTS = {  # public, yet no loss
    "overlap.one_hot": "test_one_hot",
    "overlap.overlap": "test_overlap",
    "overlap.mask_overlap": "test_mask_overlap",
    "overlap.dice": "test_dice",
    "overlap.tversky": "test_tversky",
    "pixelwise.log_likelihood": "test_log_likelihood",
    "pixelwise.class_weights": "test_class_weights",
}

BATTERY = [pytest.param(row, id=f"{name}-{i}") for name, rows in ROWS.items() for i, row in enumerate(rows)]
SPATIAL = [param for param in BATTERY if param.values[0].draw in (scores, pairs)]
SEGMENTING = [param for param in BATTERY if param.values[0].draw is scores]
DROPPING = [param for param in BATTERY if param.values[0].drops]


@functools.cache
def compiled(loss: Loss) -> tuple[Any, Any]:
    """The loss `[B]` of values, and it with the gradient of its sum to those of floats, given apart; compiled."""

    def one(values):
        return loss.apply(loss.init(), values)[0]

    def whole(floats, others):
        value = one({**others, **floats})
        return jnp.sum(value), value

    return tuple(jax.jit(f, compiler_options=toys.QUICK) for f in (one, jax.value_and_grad(whole, has_aux=True)))


def run(row: Row, values: dict[str, Any]) -> np.ndarray:
    """The loss `[B]` of `values`; examples are all real unless `values` says otherwise."""
    if any(np.shape(x)[1:3] == SIZE for x in values.values()) or row.draw not in (scores, pairs):
        return differentiated(row, values)[0]
    return np.asarray(compiled(row.loss)[0]({"mask": ONES, **values}))


def gradient(row: Row, values: dict[str, Any]) -> dict[str, Any]:
    """Gradient of the sum over examples with respect to every value of floats but `where`."""
    return differentiated(row, values)[1]


def differentiated(row: Row, values: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """What `run` and `gradient` give, by one program."""
    floats = {name: x for name, x in values.items() if name not in ("where", "mask") and x.dtype == np.float32}
    others = {name: x for name, x in {"mask": ONES, **values}.items() if name not in floats}
    (_, value), slopes = jax.device_get(compiled(row.loss)[1](floats, others))
    return value, slopes


def test_every_public_function_has_a_row():
    public = set()
    for info in pkgutil.iter_modules(losses.__path__):
        module = importlib.import_module(f"{losses.__name__}.{info.name}")
        public |= {
            f"{info.name}.{name}"
            for name, thing in vars(module).items()
            if inspect.isfunction(thing) and thing.__module__ == module.__name__ and not name.startswith("_")
        }
    assert public == set(ROWS) | set(PARTS)
    assert not set(ROWS) & set(PARTS)
    for name, test in PARTS.items():
        assert callable(globals().get(test)), f"{name} has no test"


@pytest.mark.parametrize("row", BATTERY)
def test_is_one_finite_number_per_example_and_moves(row):
    values = row.draw(np.random.default_rng(1), SIZE)
    value = run(row, values)
    assert value.shape == (B,)
    assert value.dtype == np.float32
    assert np.isfinite(value).all()
    slopes = gradient(row, values)
    assert any(np.any(np.asarray(slope) != 0) for slope in slopes.values())


@pytest.mark.parametrize("row", BATTERY)
def test_is_finite_at_the_extremes_and_so_is_its_gradient(row):
    for name, values in row.extremes().items():
        assert np.isfinite(run(row, values)).all(), name
        for read, slope in gradient(row, values).items():
            assert np.isfinite(slope).all(), (name, read)


@pytest.mark.parametrize("row", BATTERY)
def test_gradient_is_the_slope(row):
    values = row.draw(np.random.default_rng(2), SIZE)
    rng = np.random.default_rng(3)
    slopes = gradient(row, values)
    direction = {name: rng.normal(size=x.shape).astype(np.float32) for name, x in slopes.items()}
    step = 1e-3

    def along(t: float) -> float:
        moved = {name: values[name] + np.float32(t) * d for name, d in direction.items()}
        return float(run(row, {**values, **moved}).astype(np.float64).sum())

    expected = (along(step) - along(-step)) / (2 * step)
    actual = sum(float(np.vdot(slopes[name], d)) for name, d in direction.items())
    np.testing.assert_allclose(actual, expected, rtol=2e-2, atol=5e-3)


@pytest.mark.parametrize("row", BATTERY)
def test_examples_in_another_order_are_the_same_examples(row):
    values = row.draw(np.random.default_rng(4), SIZE)
    order = np.array([2, 0, 3, 1])
    permuted = {name: x[order] for name, x in values.items()}
    np.testing.assert_allclose(run(row, permuted), run(row, values)[order], rtol=1e-5, atol=ATOL)


@pytest.mark.parametrize("row", BATTERY)
def test_only_a_pooled_loss_depends_on_the_other_examples(row):
    values, others = (row.draw(np.random.default_rng(seed), SIZE) for seed in (5, 6))
    mixed = {name: np.concatenate([x[:1], others[name][1:]]) for name, x in values.items()}
    assert (run(row, mixed)[0] != run(row, values)[0]) == row.pools


@pytest.mark.parametrize("row", BATTERY)
def test_a_padded_example_changes_nothing(row):
    values, others = (row.draw(np.random.default_rng(seed), SIZE) for seed in (7, 8))
    mask = np.array([1.0, 1.0, 1.0, 0.0], np.float32)
    mixed = {name: np.concatenate([x[:3], others[name][3:]]) for name, x in values.items()}
    got, want = (run(row, {**given, "mask": mask})[:3] for given in (mixed, values))
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=ATOL)


@pytest.mark.parametrize("row", SPATIAL)
def test_rank_and_order_of_pixels_do_not_matter(row):
    values = row.draw(np.random.default_rng(9), SIZE)
    flat = {name: x.reshape(B, 24, *x.shape[3:]) if x.ndim > 1 else x for name, x in values.items()}
    volume = {name: x.reshape(B, 2, 3, 4, *x.shape[2:]) if x.ndim > 1 else x for name, x in flat.items()}
    order = np.random.default_rng(10).permutation(24)
    shuffled = {name: x[:, order] if x.ndim > 1 else x for name, x in flat.items()}
    for other in (flat, volume, shuffled):
        np.testing.assert_allclose(run(row, other), run(row, values), rtol=1e-5, atol=ATOL)


@pytest.mark.parametrize("row", SEGMENTING)
def test_an_ignored_pixel_takes_no_part(row):
    values = row.draw(np.random.default_rng(11), SIZE)
    values["label"][:, :1] = IGNORE
    others = row.draw(np.random.default_rng(12), SIZE)
    changed = {
        name: np.concatenate([others[name][:, :1], values[name][:, 1:]], axis=1) for name in ("logits", "probabilities")
    }
    cropped = {name: x[:, 1:] if x.ndim > 1 else x for name, x in values.items()}
    np.testing.assert_array_equal(run(row, {**values, **changed}), run(row, values))
    np.testing.assert_allclose(run(row, cropped), run(row, values), rtol=1e-6, atol=ATOL)
    ignored = values["label"] == IGNORE
    for slope in gradient(row, values).values():
        assert not np.asarray(slope)[ignored].any()


@pytest.mark.parametrize("row", DROPPING)
def test_where_drops_an_example(row):
    values = row.draw(np.random.default_rng(13), SIZE)
    where = np.array([1.0, 0.0, 1.0, 0.0], np.float32)
    np.testing.assert_allclose(run(row, {**values, "where": where}), where * run(row, values), rtol=1e-6)
    for slope in gradient(row, {**values, "where": where}).values():
        assert not np.asarray(slope)[1::2].any()


# ---------------------------------------------------------------- the parts

P = jnp.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]])
LABEL = jnp.array([0, 1, 1, IGNORE], jnp.uint8)
# over the three annotated pixels, by class
BOTH, PREDICTED, TRUE = [0.5, 1.0, 0.0], [0.875, 1.25, 0.875], [1.0, 2.0, 0.0]


def test_one_hot():
    np.testing.assert_array_equal(overlap.one_hot(LABEL, 3), [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]])


def test_overlap():
    counts = overlap.overlap(P, LABEL)
    np.testing.assert_allclose(counts, [BOTH, PREDICTED, TRUE])
    with pytest.raises(AssertionError, match="rank"):
        overlap.overlap(P[None], LABEL)


def test_mask_overlap():
    """Two masks that overlap; the third pixel is not annotated."""
    found = jnp.array([[0.5, 0.25], [1.0, 0.0], [1.0, 1.0]])
    truth = jnp.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    counts = overlap.mask_overlap(found, truth, jnp.array([True, True, False]))
    np.testing.assert_allclose(counts, [[1.5, 0.25], [1.5, 0.25], [2.0, 1.0]])
    with pytest.raises(AssertionError, match="rank"):
        overlap.mask_overlap(found, truth, jnp.ones((3, 2), bool))


def test_dice():
    counts = overlap.Overlap(*(jnp.array(x) for x in (BOTH, PREDICTED, TRUE)))
    np.testing.assert_allclose(overlap.dice(counts), [2 / 2.875, 3 / 4.25, 1 / 1.875], rtol=1e-6)
    np.testing.assert_allclose(overlap.dice(counts, 0.0), [1 / 1.875, 2 / 3.25, 0], rtol=1e-6)
    nothing = overlap.Overlap(*(jnp.zeros(3),) * 3)
    np.testing.assert_array_equal(overlap.dice(nothing), np.ones(3))


def test_tversky():
    counts = overlap.Overlap(jnp.array([6.0]), jnp.array([8.0]), jnp.array([9.0]))  # TP 6, FP 2, FN 3
    np.testing.assert_allclose(overlap.tversky(counts, 0.6, 0.0), [6 / (6 + 0.6 * 2 + 0.4 * 3)], rtol=1e-6)
    np.testing.assert_allclose(overlap.tversky(counts, 1.0, 0.0), [6 / 8], rtol=1e-6)
    np.testing.assert_allclose(overlap.tversky(counts, 0.0, 0.0), [6 / 9], rtol=1e-6)
    np.testing.assert_allclose(overlap.tversky(counts, 0.6, 1.0), [7 / (7 + 0.6 * 2 + 0.4 * 3)], rtol=1e-6)


def test_log_likelihood():
    nll, annotated = pixelwise.log_likelihood(jnp.log(P[:3]), LABEL[:3])
    np.testing.assert_allclose(nll, -np.log([0.5, 0.75, 0.25]), rtol=1e-6, atol=ATOL)
    assert annotated.all()
    nll, annotated = pixelwise.log_likelihood(jnp.full((4, 3), 7.0), LABEL)
    np.testing.assert_allclose(nll, [np.log(3)] * 3 + [0], rtol=1e-6)
    np.testing.assert_array_equal(annotated, [True, True, True, False])
    with pytest.raises(AssertionError, match="rank"):
        pixelwise.log_likelihood(P[None], LABEL)


def test_class_weights():
    np.testing.assert_allclose(pixelwise.class_weights([900, 75, 25]), np.sqrt([1000 / 900, 1000 / 75, 40]))
    np.testing.assert_allclose(pixelwise.class_weights([100, 0]), [1.0, 10.0])
