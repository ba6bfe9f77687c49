"""ACNN's system: what each stage trains and minimises, on labels of a finer grid than the image's."""

import functools
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cardiac_jax import systems
from cardiac_jax.core.step import init_state, predict_step, train_step
from cardiac_jax.core.types import Stage, System, TrainState, Values
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.errors import InputError
from cardiac_jax.train.devices import AXIS
from cardiac_jax.transforms import shape_model
from experiments import acnn
from tests import small_nets, steps, toys

SIZE, SCALE, FINE, CODE = (2, 6, 6), (5, 1, 1), (10, 6, 6), 3
CLASSES = ("background", "Myo", "LV")
FREQUENCY = (800, 50, 150)
TINY = {
    "model.filters": 2,
    "data.size": SIZE,
    "data.spacing_mm": (10.0, 2.0, 2.0),
    "data.target_scale": SCALE,
    "prior.code": CODE,
    "prior.steps": 2,
    "predictor.steps": 2,
    "joint.steps": 2,
    "train.steps": 2,
    "train.batch_size": 4,
    "augmentation": False,
}


pytestmark = pytest.mark.usefixtures("small_nets")


@pytest.fixture(scope="module", autouse=True)
def linear() -> Iterator[None]:
    """Networks of one layer in place of the shipped ones, which have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shape_model, "ShapeAutoencoder", small_nets.Coder)
        patch.setattr(shape_model, "Predictor", small_nets.Guess)
        yield


def build(words: str, changes: dict | None = None, **keys) -> System:
    config = acnn.get_config(f"{words},preset=smoke")
    flat = {**TINY, **{k.replace("__", "."): v for k, v in keys.items()}}
    with config.unlocked():
        config.model.filters = 2
        config.update_from_flattened_dict(flat)
    held = {"intensity": tuple(config.data.intensity), "append_clahe": config.data.append_clahe, **(changes or {})}
    spacing_mm, size = tuple(config.data.spacing_mm), tuple(config.data.size)
    held |= {"target_scale": tuple(config.data.target_scale), "frequency": FREQUENCY}
    raw = tuple(range(len(CLASSES)))
    spec = DataSpec("twins", CLASSES, raw, ("cine",), "affine", spacing_mm, size, **held)
    return systems.build_system(config, spec)


def batch(fine_only: bool = False) -> Values:
    """Four examples whose labels and fine images differ; the image is what the middle of each group shows."""
    rng = np.random.default_rng(0)
    label = rng.choice(3, (4, *FINE), p=(0.6, 0.2, 0.2)).astype(np.uint8)
    fine = (label + rng.normal(0, 0.3, label.shape)).astype(np.float32)[..., None]
    flags = {name: jnp.ones(4) for name in ("mask", "fully_annotated", "real_case")}
    values = {"image": fine[:, 2::5], "label": label, "fine": fine, "index": np.arange(4)}
    held = {name: jnp.asarray(value) for name, value in values.items()} | flags
    return {name: value for name, value in held.items() if name != "image"} if fine_only else held


def objective_of(stage: Stage, state: TrainState, values: Values) -> Any:
    """Values written by the stage's one phase, its loss and logs, without training mode."""
    (phase,) = stage.phases

    def run(variables, values):
        prepare = stage.stream.prepare
        if prepare is not None:
            values, _ = prepare(variables, values, key=jax.random.key(1), train=frozenset())
        written, _ = phase.objective.forward(variables, values, key=jax.random.key(0), train=frozenset())
        loss, _, logs = phase.objective.loss.apply(phase.objective.loss.init(), written)
        return dict(written), loss, logs

    return jax.device_get(steps.under(run, state.variables, values))


def flat_dense(params: Any, x: np.ndarray) -> np.ndarray:
    kernel, bias = (np.asarray(params[name], np.float64) for name in ("kernel", "bias"))
    return x.reshape(len(x), -1).astype(np.float64) @ kernel + bias


def cross_entropy(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(-1, keepdims=True)).astype(np.float64)
    p /= p.sum(-1, keepdims=True)
    return -np.log(np.take_along_axis(p, label[..., None].astype(int), -1)).mean((1, 2, 3, 4))


def squares(params: Any) -> float:
    return float(sum(np.square(np.asarray(leaf, np.float64)).sum() for leaf in jax.tree.leaves(params)))


STAGES = {
    "task=seg,method=acnn": {"prior": {"autoencoder"}, "segmentation": {"segmenter"}},
    "task=seg,method=fcn2d": {"segmentation": {"segmenter"}},
    "task=seg,method=maug": {"segmentation": {"segmenter"}},
    "task=seg,method=ae_seg": {"prior": {"autoencoder"}, "segmentation": {"segmenter", "autoencoder"}},
    "task=sr,method=sr": {"super_resolution": {"enhancer"}},
    "task=sr,method=acnn": {
        "prior": {"autoencoder"},
        "predictor": {"predictor"},
        "joint": {"autoencoder", "predictor"},
        "super_resolution": {"enhancer"},
    },
    "task=tl": {"prior": {"autoencoder"}, "predictor": {"predictor"}, "joint": {"autoencoder", "predictor"}},
    "task=classify": {"prior": {"autoencoder"}},
}


@pytest.mark.parametrize("words", STAGES)
def test_the_stages_of_every_task_keep_the_state_as_it_is_made(words):
    """Traced, not run; and the outputs lie on the grid of the labels."""
    system = build(words)
    found = {stage.name: {net for phase in stage.phases for net in phase.trains} for stage in system.stages}
    assert found == STAGES[words]
    state = jax.eval_shape(lambda: init_state(system, 0))
    for stage in system.stages:
        step = functools.partial(train_step, stage, axis_name=AXIS)
        after, _ = steps.shapes(step, state, batch(fine_only=stage.name == "super_resolution"))
        assert after == steps.shapes_of(state)
    image = batch()["image"]
    if words == "task=classify":
        with pytest.raises(InputError, match=r"^task: classify learns codes of label maps"):
            steps.shapes(functools.partial(predict_step, system), state.variables, image)
        return
    outputs = steps.shapes(functools.partial(predict_step, system), state.variables, image)
    shapes = {"probabilities": (4, *FINE, 3), "enhanced": (4, *FINE, 1), "code": (4, CODE), "found": (4,)}
    assert {name: shape for name, (shape, _) in outputs.items()} == {name: shapes[name] for name in outputs}
    assert [output.scale for output in system.outputs if output.kind != "vector"] == [SCALE]


# --- objectives


def test_a_segmentation_step_minimises_equation_1_and_leaves_the_encoder_as_it_was():
    system = build("task=seg,method=acnn", transforms__code_prior=0.3, transforms__weight_decay=0.5)
    prior, segmentation = system.stages
    state, values = steps.initial(system), batch()
    written, loss, logs = objective_of(segmentation, state, values)
    encoder = state.variables["autoencoder"]["params"]["to_code"]
    label = np.asarray(values["label"])
    truth = np.eye(3)[label]
    ce = cross_entropy(written["logits"], label)
    code = np.square(flat_dense(encoder, written["probabilities"]) - flat_dense(encoder, truth)).sum(1)
    decay = 0.5 * squares(state.variables["segmenter"]["params"])
    np.testing.assert_allclose(logs["segmentation"], ce, rtol=1e-5)
    np.testing.assert_allclose(logs["code"], code, rtol=1e-4)
    np.testing.assert_allclose(loss, ce + 0.3 * code + 0.5 * decay, rtol=1e-5)
    after, _ = steps.under(functools.partial(train_step, segmentation, axis_name=AXIS), state, values)
    assert steps.moved(state, after) == {"segmenter"}
    same = jax.tree.map(np.array_equal, state.variables["autoencoder"], after.variables["autoencoder"])
    assert all(jax.tree.leaves(same)), "parameters and statistics"
    assert prior.stream.flag == "fully_annotated" and prior.stream.share == 1


def test_the_published_weights_are_those_of_the_configuration():
    for words, prior in (("task=seg", "code_prior"), ("task=us", "code_prior"), ("task=sr", "predictor_prior")):
        weights = acnn.get_config(words).transforms
        assert {name: weight for name, weight in weights.items() if weight} == {prior: 0.01, "weight_decay": 5e-6}


def test_a_super_resolution_step_minimises_equation_2():
    system = build("task=sr,method=acnn", transforms__predictor_prior=0.3, transforms__weight_decay=0.5)
    state, values = steps.initial(system), batch(fine_only=True)
    written, loss, logs = objective_of(system.stages[-1], state, values)
    predictor = state.variables["predictor"]["params"]["Dense_0"]
    far = np.abs(written["enhanced"] - np.asarray(values["fine"])).astype(np.float64)
    assert (far > 1).any() and (far < 1).any()
    huber = np.where(far < 1, 0.5 * far**2, far - 0.5).mean((1, 2, 3, 4))
    code = np.square(flat_dense(predictor, written["enhanced"]) - flat_dense(predictor, np.asarray(values["fine"])))
    decay = 0.5 * squares(state.variables["enhancer"]["params"])
    np.testing.assert_allclose(logs["smooth_l1"], huber, rtol=1e-5)
    np.testing.assert_allclose(loss, huber + 0.3 * code.sum(1) + 0.5 * decay, rtol=1e-5)


def test_the_cascade_minimises_the_cross_entropy_of_both_networks():
    system = build("task=seg,method=ae_seg", transforms__weight_decay=0.0)
    state, values = steps.initial(system), batch()
    written, loss, _ = objective_of(system.stages[-1], state, values)
    params, label = state.variables["autoencoder"]["params"], np.asarray(values["label"])
    first = np.exp(written["first_logits"])
    code = flat_dense(params["to_code"], first / first.sum(-1, keepdims=True))
    logits = flat_dense(params["from_code"], code).reshape(4, *FINE, 3)
    np.testing.assert_allclose(written["logits"], logits, rtol=1e-3, atol=1e-4)
    expected = cross_entropy(written["first_logits"], label) + cross_entropy(logits, label)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_the_joint_stage_scales_both_losses_to_one_range_and_both_reach_the_encoder():
    """Cross-entropy by the entropy of the classes, code distance by the variance of the codes over the batch."""
    system = build("task=tl", prior__swap=0.5, prior__noise=0.1)
    joint, state, values = system.stages[-1], steps.initial(system), batch()
    written, loss, logs = objective_of(joint, state, values)
    label, share = np.asarray(values["label"]), np.array(FREQUENCY) / sum(FREQUENCY)
    swapped = np.asarray(written["corrupted"]).argmax(-1) != label
    assert abs(swapped.mean() - 0.5 * 2 / 3) < 0.05
    noise = np.asarray(written["corrupted"]) - np.eye(3)[np.asarray(written["corrupted"]).argmax(-1)]
    assert abs(noise.std() - 0.1) < 0.01
    params = state.variables["autoencoder"]["params"]
    code = flat_dense(params["to_code"], written["corrupted"])
    guess = flat_dense(state.variables["predictor"]["params"]["Dense_0"], np.asarray(values["image"]))
    distance = np.square(guess - code).sum(1).mean() / code.var(0).sum()
    ce = cross_entropy(flat_dense(params["from_code"], code).reshape(4, *FINE, 3), label)
    np.testing.assert_allclose(logs["code"], np.full(4, distance), rtol=1e-3)
    np.testing.assert_allclose(loss, ce / -(share * np.log(share)).sum() + distance, rtol=1e-3)

    def slopes(variables, values):
        def sums(encoder):
            own = {**variables["autoencoder"]["params"], "to_code": encoder}
            held = {**variables, "autoencoder": {**variables["autoencoder"], "params": own}}
            (phase,) = joint.phases
            out, _ = phase.objective.forward(held, values, key=jax.random.key(0), train=frozenset(phase.trains))
            logs = phase.objective.loss.apply(phase.objective.loss.init(), out)[2]
            return {name: jnp.sum(logs[name]) for name in ("reconstruction_ce_weighted", "code")}

        return jax.jacrev(sums)(variables["autoencoder"]["params"]["to_code"])

    for name, slope in jax.device_get(steps.under(slopes, state.variables, values)).items():
        assert np.abs(slope["kernel"]).max() > 1e-6, name


def test_the_predictor_follows_codes_of_the_frozen_encoder():
    system = build("task=tl")
    stage, state, values = system.stages[1], steps.initial(system), batch()
    written, loss, _ = objective_of(stage, state, values)
    code = flat_dense(state.variables["autoencoder"]["params"]["to_code"], np.eye(3)[np.asarray(values["label"])])
    np.testing.assert_allclose(written["code"], code, rtol=1e-4, atol=1e-5)
    guess = flat_dense(state.variables["predictor"]["params"]["Dense_0"], np.asarray(values["image"]))
    np.testing.assert_allclose(loss, np.square(guess - code).sum(1), rtol=1e-4)


# --- images


def prepared(system: System, values: Values) -> Values:
    """What the last stage's phase is given."""
    prepare = system.stages[-1].stream.prepare
    assert prepare is not None
    run = jax.jit(
        lambda values: prepare({}, values, key=jax.random.key(0), train=frozenset())[0], compiler_options=toys.QUICK
    )
    return run(values)


def test_the_low_resolution_image_is_made_in_the_step():
    """A Gaussian of 4 mm along slices of 2 mm, at the middle of every fifth; without motion and noise."""
    values = batch(fine_only=True)
    still = prepared(build("task=sr,method=sr", motion__on=False, degrade__noise=0.0), values)
    expected = ndimage.gaussian_filter1d(np.asarray(values["fine"]), 2.0, axis=1, mode="nearest")[:, 2::5]
    np.testing.assert_allclose(still["image"], expected, atol=1e-3)
    moved = prepared(build("task=sr,method=sr", degrade__noise=0.0), values)
    assert moved["image"].shape == (4, *SIZE, 1)
    assert np.abs(np.asarray(moved["image"]) - expected).max() > 0.01
    for name in ("fine", "label"):
        np.testing.assert_array_equal(moved[name], values[name])
    noisy = prepared(build("task=sr,method=sr", motion__on=False, degrade__noise=0.5), values)
    assert 0.4 < (np.asarray(noisy["image"]) - np.asarray(still["image"])).std() < 0.6


def test_motion_is_of_the_input_alone():
    values = batch()
    moved, still = (prepared(build(f"task=seg,method={name}"), values) for name in ("maug", "seg3d"))
    np.testing.assert_array_equal(moved["label"], values["label"])
    difference = np.abs(np.asarray(moved["image"]) - np.asarray(values["image"])).max((2, 3, 4))
    assert (difference > 0.01).all(), "every slice of every example"
    np.testing.assert_array_equal(still["image"], values["image"])


def test_image_and_finer_label_are_augmented_together():
    values = batch()
    found = prepared(build("task=seg,method=seg3d", augmentation=True), values)
    for name in ("image", "label"):
        assert found[name].shape == values[name].shape
        assert (np.asarray(found[name]) != np.asarray(values[name])).any()


# --- what does not fit


@pytest.mark.parametrize(
    ("words", "keys", "changes", "where"),
    [
        ("task=seg", {"task": "detect"}, {}, "task"),
        ("task=seg", {"data__size": (6, 6), "data__target_scale": (1, 1)}, {}, "data.size"),
        ("task=seg", {"prior__steps": -1}, {}, "prior.steps"),
        ("task=seg", {"prior__swap": 1.5}, {}, "prior.swap"),
        ("task=tl", {"joint__steps": -1}, {}, "joint.steps"),
        ("task=tl", {"train__batch_size": 1}, {}, "train.batch_size"),
        ("task=seg,method=maug", {"data__spacing_mm": (10.0, 0.0, 0.0)}, {}, "data.spacing_mm"),
        ("task=seg,method=ae_seg", {"transforms__code_prior": 0.1}, {}, "refine"),
        ("task=seg", {"transforms__predictor_prior": 0.1}, {}, "transforms.predictor_prior"),
        ("task=sr", {"transforms__code_prior": 0.1}, {}, "transforms.code_prior"),
        ("task=sr", {"data__target_scale": (1, 1, 1)}, {}, "data.target_scale"),
        ("task=sr", {"data__target_scale": (5, 2, 2)}, {}, "data.target_scale"),
        ("task=sr", {"data__intensity": ("clahe", "z_score")}, {}, "data.intensity"),
        ("task=sr", {}, {"append_clahe": True}, "data.intensity"),
        ("task=sr", {"degrade__sigma_mm": 0.0}, {}, "degrade.sigma_mm"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_key(words, keys, changes, where):
    with pytest.raises(InputError, match=f"^{re.escape(where)}: "):
        build(words, changes, **keys)


def test_super_resolution_needs_high_resolution_images():
    stage = build("task=sr").stages[-1]
    assert stage.stream.of is not None
    held = {name: np.asarray(value) for name, value in batch().items()}
    assert stage.stream.of(held) is held
    with pytest.raises(InputError, match=r"^training set: super-resolution needs a high-resolution image"):
        stage.stream.of({name: value for name, value in held.items() if name != "fine"})


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("task=sr,method=maug", "task=sr has acnn, linear, bspline, srcnn, unet3d, sr"),
        ("task=seg,data=acdc", "data='acdc': task=seg has phantom, lasc"),
        ("task=us,data=phantom", "data='phantom': task=us has us"),
        ("task=detect", "task='detect'"),
    ],
)
def test_words_that_do_not_belong_together_are_refused(words, problem):
    with pytest.raises(InputError, match=re.escape(problem)):
        acnn.get_config(words)


@pytest.mark.parametrize("preset", ["cpu", "paper", "smoke"])
def test_every_row_of_the_study_has_a_configuration_of_its_name(preset):
    for name, words in acnn.STUDY.items():
        assert acnn.get_config(f"{words},preset={preset}").method == name
    published = {name for metric, held in acnn.PUBLISHED.items() if isinstance(held, dict) for name in held}
    assert published <= set(acnn.STUDY) and acnn.REFERENCE in acnn.STUDY
