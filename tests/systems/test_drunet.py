"""The 3D DR-UNet's system: every variant trains what it should, and predicts on the whole volume."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax import systems
from cardiac_jax.core.step import init_state, params_of, predict_step, train_step
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.train import devices
from cardiac_jax.train.devices import AXIS
from experiments import drunet
from tests import toys

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


def batch(classes: int = 4) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    label = rng.integers(0, classes, (2, *SIZE)).astype(np.uint8)
    image = (label + rng.normal(0, 0.1, label.shape)).astype(np.float32)[..., None]
    flags = {name: jnp.ones(2) for name in ("mask", "fully_annotated")}
    return {"image": jnp.asarray(image), "label": jnp.asarray(label), "index": jnp.arange(2), **flags}


def moved(before, after) -> set[str]:
    """Networks whose parameters differ."""
    same = jax.tree.map(lambda a, b: bool((a == b).all()), before, after)
    return {name for name, held in same.items() if not all(jax.tree.leaves(held))}


def under(step, *args):
    """A step under the device axis that BatchNorm names."""
    return jax.tree.map(lambda x: x[0], jax.vmap(lambda _: step(*args), axis_name=AXIS)(jnp.zeros(1)))


@pytest.mark.parametrize("variant", (*drunet.SINGLE, *drunet.CASCADES))
def test_each_stage_trains_its_own_networks_and_the_prediction_covers_the_volume(variant):
    system = build(variant)
    state = init_state(system, 0)
    expected = {
        "multistage": [{"localiser"}, {"segmenter"}],
        "endtoend": [{"localiser", "segmenter"}],
    }.get(variant, [{"segmenter"}])
    start = 0
    for stage, trained in zip(system.stages, expected, strict=True):
        assert {name for phase in stage.phases for name in phase.trains} == trained
        before = {name: held["params"] for name, held in state.variables.items()}
        state, metrics = jax.jit(lambda s, stage=stage, start=start: under(_step(stage, start), s))(state)
        assert all(np.isfinite(float(value)) for value in metrics.values())
        assert moved(before, {name: held["params"] for name, held in state.variables.items()}) == trained
        start += stage.steps
    found = under(lambda s: predict_step(system, s.variables, batch()["image"]), state)["probabilities"]
    assert found.shape == (2, *SIZE, 4)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)


def _step(stage, start):
    return lambda state: train_step(stage, state, batch(), axis_name=AXIS, start=start)


def test_two_classes_take_one_channel_and_a_sigmoid():
    system = build("drunet", ("background", "LA"))
    state = init_state(system, 0)
    assert state.variables["segmenter"]["params"]["output"]["kernel"].shape[-1] == 1
    found = under(lambda s: predict_step(system, s.variables, batch(2)["image"]), state)
    np.testing.assert_array_equal(found["found"], 1)  # nothing to localise
    found = found["probabilities"]
    assert found.shape[-1] == 2
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)


def test_a_map_without_mass_is_said_and_the_middle_of_the_volume_is_segmented():
    system = build("multistage")
    variables = dict(init_state(system, 0).variables)
    held = variables["localiser"]
    silent = {**held["params"], "output": jax.tree.map(jnp.zeros_like, held["params"]["output"])}
    variables["localiser"] = {**held, "params": silent}  # no gradient reaches the features
    heard: list[int] = []
    image = np.asarray(batch()["image"])
    found = devices.compile_predict(system, heard.append)(variables, image)["probabilities"]
    assert heard == [2]
    inside = found[..., 0] < 1
    rows, columns = np.flatnonzero(inside.any((0, 1, 3))), np.flatnonzero(inside.any((0, 1, 2)))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (4, 11, 4, 11)  # a box of 8 in the middle of 16
    heard.clear()
    devices.compile_predict(system, heard.append)(init_state(system, 0).variables, image)
    assert heard == []


def test_the_joint_training_sends_gradient_through_the_features_to_the_localiser():
    system = build("endtoend", localiser__weight=0.0)
    state, (stage,) = init_state(system, 0), system.stages
    before = params_of(state.variables, stage.phases[0])
    after, _ = jax.jit(lambda s: under(_step(stage, 0), s))(state)
    assert "localiser" in moved(before, params_of(after.variables, stage.phases[0]))


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
LOGS = {"shape_prior": "shape", "code_prior": "code"}  # the others are logged under their own names


def stepped(stage, state, start: int = 0):
    """A step of a stage, compiled quickly: the state after, metrics, the networks that moved."""
    run = jax.jit(lambda s: under(_step(stage, start), s), compiler_options=toys.QUICK)
    before = {name: held["params"] for name, held in state.variables.items()}
    state, metrics = run(state)
    metrics = {name: float(value) for name, value in metrics.items()}
    assert all(np.isfinite(value) for value in metrics.values())
    return state, metrics, moved(before, {name: held["params"] for name, held in state.variables.items()})


def test_loss_transforms_train_on_volumes():
    system = build("drunet", **TERMS, prior__steps=1, prior__code=4, prior__stride=1)
    assert [stage.name for stage in system.stages] == ["prior", "segmentation"]
    prior, segmentation = system.stages
    assert {net.name for net in system.nets} == {"segmenter", "autoencoder", "discriminator"}
    state, metrics, trained = stepped(prior, init_state(system, 0))
    assert trained == {"autoencoder"}
    assert metrics["reconstruction_ce"] > 0 and metrics["reconstruction_dice"] > 0
    state = state.replace(variables=toys.alive(state.variables))
    state, metrics, trained = stepped(segmentation, state, 1)
    assert trained == {"segmenter", "discriminator"}
    added = {name: metrics[f"segment/{LOGS.get(name, name)}"] for name in WEIGHTS}
    assert all(value > 0 for value in added.values()), added
    plain = build("drunet")
    _, alone, _ = stepped(plain.stages[0], init_state(plain, 0), 0)
    np.testing.assert_allclose(metrics["segment/dice"], alone["dice"], rtol=1e-4)
    expected = alone["loss"] + sum(weight * added[name] for name, weight in WEIGHTS.items())
    np.testing.assert_allclose(metrics["segment/loss"], expected, rtol=1e-4)
    assert expected > alone["loss"] * 1.001


@pytest.mark.parametrize("variant", ["unet3d", *drunet.CASCADES])
def test_loss_transforms_fit_every_variant(variant):
    """Traced, not run: what a step returns is shaped like what it was given, and every term is logged."""
    system = build(variant, **TERMS, prior__code=4)
    state = jax.eval_shape(lambda: init_state(system, 0))
    for stage in system.stages:
        after, metrics = jax.eval_shape(lambda s, stage=stage: under(_step(stage, 0), s), state)
        assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert {f"segment/{LOGS.get(name, name)}" for name in WEIGHTS} < set(metrics)
    size = {"multistage": (2, 8, 8), "endtoend": (2, 8, 8)}.get(variant, SIZE)
    assert {net.name: net.inputs for net in system.nets}["autoencoder"] == ((*size, 4),)


def test_a_volume_has_no_position():
    with pytest.raises(InputError, match=r"^transforms\.position: regresses the position of a slice"):
        build("drunet", transforms__position=0.1)
