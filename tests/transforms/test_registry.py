"""Terms by name: which are chosen, with what weight, what they bring, and what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiac_jax.core.loss import term, weighted
from cardiac_jax.core.types import Config, Net, Objective, Stage, Stream
from cardiac_jax.errors import InputError
from cardiac_jax.transforms import terms
from cardiac_jax.transforms.registry import TERMS, Extended, Term, TermRequest, chosen_terms, extend
from cardiac_jax.transforms.shape_model import ShapeModel
from tests import tiny, toys

NET = Net("segmenter", toys.Segmenter(), ((*tiny.SIZE, 1),))
STAGE = Stage("prior", 2, ())
MODEL = ShapeModel(
    Net("autoencoder", toys.Autoencoder(), ((*toys.SIZE, toys.CLASSES),)),
    Net("predictor", toys.Scalar(), ((*toys.SIZE, 1),)),
    (STAGE, STAGE._replace(name="predictor"), STAGE._replace(name="joint")),
)
PLAIN = Objective(lambda variables, values, *, key, train: (values, variables), term(jnp.sum, a="x"))
ALONE = {"transforms__shape_prior": 0.0, "transforms__position": 0.0}


def asked(config: Config, **more: Any) -> TermRequest:
    stream = Stream(flag="real_case", share=0.5, batch_size=3)
    return TermRequest(config, NET, tiny.SIZE, toys.CLASSES, (8, 8, 4), stream, **{"has_position": True, **more})


def extended(has_position: bool = True, model: ShapeModel | None = None, **keys) -> Extended:
    config = tiny.config("srscn", **ALONE | keys)
    return extend(PLAIN, asked(config, has_position=has_position, shape_model=model))


def own(weight, request: TermRequest) -> Term:
    """A user's term: the size of the image."""
    loss = weighted(term(jnp.sum, a="image"), weight)
    return Term(lambda objective: terms.add(objective, PLAIN.forward, loss, "own"))


def test_weights_choose_terms_and_0_switches_off():
    config = tiny.config("srscn", transforms__adversarial=0.5, transforms__code_prior=0.0)
    assert chosen_terms(config) == {"shape_prior": 5e-4, "position": 1e-6, "adversarial": 0.5}
    further = tiny.config("unet", terms=("a:b=0.25", "c:d=2"))
    assert chosen_terms(further) == {"a:b": 0.25, "c:d": 2.0}


def test_without_terms_the_objective_is_as_it_was():
    assert extended() == (PLAIN, (), (), (), ())


@pytest.mark.parametrize(
    ("name", "nets", "trains", "before", "phases"),
    [
        ("shape_prior", ["autoencoder"], (), ["prior"], []),
        ("code_prior", ["autoencoder"], (), ["prior"], []),
        ("position", ["position"], ("position",), [], []),
        ("adversarial", ["discriminator"], (), [], ["discriminate"]),
        ("weight_decay", [], (), [], []),
        ("predictor_prior", ["autoencoder", "predictor"], (), ["prior", "predictor", "joint"], []),
    ],
)
def test_what_a_term_brings(name, nets, trains, before, phases):
    found = extended(model=MODEL if name == "predictor_prior" else None, **{f"transforms__{name}": 0.1})
    assert [net.name for net in found.nets] == nets
    assert found.trains == trains
    assert [stage.name for stage in found.before] == before
    assert [phase.name for phase in found.phases] == phases
    assert found.objective is not PLAIN


def test_every_shipped_term_is_in_that_list():
    marks = test_what_a_term_brings.pytestmark
    assert [row[0] for row in marks[0].args[1]] == list(TERMS)


def test_two_priors_share_one_autoencoder_and_its_stage():
    found = extended(transforms__shape_prior=0.1, transforms__code_prior=0.1)
    assert [net.name for net in found.nets] == ["autoencoder"]
    (stage,) = found.before
    assert stage.phases[0].trains == ("autoencoder",)
    assert stage.stream == Stream(flag="fully_annotated", share=1.0, batch_size=3), "whole shapes only"


def test_priors_take_the_shape_model_of_the_system():
    """Instead of an autoencoder of their own; all of them share it and its stages."""
    found = extended(
        model=MODEL, transforms__shape_prior=0.1, transforms__code_prior=0.1, transforms__predictor_prior=0.1
    )
    assert found.nets == (MODEL.autoencoder, MODEL.predictor)
    assert found.before == MODEL.stages and found.trains == ()


@pytest.mark.parametrize("model", [None, MODEL._replace(predictor=None)])
def test_codes_of_images_need_a_predictor(model):
    with pytest.raises(InputError, match=r"^transforms\.predictor_prior: compares restored images: "):
        extended(model=model, transforms__predictor_prior=0.1)


def test_an_own_term_joins_the_others(monkeypatch):
    monkeypatch.setitem(TERMS, "own", own)
    found = extended(terms=("own=0.25",), transforms__weight_decay=0.5)
    values = {"image": jnp.ones((2, 4, 4, 1)), "x": jnp.ones(2), "mask": jnp.ones(2)}
    written, _ = found.objective.forward({"segmenter": {"params": {"w": jnp.full(3, 2.0)}}}, values, key=None, train=())
    value, _, logs = found.objective.loss.apply(found.objective.loss.init(), written)
    assert set(logs) == {"own", "own_weighted", "weight_decay", "weight_decay_weighted"}
    np.testing.assert_allclose(value, np.full(2, 1 + 0.25 * 16 + 0.5 * 6.0))


def test_weights_rise_over_the_ramp():
    """Of 8 steps, from the second to the sixth."""
    found = extended(transforms__weight_decay=0.5, ramp=(0.25, 0.75))
    values = {"x": jnp.zeros(2), "squared_weights": jnp.full(2, 2.0), "mask": jnp.ones(2)}
    state, seen = found.objective.loss.init(), []
    for _ in range(8):
        value, state, _ = found.objective.loss.apply(state, values)
        seen.append(float(value[0]))
    np.testing.assert_allclose(seen, 0.5 * np.clip((np.arange(8) - 2) / 4, 0, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"ramp": (0.5, 0.25)}, r"^ramp: \(0\.5, 0\.25\) is not a rising pair of parts of the training$"),
        ({"ramp": (-0.5, 0.25)}, r"^ramp: "),
        ({"terms": ("weight_decay",)}, r"^terms: 'weight_decay' is not written name=weight$"),
        ({"terms": ("weight_decay=heavy",)}, r"^terms: 'weight_decay=heavy' is not written name=weight$"),
        ({"terms": ("roughness=1",)}, r"^terms: 'roughness' is not one of shape_prior, .*, nor module:attribute"),
        ({"terms": ("a:b=1",)}, r"^terms: 'a:b' .* add --use=a:b$"),
        ({"terms": ("none=1",)}, r"^terms: 'none' returns NoneType, a Term is expected$"),
    ],
)
def test_what_cannot_be_a_term_is_refused(monkeypatch, keys, message):
    monkeypatch.setitem(TERMS, "none", lambda weight, request: None)
    with pytest.raises(InputError, match=message):
        extended(**keys)


def test_an_unknown_key_of_transforms_is_refused():
    config = tiny.config("unet").copy_and_resolve_references().unlock()
    config.transforms.roughness = 0.1
    with pytest.raises(InputError, match=r"^transforms: 'roughness' is not one of shape_prior, "):
        chosen_terms(config)


def test_a_position_needs_slices():
    with pytest.raises(InputError, match=r"^transforms\.position: regresses the position of a slice"):
        extended(has_position=False, transforms__position=0.1)


def test_networks_compute_in_the_type_of_the_model():
    found = extended(transforms__shape_prior=0.1, transforms__adversarial=0.1, model__dtype="bfloat16")
    assert {net.module.dtype for net in found.nets} == {jnp.dtype("bfloat16")}
    shapes = jax.eval_shape(
        lambda x: found.nets[0].module.init_with_output(jax.random.key(0), x, train=False)[0],
        jnp.zeros((1, *tiny.SIZE, toys.CLASSES)),
    )
    assert {leaf.dtype for leaf in shapes} == {jnp.dtype("float32")}
