"""SRSCN and its baselines as published, on the smallest networks: who learns from what, and who stays as it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cardiac_jax.core.step import params_of, phase_id, train_step
from cardiac_jax.core.types import Stage
from cardiac_jax.data.pipeline import batch_of
from cardiac_jax.errors import InputError
from cardiac_jax.train.devices import AXIS
from tests import steps, tiny, toys
from tests.toy_systems import differ, same

TERMS = {
    "unet": set(),
    "scn": {"position"},
    "srnn": {"shape"},
    "srscn": {"shape", "position"},
    "acnn": {"code"},
    "gan": {"adversarial"},
}
SEGMENTATION = {"segmentation", "segmentation/cross", "segmentation/dice"}  # of every method
NETS = {
    "unet": {"segmenter"},
    "scn": {"segmenter", "position"},
    "srnn": {"segmenter", "autoencoder"},
    "srscn": {"segmenter", "autoencoder", "position"},
    "acnn": {"segmenter", "autoencoder"},
    "gan": {"segmenter", "discriminator"},
}


def batch(step: int = 0, size: int = 4) -> dict[str, np.ndarray]:
    held = batch_of(tiny.examples(), "fully_annotated", 0, step, size)
    return {**held, "mask": np.ones(size, np.float32), "index": np.arange(size, dtype=np.int32)}


def under_axis(stage: Stage):
    """The step of a stage under the axis of devices, of which there is one: `(state, batch) -> (state, metrics)`."""
    return steps.on_one_device(functools.partial(train_step, stage, axis_name=AXIS))


def compiled(stage: Stage):
    return jax.jit(under_axis(stage), compiler_options=tiny.QUICK)


EVERYTHING = {"transforms__code_prior": 5e-4, "transforms__adversarial": 1e-2}
"""With SRSCN's own, every transform at once."""


# --- gradients


def added(state) -> set[str]:
    """Names of the terms beside the segmentation's own in the state of a loss."""
    if "base" not in state:
        assert state == {"segmentation": {"dice": (), "cross": ()}}
        return set()
    return set(state["added"]) | added(state["base"])


def test_every_term_sends_gradient_to_the_segmenter():
    system, _ = tiny.build("srscn", **EVERYTHING)
    phase, state = system.stages[-1].phases[0], steps.initial(system)
    variables = toys.alive(state.variables)

    def terms(params, variables, values):
        variables = {**variables, "segmenter": {**variables["segmenter"], "params": params}}
        train = frozenset(phase.trains)
        values, _ = phase.objective.forward(variables, values, key=jax.random.key(1), train=train)
        loss, _, logs = phase.objective.loss.apply(state.loss[phase_id(system.stages[-1], phase)], values)
        return {name: jnp.mean(value) for name, value in {**logs, "loss": loss}.items()}

    of_device = steps.on_one_device(terms)
    params, values = variables["segmenter"]["params"], batch()
    names = sorted(jax.eval_shape(of_device, params, variables, values))

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def gradient(which, params, variables, values):
        def chosen(params):
            held = of_device(params, variables, values)
            return jnp.dot(which, jnp.stack([held[name] for name in names]))

        return jax.grad(chosen)(params)

    only = np.eye(len(names), dtype=np.float32)
    found = {name: gradient(only[i], params, variables, values) for i, name in enumerate(names)}
    assert set().union(*TERMS.values()) | SEGMENTATION | {"loss"} <= found.keys()
    for name, tree in found.items():
        sizes = [float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree)]
        assert all(np.isfinite(sizes)), name
        reached = sum(size > 0 for size in sizes)
        # The position is read from the bottleneck: what comes after it is not reached, all of the encoder is.
        expected = len(sizes) if not name.startswith("position") else len(jax.tree.leaves(_encoder(tree)))
        assert reached >= expected, f"{name} reaches {reached} of {len(sizes)} parameters"


def _encoder(params):
    return {name: leaf for name, leaf in params.items() if name.startswith("encoder")}


# --- composition


@pytest.mark.parametrize("method", NETS)
def test_a_method_has_the_networks_stages_and_terms_it_needs(method):
    system, _ = tiny.build(method)
    assert {net.name for net in system.nets} == NETS[method]
    stages = [stage.name for stage in system.stages]
    assert stages == (["prior", "segmentation"] if "autoencoder" in NETS[method] else ["segmentation"])
    assert [phase.name for phase in system.stages[-1].phases] == (
        ["segment", "discriminate"] if method == "gan" else ["segment"]
    )
    assert added(system.stages[-1].phases[0].objective.loss.init()) == TERMS[method]


def test_a_prior_learns_from_whole_annotations_only():
    streams = [stage.stream for stage in tiny.build("srscn")[0].stages]
    assert [(stream.flag, stream.share) for stream in streams] == [("fully_annotated", 1.0), ("", 1.0)]
    streams = [stage.stream for stage in tiny.build("srscn", data__fully_annotated_share=0.5)[0].stages]
    assert [(stream.flag, stream.share) for stream in streams] == [("fully_annotated", 1.0), ("fully_annotated", 0.5)]


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ({"model__dtype": "float16"}, "model.dtype"),
        ({"data__size": (18, 17)}, "data.size"),
        ({"optim__name": "lion"}, "optim.name"),
        ({"prior__schedule": "sine"}, "optim.schedule"),
        ({"system": "unknown"}, "system"),
    ],
)
def test_a_configuration_that_cannot_be_built_names_its_key(keys, where):
    with pytest.raises(InputError) as caught:
        tiny.build("srscn", **keys)
    assert caught.value.where == where
    assert where != "data.size" or "(18, 17)" in caught.value.problem


# --- training steps


def test_a_frozen_prior_stays_to_the_bit_and_everything_else_moves():
    system, _ = tiny.build("srscn", **EVERYTHING)
    prior, segmentation = map(compiled, system.stages)
    before = steps.initial(system)
    before = before.replace(variables=toys.alive(before.variables))
    start, _ = prior(before, batch())
    differ(start.variables["autoencoder"], before.variables["autoencoder"])
    same(start.variables["segmenter"], before.variables["segmenter"])
    state = start
    for step in range(3):
        state, _ = segmentation(state, batch(step))
    same(state.variables["autoencoder"], start.variables["autoencoder"])
    assert "batch_stats" in start.variables["autoencoder"]
    for name in ("segmenter", "position", "discriminator"):
        differ(state.variables[name], start.variables[name])


def test_a_gan_step_moves_either_side_in_its_own_phase_only():
    """With the rate of one phase at zero, what it trains stays to the bit and the other side moves as before."""
    system, _ = tiny.build("gan")
    stage, start = system.stages[0], steps.initial(system)
    start = start.replace(
        opt={phase_id(stage, p): optax.sgd(0.1).init(params_of(start.variables, p)) for p in stage.phases}
    )

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def step(state, batch, rates):
        phases = tuple(p._replace(tx=optax.sgd(rate)) for p, rate in zip(stage.phases, rates, strict=True))
        return under_axis(stage._replace(phases=phases))(state, batch)[0].variables

    held = batch()
    both, segment, discriminate = (step(start, held, rates) for rates in ((0.1, 0.1), (0.1, 0.0), (0.0, 0.1)))
    before = start.variables
    for net in ("segmenter", "discriminator"):
        differ(both[net]["params"], before[net]["params"])
    same(segment["discriminator"]["params"], before["discriminator"]["params"])
    same(segment["segmenter"], both["segmenter"])
    same(discriminate["segmenter"]["params"], before["segmenter"]["params"])
    same(discriminate["discriminator"], both["discriminator"])
    # The discriminator's phase reads what the segmenter wrote: it runs no second pass of it.
    same(discriminate["segmenter"]["batch_stats"], both["segmenter"]["batch_stats"])
