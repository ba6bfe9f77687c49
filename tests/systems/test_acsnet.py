"""ACSNet's system: every stage trains its own network, the prediction covers the volume, scar lies within the wall."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax import systems
from cardiac_jax.anatomy.wall import WALL
from cardiac_jax.core.step import init_state, predict_step, train_step
from cardiac_jax.core.types import Stage, System, Values, Variables
from cardiac_jax.data.augment import Augment
from cardiac_jax.data.pipeline import Examples, batch_of
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.ops.intensity import scaled_to_region, unit_range
from cardiac_jax.systems import acsnet
from cardiac_jax.train.devices import AXIS
from cardiac_jax.transforms import cascade
from experiments.acsnet import get_config
from tests import rings, steps, toys

pytestmark = pytest.mark.usefixtures("small_nets")
SIZE = (2, 32, 32)
SCARRED = ("background", "RV", "Myo", "LV", "oedema", "scar")
PLAIN = ("background", "Myo", "LV")
TINY = {
    "model.filters": 1,
    "model.slices": 0,
    "model.box": (2, 16, 16),
    "localiser.filters": 1,
    "localiser.window": (1, 2, 2),
    "localiser.steps": 2,
    "data.size": SIZE,
    "prior.size": (16, 16),
    "prior.features": (2, 2, 2),
    "prior.code": 3,
    "prior.batch_size": 2,
    "prior.steps": 2,
    "prior.bank": 5,
    "prior.components": 2,  # there are four masks
    "train.steps": 2,
    "augmentation": False,
    **{f"prior.augment.{name}": 0.0 for name in Augment._fields if name.endswith("_p") and name != "rotation_p"},
}


def described(classes: tuple[str, ...] = SCARRED, **changes) -> DataSpec:
    held = {"sequences": ("LGE",), "spacing_mm": (0.0, 2.0, 2.0), "size": SIZE, "append_clahe": True, **changes}
    raw, frequency = tuple(range(len(classes))), (9,) * len(classes)
    return DataSpec("myops", classes, raw, slice_order="affine", frequency=frequency, **held)


def build(classes: tuple[str, ...] = SCARRED, changes: dict | None = None, **keys):
    config = get_config("data=myops,preset=smoke")
    with config.unlocked():
        config.update_from_flattened_dict({**TINY, **{k.replace("__", "."): v for k, v in keys.items()}})
    return systems.build_system(config, described(classes, **{"size": tuple(config.data.size), **(changes or {})}))


def examples(classes: tuple[str, ...]) -> Examples:
    """Two volumes of a ring about a pool; scar in it where there is such a class."""
    rng = np.random.default_rng(0)
    wall, pool = classes.index("Myo"), classes.index("LV")
    label = np.stack([rings.ring((32, 32), centre, 3, 6) for centre in ((14, 15), (17, 15), (16, 18), (15, 16))])
    label = np.select([label == 2, label == 3], [wall, pool], 0).astype(np.uint8).reshape(2, *SIZE)
    if "scar" in classes:
        label[:, :, :, 16:][label[:, :, :, 16:] == wall] = classes.index("scar")
    image = (label[..., None] + rng.normal(0, 0.1, (*label.shape, 2))).astype(np.float32)
    return Examples(
        {"image": image, "label": label, "fully_annotated": np.ones(2, np.float32), "real_case": np.ones(2)}
    )


def batch(held: Examples) -> dict[str, jax.Array]:
    arrays = batch_of(held, "", 0, 0, 2) | {"mask": np.ones(2, np.float32), "index": np.arange(2)}
    return jax.tree.map(jnp.asarray, arrays)


def prepared(stage: Stage, variables: Variables, values: Values) -> Values:
    """What the phases of a stage are given."""
    run = functools.partial(stage.stream.prepare, train=frozenset())
    keyed = jax.jit(lambda v, x: run(v, x, key=jax.random.key(0))[0], compiler_options=toys.QUICK)
    return keyed(variables, values)


@functools.cache
def trained():
    """With scar: the state after a step of every stage, and of each which networks moved, which leaves stayed, logs."""
    system, taken, held = build(SCARRED), [], examples(SCARRED)
    state = steps.initial(system)
    for stage in system.stages:
        own = Examples(stage.stream.of(held.arrays)) if stage.stream.of else held
        after, metrics = steps.under(functools.partial(train_step, stage, axis_name=AXIS), state, batch(own))
        stayed = jax.tree.map(np.array_equal, state.variables, after.variables)
        assert steps.shapes_of(after) == steps.shapes_of(state)
        taken.append(({name for name, net in stayed.items() if not all(jax.tree.leaves(net))}, stayed, metrics))
        state = after
    return state, taken


@functools.cache
def predicted(classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    system = build(classes)
    state = trained()[0] if classes == SCARRED else steps.initial(system)
    image = jnp.asarray(examples(classes).arrays["image"])
    found = steps.under(lambda variables, image: predict_step(system, variables, image), state.variables, image)
    return np.asarray(found["probabilities"]), np.asarray(found["found"])


TRAINED = {"localisation": "localiser", "prior": "autoencoder", "segmentation": "segmenter"}


def test_each_stage_trains_its_own_network_only():
    state, taken = trained()
    for (moved, stayed, metrics), name in zip(taken, TRAINED.values(), strict=True):
        assert moved == {name}
        assert all(jax.tree.leaves(stayed["autoencoder"]["bank"])), "no gradient writes the bank"
        assert all(np.isfinite(float(value)) for value in metrics.values())
    assert int(state.step) == 3


def test_the_stages_and_their_steps_keep_the_state_as_it_is_made():
    """Traced, not run: structure, shapes and types of what a step returns are those of what it was given.

    With scar, `trained` takes the steps.
    """
    system, held = build(PLAIN), examples(PLAIN)
    assert {stage.name: stage.phases[0].trains for stage in system.stages} == {k: (v,) for k, v in TRAINED.items()}
    assert [stage.fit is not None for stage in system.stages] == [False, True, False]
    state = jax.eval_shape(lambda: init_state(system, 0))
    for stage in system.stages:
        own = Examples(stage.stream.of(held.arrays)) if stage.stream.of else held
        after, _ = steps.shapes(functools.partial(train_step, stage, axis_name=AXIS), state, batch(own))
        assert after == steps.shapes_of(state)


@pytest.mark.parametrize("classes", [SCARRED, PLAIN])
def test_the_prediction_covers_the_volume(classes):
    probabilities, found = predicted(classes)
    assert probabilities.shape == (2, *SIZE, len(classes)) and found.shape == (2,)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    assert (probabilities >= 0).all()
    assert ((probabilities[..., 0] == 1).sum((1, 2, 3)) >= 2 * (32 * 32 - 16 * 16)).all(), "outside the box"
    assert probabilities[..., acsnet.classes_of(classes, WALL.outputs[0])].any()
    for name in {"RV", "oedema"} & set(classes):
        assert not probabilities[..., classes.index(name)].any()


def test_what_is_drawn():
    """A wall of 0.9 about a pool; enhancement said of half of the image; the pool of the region's other speck none."""
    ring = rings.ring((24, 24), (12, 12), 4, 7)
    wall = np.where(ring == 2, 0.9, 0.2)
    logits = np.stack([np.log(wall / (1 - wall)), np.where(np.arange(24) > 12, 3.0, -3.0)[None].repeat(24, 0)], -1)
    region = (ring > 0) | (np.arange(24) == 0)[:, None]
    given = jnp.asarray(logits, jnp.float32)[None, None], jnp.asarray(region, jnp.float32)[None, None]
    found = np.asarray(jax.jit(acsnet._drawn, static_argnums=(2, 3))(*given, WALL, described()))[0, 0]
    right = (np.arange(24) > 12)[None]
    drawn = np.select([(ring == 2) & right, ring == 2, ring == 3], [5, 2, 3], 0)
    np.testing.assert_array_equal(found.argmax(-1), drawn)
    np.testing.assert_allclose(found.max(-1), np.where(ring == 2, 0.9, 0.8), rtol=1e-5)
    np.testing.assert_allclose(found[..., 5], wall * right, atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    assert not found[..., [1, 4]].any()
    drawn = jax.jit(functools.partial(acsnet._drawn, kind=WALL, data=described(PLAIN)))
    plain = np.asarray(drawn(given[0][..., :1], given[1]))[0, 0]
    np.testing.assert_array_equal(plain.argmax(-1), np.select([ring == 2, ring == 3], [1, 2], 0))


def test_intensities_by_the_region_found():
    """Box 0 to 100, region 10, 20, 30: median 20, halved range [0.25, 0.75] of what is divided by 40."""
    values = np.array([0, 10, 20, 30, 40, 100.0]) - 7
    image = jnp.asarray(np.stack([values, values * 0], -1).reshape(1, 1, 2, 3, 2), jnp.float32)
    region = jnp.asarray([[[[0, 1, 1], [1, 0, 0]]]], jnp.float32)
    found = scaled_to_region(image, region)
    np.testing.assert_allclose(found.reshape(-1), [0, 0, 0.5, 1, 1, 1], atol=1e-6)
    nowhere = scaled_to_region(image, region * 0)
    np.testing.assert_allclose(nowhere.reshape(-1), [0, 0.1, 0.2, 0.3, 0.4, 1], atol=1e-6)
    assert not np.asarray(scaled_to_region(image * 0, region)).any()


def test_every_slice_of_the_coarse_image_from_0_to_1():
    low = jnp.asarray(np.array([[3.0, 5, 4, 7], [2, 2, 2, 2]]).reshape(1, 2, 2, 2, 1), jnp.float32)
    found = unit_range(low)
    np.testing.assert_allclose(found.reshape(2, 4), [[0, 0.5, 0.25, 1], [0, 0, 0, 0]])


def test_padding_stays_padding_under_augmentation():
    """Noise and brightness reach the padding too, but it takes no part in statistics, and no box is put about it."""
    system = build(PLAIN, augmentation=True, augment__noise_p=1.0, augment__brightness_p=1.0)
    held = examples(PLAIN).arrays
    image = held["image"] * np.array([1, 0], np.float32).reshape(2, 1, 1, 1)
    values = {"image": jnp.asarray(image), "label": jnp.asarray(held["label"]), "index": jnp.arange(2)}
    found = prepared(system.stages[0], {}, values)
    assert (np.asarray(found["image"])[:, 1] != 0).any()
    np.testing.assert_array_equal(found["real"], [[1, 0], [1, 0]])


def test_a_step_sees_as_many_slices_of_each_volume_as_asked_for():
    """Of two slices the one that is no padding."""
    system, held = build(PLAIN, model__slices=1), examples(PLAIN).arrays
    image = held["image"] * np.array([[0, 1], [1, 0]], np.float32).reshape(2, 2, 1, 1, 1)
    values = {"image": jnp.asarray(image), "label": jnp.asarray(held["label"]), "index": jnp.arange(2)}
    found = prepared(system.stages[2], steps.initial(system).variables, values)
    assert found["scaled"].shape == (2, 1, 16, 16, 1) and found["label"].shape == (2, 1, 16, 16)
    np.testing.assert_array_equal(found["real"], [[1], [1]])


def test_nothing_is_found_in_slices_of_padding():
    logits = -np.ones((2, 3, 4, 4, 1), np.float32)
    logits[:, 1, 1:3, 1:3] = 1
    logits[:, 2] = 1  # padding, all of it called ventricle
    real = np.array([[1, 1, 0], [1, 1, 1]], np.float32)
    values = {"low_logits": jnp.asarray(logits), "real": jnp.asarray(real)}
    piece = functools.partial(cascade.largest_piece("low_logits"), train=frozenset())
    found = np.asarray(jax.jit(lambda values, key: piece({}, values, key=key)[0]["heat"])(values, jax.random.key(0)))
    np.testing.assert_array_equal(found[0], logits[0, ..., 0] * [[[0]], [[1]], [[0]]] > 0)
    np.testing.assert_array_equal(found[1], logits[1, ..., 0] > 0)


def test_the_losses_are_of_wall_and_enhancement_and_of_the_whole_ventricle():
    """By their formulas, in numpy: scar is wall too, 255 takes no part, false positives weigh beta."""
    system = build()
    rng = np.random.default_rng(2)
    label = rng.choice([0, 1, 2, 3, 4, 5, 255], (1, 2, 8, 8))
    for stage, groups, beta, names in (
        (system.stages[0], [(2, 3, 4, 5)], 0.6, ("low_logits", "low_label")),
        (system.stages[2], [(2, 4, 5), (5,)], 0.4, ("logits", "label")),
    ):
        logits = rng.normal(size=(*label.shape, len(groups)))
        q, known = 1 / (1 + np.exp(-logits)), label != 255
        truth = np.stack([np.isin(label, group) for group in groups], -1)
        cross = -np.where(truth, beta * np.log(q), (1 - beta) * np.log(1 - q))[known].mean()
        both, fp, fn = (
            np.where(known[..., None], v, 0).sum((0, 1, 2, 3)) for v in (q * truth, q * ~truth, (1 - q) * truth)
        )
        tversky = (both + 1) / (both + beta * fp + (1 - beta) * fn + 1)
        loss = stage.phases[0].objective.loss
        values = dict(zip(names, (jnp.asarray(logits, jnp.float32), jnp.asarray(label)), strict=True))
        value, _, logs = jax.jit(loss.apply)(loss.init(), {**values, "mask": np.ones(1, np.float32)})
        np.testing.assert_allclose(logs["cross"], [0.5 * cross], rtol=1e-4)
        np.testing.assert_allclose(value, [0.5 * cross + 0.5 * (1 - tversky.mean())], rtol=1e-4)


def test_the_wall_holds_what_is_drawn_in_it():
    assert acsnet.classes_of(SCARRED, WALL.outputs[0]) == (2, 4, 5)
    assert acsnet.classes_of(SCARRED, WALL.localiser_classes) == (2, 3, 4, 5)
    assert acsnet.classes_of(PLAIN, WALL.outputs[0]) == (1,)


@pytest.mark.parametrize(
    "key, keys, changes",
    [
        ("data.size", {"data__size": (32, 32)}, {}),
        ("data.sequences", {}, {"append_clahe": False}),
        ("data.sequences", {}, {"sequences": ("LGE", "T2")}),
        ("data.spacing_mm", {}, {"spacing_mm": (0.0, 0.0, 0.0)}),
        ("data.spacing_mm", {}, {"spacing_mm": (0.0, 2.0, 1.0)}),
        ("localiser.window", {"localiser__window": (2, 2, 2)}, {}),
        ("localiser.window", {"localiser__window": (1, 4, 2)}, {}),
        ("model.box", {"model__box": (1, 16, 16)}, {}),
        ("model.box", {"model__box": (2, 16, 20)}, {}),
        ("model.dtype", {"model__dtype": "float8"}, {}),
        ("post.project", {"post__project": "some"}, {}),
        ("model.slices", {"model__slices": -1}, {}),
        ("data.real_share", {"data__lge_like": True, "data__real_share": 0.5, "train__batch_size": 1}, {}),
        ("data.real_share", {"data__lge_like": True, "data__real_share": 0.9, "train__batch_size": 4}, {}),
        ("prior.size", {"prior__size": (16, 20)}, {}),
        ("prior.size", {"prior__size": (24, 24), "prior__features": (2, 2, 2, 2)}, {}),
    ],
)
def test_what_does_not_fit_is_refused_by_its_key(key: str, keys: dict, changes: dict):
    with pytest.raises(InputError, match=f"^{re.escape(key)}: "):
        build(changes=changes, **keys)


@pytest.mark.parametrize("classes", [("background", "RV", "LV"), ("background", "Myo")])
def test_a_wall_and_a_pool_are_wanted(classes):
    with pytest.raises(InputError, match=r"^data\.name: myops has no class (Myo|LV)$"):
        build(classes)


# --- loss transforms


WEIGHT = 1e4  # an untrained autoencoder hardly tells maps apart


def with_shape_prior(**keys) -> System:
    return build(
        PLAIN,
        transforms__shape_prior=WEIGHT,
        shape_prior__code=4,
        shape_prior__features=(4,),
        shape_prior__steps=1,
        **keys,
    )


def fully(stage, held: Examples) -> dict[str, jax.Array]:
    return batch(Examples(stage.stream.of(held.arrays)) if stage.stream.of else held)


def test_a_shape_prior_learns_from_slices_of_the_box_and_trains_the_segmenter():
    system, held = with_shape_prior(), examples(PLAIN)
    assert [stage.name for stage in system.stages] == ["localisation", "prior", "shape_prior", "segmentation"]
    assert {net.name: net.inputs for net in system.nets}["shape_autoencoder"] == ((16, 16, len(PLAIN)),)
    state = steps.initial(system)
    state = state.replace(variables=toys.alive(state.variables))
    for stage, net in zip(system.stages[2:], ("shape_autoencoder", "segmenter"), strict=True):
        after, metrics = steps.under(functools.partial(train_step, stage, axis_name=AXIS), state, fully(stage, held))
        stayed = jax.tree.map(np.array_equal, state.variables, after.variables)
        assert steps.shapes_of(after) == steps.shapes_of(state)
        assert {name for name, one in stayed.items() if not all(jax.tree.leaves(one))} == {net}
        assert all(np.isfinite(float(value)) for value in metrics.values())
        state = after
    assert float(metrics["shape"]) > 0
    plain = float(metrics["loss"]) - float(metrics["shape_weighted"])
    np.testing.assert_allclose(metrics["shape_weighted"], WEIGHT * metrics["shape"], rtol=1e-5)
    assert 0 < plain < float(metrics["loss"])


def test_a_shape_prior_sees_every_slice_as_a_map_of_its_own():
    system, held = with_shape_prior(), examples(PLAIN)
    stage, variables = system.stages[3], toys.alive(steps.initial(system).variables)

    @functools.partial(jax.jit, compiler_options=toys.QUICK)
    def forward(variables, values):
        values, _ = stage.stream.prepare(variables, values, key=jax.random.key(0), train=frozenset())
        objective = stage.phases[0].objective
        values, _ = objective.forward(variables, values, key=jax.random.key(0), train=frozenset())
        loss = objective.loss
        _, _, logs = loss.apply(loss.init(), values)
        module = {net.name: net.module for net in system.nets}["shape_autoencoder"]

        def one(slice_):
            return jax.nn.softmax(module.apply(variables["shape_autoencoder"], slice_[None], train=False)[0][0])

        maps = jnp.stack([values["probabilities"], values["truth"]])
        alone = jax.lax.map(one, maps.reshape(-1, *maps.shape[-3:]))  # one after the other
        return values, logs, alone.reshape(maps.shape)

    values, logs, alone = forward(variables, batch(held))
    assert values["probabilities"].shape == (2, 2, 16, 16, 3)
    shapes = values["predicted_shape"], values["true_shape"]
    for found, expected in zip(shapes, alone, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    difference = np.asarray(values["predicted_shape"]) - np.asarray(values["true_shape"])
    np.testing.assert_allclose(logs["shape"], (difference**2).sum((1, 2, 3, 4)), rtol=1e-4)
    assert (np.asarray(logs["shape"]) > 0).all()


def test_a_shape_prior_of_some_slices_keeps_the_state_as_it_is_made():
    """Traced, not run; of all slices of a volume: the test above the last."""
    system, held = with_shape_prior(model__slices=1, transforms__adversarial=0.1), examples(PLAIN)
    state, stage = jax.eval_shape(lambda: init_state(system, 0)), system.stages[-1]
    after, _ = steps.shapes(functools.partial(train_step, stage, axis_name=AXIS), state, fully(stage, held))
    assert after == steps.shapes_of(state)


def test_a_volume_has_no_position():
    with pytest.raises(InputError, match=r"^transforms\.position: "):
        build(transforms__position=0.1)
