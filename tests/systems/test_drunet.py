"""The 3D DR-UNet's system: every variant trains what it should, and predicts on the whole volume."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax import systems
from cardiac_jax.core.loss import term, weighted
from cardiac_jax.core.passes import chain
from cardiac_jax.core.step import init_state, predict_step, train_step
from cardiac_jax.core.types import Stage, Values
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.train import devices
from cardiac_jax.train.devices import AXIS
from cardiac_jax.transforms import registry
from cardiac_jax.transforms.registry import Term
from cardiac_jax.transforms.terms import add
from experiments import drunet
from tests import steps, toys

pytestmark = pytest.mark.usefixtures("small_nets")
SIZE = (2, 16, 16)
TINY = {
    "model.filters": 2,
    "localiser.filters": 2,
    "localiser.window": (1, 2, 2),
    "localiser.box": (2, 8, 8),
    "localiser.steps": 2,
    "data.size": SIZE,
    "train.steps": 2,
}


def build(variant: str, classes: tuple[str, ...] = ("background", "RV", "Myo", "LV"), **keys):
    held = drunet.get_config(f"variant={variant},preset=smoke")
    with held.unlocked():
        held.update_from_flattened_dict({**TINY, **{k.replace("__", "."): v for k, v in keys.items()}})
    return systems.build_system(held, spec(classes, tuple(held.data.size)))


def spec(classes: tuple[str, ...], size: tuple[int, ...]) -> DataSpec:
    raw = tuple(range(len(classes)))
    return DataSpec("acdc", classes, raw, ("cine",), "base_first", (0.0, 1.5, 1.5), size, (9,) * len(raw))


def batch(classes: int = 4) -> Values:
    return steps.batch(np.random.default_rng(0).integers(0, classes, (2, *SIZE)).astype(np.uint8))


def step_of(stage: Stage, start: int = 0):
    return partial(train_step, stage, axis_name=AXIS, start=start)


@pytest.mark.parametrize("variant", (*drunet.SINGLE, *drunet.CASCADES))
def test_each_stage_trains_its_own_networks_and_the_prediction_covers_the_volume(variant):
    system = build(variant)
    state = steps.initial(system)
    expected = {
        "multistage": [{"localiser"}, {"segmenter"}],
        "endtoend": [{"localiser", "segmenter"}],
    }.get(variant, [{"segmenter"}])
    start = 0
    for stage, trained in zip(system.stages, expected, strict=True):
        assert {name for phase in stage.phases for name in phase.trains} == trained
        after, metrics = steps.under(step_of(stage, start), state, batch())
        assert all(np.isfinite(float(value)) for value in metrics.values())
        assert steps.moved(state, after) == trained
        state, start = after, start + stage.steps
    found = steps.under(partial(predict_step, system), state.variables, batch()["image"])["probabilities"]
    assert found.shape == (2, *SIZE, 4)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)


def test_two_classes_take_one_channel_and_a_sigmoid():
    system = build("drunet", ("background", "LA"))
    state = steps.initial(system)
    assert state.variables["segmenter"]["params"]["output"]["kernel"].shape[-1] == 1
    found = steps.under(partial(predict_step, system), state.variables, batch(2)["image"])
    np.testing.assert_array_equal(found["found"], 1)  # nothing to localise
    found = found["probabilities"]
    assert found.shape[-1] == 2
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)


def test_a_map_without_mass_is_said_and_the_middle_of_the_volume_is_segmented():
    system = build("multistage")
    whole = init_state(system, 0).variables
    variables, held = dict(whole), whole["localiser"]
    silent = {**held["params"], "output": jax.tree.map(jnp.zeros_like, held["params"]["output"])}
    variables["localiser"] = {**held, "params": silent}  # no gradient reaches the features
    heard: list[int] = []
    image = np.asarray(batch()["image"])
    predict = devices.compile_predict(system, heard.append)
    found = predict(variables, image)["probabilities"]
    assert heard == [2]
    inside = found[..., 0] < 1
    rows, columns = np.flatnonzero(inside.any((0, 1, 3))), np.flatnonzero(inside.any((0, 1, 2)))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (4, 11, 4, 11)  # a box of 8 in the middle of 16
    heard.clear()
    predict(whole, image)
    assert heard == []


def test_the_joint_training_sends_gradient_through_the_features_to_the_localiser():
    system = build("endtoend", localiser__weight=0.0)
    state, (stage,) = steps.initial(system), system.stages
    after, _ = steps.under(step_of(stage), state, batch())
    assert "localiser" in steps.moved(state, after)


def test_the_localiser_is_small():
    config = drunet.get_config("variant=multistage,preset=paper")
    with config.unlocked():
        config.data.size, config.localiser.box = (16, 64, 64), (16, 32, 32)
    system = systems.build_system(config, spec(tuple("abcd"), (16, 64, 64)))
    state = jax.eval_shape(lambda: init_state(system, 0))
    assert sum(leaf.size for leaf in jax.tree.leaves(state.variables["localiser"]["params"])) < 1_000_000


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="variant"):
        build("maskrcnn")
    with pytest.raises(InputError, match=r"data\.size"):
        build("drunet", data__size=(16, 16))
    with pytest.raises(InputError, match=r"localiser\.window"):
        build("multistage", localiser__window=(1, 3, 3))


# --- loss transforms

WEIGHTS = {"shape_prior": 1e-3, "code_prior": 2e-3, "adversarial": 0.3, "weight_decay": 1e-2}
TERMS = {f"transforms__{name}": weight for name, weight in WEIGHTS.items()}
TERMS |= {"prior__steps": 1, "prior__code": 4, "prior__features": (4,), "prior__stride": 1}
LOGS = {"shape_prior": "shape", "code_prior": "code"}  # the others are logged under their own names


def stepped(stage, state, start: int = 0):
    """A step of a stage: the state after, metrics, the networks that moved."""
    after, metrics = steps.under(step_of(stage, start), state, batch())
    metrics = {name: float(value) for name, value in metrics.items()}
    assert all(np.isfinite(value) for value in metrics.values())
    return after, metrics, steps.moved(state, after)


def test_loss_transforms_train_on_volumes():
    system = build("drunet", **TERMS)
    assert [stage.name for stage in system.stages] == ["prior", "segmentation"]
    prior, segmentation = system.stages
    assert {net.name: net.inputs for net in system.nets}["autoencoder"] == ((*SIZE, 4),)
    assert {net.name for net in system.nets} == {"segmenter", "autoencoder", "discriminator"}
    first = steps.initial(system)
    state, metrics, trained = stepped(prior, first)
    assert trained == {"autoencoder"}
    assert metrics["reconstruction_ce"] > 0 and metrics["reconstruction_dice"] > 0
    begun = state.replace(variables=toys.alive(state.variables))
    state, metrics, trained = stepped(segmentation, begun, 1)
    assert trained == {"segmenter", "discriminator"}
    assert steps.shapes_of(state) == steps.shapes_of(first)
    added = {name: metrics[f"segment/{LOGS.get(name, name)}"] for name in WEIGHTS}
    assert all(value > 0 for value in added.values()), added
    plain = build("drunet")
    before = steps.initial(plain)
    before = before.replace(variables={"segmenter": begun.variables["segmenter"]})
    _, alone, _ = stepped(plain.stages[0], before, 0)
    np.testing.assert_allclose(metrics["segment/dice"], alone["dice"], rtol=1e-4)
    expected = alone["loss"] + sum(weight * added[name] for name, weight in WEIGHTS.items())
    np.testing.assert_allclose(metrics["segment/loss"], expected, rtol=1e-4)
    assert expected > alone["loss"] * 1.001


@pytest.mark.parametrize("variant", drunet.CASCADES)
def test_loss_transforms_fit_every_variant(variant):
    """Traced, not run: what a step returns is shaped like what it was given, and every term is logged.

    The variants of one network: the test above.
    """
    system = build(variant, **TERMS)
    state = jax.eval_shape(lambda: init_state(system, 0))
    for stage in system.stages:
        after, metrics = steps.shapes(step_of(stage), state, batch())
        assert after == steps.shapes_of(state)
    assert {f"segment/{LOGS.get(name, name)}" for name in WEIGHTS} < set(metrics)
    assert {net.name: net.inputs for net in system.nets}["autoencoder"] == ((2, 8, 8, 4),)


@pytest.mark.parametrize("variant", ["drunet", *drunet.CASCADES])
def test_a_term_reads_the_bottleneck_of_every_variant(variant, monkeypatch):
    def energy(weight, request):
        loss = weighted(term(lambda x: (x**2).mean(), x="bottleneck"), weight)
        assert request.bottleneck
        return Term(lambda objective: add(objective, chain(), loss, "energy"))

    monkeypatch.setitem(registry.OWN, "energy", energy)
    system = build(variant, terms=("energy=1e-3",))
    state = jax.eval_shape(lambda: init_state(system, 0))
    _, metrics = steps.shapes(step_of(system.stages[-1]), state, batch())
    assert any(name.endswith("energy") for name in metrics)


def test_a_volume_has_no_position():
    with pytest.raises(InputError, match=r"^transforms\.position: regresses the position of a slice"):
        build("drunet", transforms__position=0.1)
