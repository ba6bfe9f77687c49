"""The initial state, the training step and the prediction step. Pure functions; `train/devices.py` compiles them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.core import Tracer

from cardiac_jax.core.passes import name_key, read
from cardiac_jax.core.types import Array, Net, Phase, Stage, System, TrainState, Values, Variables
from cardiac_jax.ops.cpu.compiler import compiler_options


def init_net(net: Net, key: Array) -> dict[str, Any]:
    """Flax variables of one network, `{"params": ..., "batch_stats": ...}`."""
    zeros = [jnp.zeros((1, *shape)) for shape in net.inputs]
    # Only the outermost program takes compiler options; under a trace (`eval_shape`) this is not the outermost.
    options = None if isinstance(key, Tracer) else compiler_options(once=True)
    return jax.jit(lambda key: net.module.init(key, *zeros, train=False), compiler_options=options)(key)


def init_state(system: System, seed: int, ema: bool = False) -> TrainState:
    """Returns the state before the first step: networks, and optimiser and loss states of all phases of all stages."""
    key = jax.random.key(seed)
    variables = {net.name: init_net(net, name_key(key, net.name)) for net in system.nets}
    phases = {phase_id(stage, phase): phase for stage in system.stages for phase in stage.phases}

    def rest(variables: Variables) -> dict[str, Any]:
        return {
            "ema": {name: _average(v["params"]) for name, v in variables.items()} if ema else {},
            "opt": {name: phase.tx.init(params_of(variables, phase)) for name, phase in phases.items()},
            "loss": {name: phase.objective.loss.init() for name, phase in phases.items()},
            "best": {stage.name: _no_best(stage, variables) for stage in system.stages[:-1] if stage.validate},
        }

    # One program, not one for each operation and shape.
    made = jax.jit(rest, compiler_options=None if isinstance(key, Tracer) else compiler_options(once=True))(variables)
    return TrainState(step=jnp.zeros((), jnp.int32), seed=jax.random.key_data(key), variables=variables, **made)


def trained_by(stage: Stage) -> tuple[str, ...]:
    """Names of the networks that a stage trains, in the order of its phases."""
    return tuple(dict.fromkeys(net for phase in stage.phases for net in phase.trains))


def _no_best(stage: Stage, variables: Variables) -> dict[str, Any]:
    return {
        "score": jnp.asarray(-jnp.inf),
        "nets": {net: jax.tree.map(jnp.copy, variables[net]) for net in trained_by(stage)},
    }


def keep_best(stage: Stage, state: TrainState, score: float) -> TrainState:
    """Returns the state with the inference variables of the stage's networks kept if the validation `score` is best."""
    held = jnp.asarray(score, jnp.float32)  # compared in the stored precision: equal after rounding is not better
    if stage.name not in state.best or not held > state.best[stage.name]["score"]:
        return state
    kept = {net: jax.tree.map(jnp.copy, inference_variables(state)[net]) for net in trained_by(stage)}
    return state.replace(best={**state.best, stage.name: {"score": held, "nets": kept}})


def take_best(stage: Stage, state: TrainState) -> TrainState:
    """Returns the state with the stage's networks, and their averages, set to the weights of its best validation."""
    held = state.best.get(stage.name)
    if held is None or not jnp.isfinite(held["score"]):
        return state
    nets = jax.tree.map(jnp.copy, held["nets"])
    ema = {
        name: {**old, "params": jax.tree.map(jnp.copy, nets[name]["params"])} if name in nets else old
        for name, old in state.ema.items()
    }
    return state.replace(variables={**state.variables, **nets}, ema=ema)


def phase_id(stage: Stage, phase: Phase) -> str:
    """The name of a phase's optimiser in the state."""
    return f"{stage.name}.{phase.name}"


def params_of(variables: Variables, phase: Phase) -> dict[str, Any]:
    """The parameters that `phase` trains, by network."""
    return {name: variables[name]["params"] for name in phase.trains}


def parameter_counts(system: System, variables: Variables) -> dict[str, int]:
    """Number of trainable scalars of each network."""
    return {net.name: sum(leaf.size for leaf in jax.tree.leaves(variables[net.name]["params"])) for net in system.nets}


def train_step(
    stage: Stage,
    state: TrainState,
    batch: Values,
    *,
    axis_name: str | None = None,
    start: int = 0,
    accumulate: int = 1,
    ema_decay: float = 0.0,
) -> tuple[TrainState, dict[str, Array]]:
    """Returns the state after one step of `stage` and its metrics, means over the real examples.

    `prepare` runs once, then each phase in order. Random numbers depend only on the seed, the name of the stage and the
    step within the stage. Two systems that share a stage therefore use the same random numbers in it.

    Args:
      stage: the stage; static.
      state: replicated over devices.
      batch: this device's share, batch-leading, with `mask [B]` and `index [B]`.
      axis_name: the device axis; None without one.
      start: the step at which the stage begins.
      accumulate: number of equal parts of the batch whose gradients are summed before the optimiser update.
      ema_decay: decay of the exponential moving average of parameters; unused if the state has no average.
    """
    psum = (lambda tree: lax.psum(tree, axis_name)) if axis_name else (lambda tree: tree)
    key = jax.random.fold_in(name_key(jax.random.wrap_key_data(state.seed), stage.name), state.step - start)
    variables, values = state.variables, dict(batch)
    if stage.stream.prepare is not None:
        values, _ = stage.stream.prepare(variables, values, key=name_key(key, "prepare"), train=frozenset())
        values = lax.stop_gradient(dict(values))
    opt, loss_state, metrics = dict(state.opt), dict(state.loss), {}
    for phase in stage.phases:
        name = phase_id(stage, phase)
        grads, variables, loss_state[name], values, sums = _gradient(
            phase, variables, loss_state[name], values, name_key(key, phase.name), psum, accumulate
        )
        grads = psum(grads)
        params = params_of(variables, phase)
        updates, opt[name] = phase.tx.update(grads, opt[name], params)
        moved: Any = optax.apply_updates(params, updates)
        variables = {**variables, **{net: {**variables[net], "params": moved[net]} for net in phase.trains}}
        prefix = "" if len(stage.phases) == 1 else f"{phase.name}/"
        sums = psum(sums)
        metrics |= {f"{prefix}{log}": value for log, value in sums.items()}
        metrics[f"{prefix}grad_norm"] = optax.tree.norm(grads)
    step = state.step + 1
    state = state.replace(step=step, variables=variables, opt=opt, loss=loss_state)
    if state.ema:
        trained = trained_by(stage)
        state = state.replace(
            ema={
                net: _updated(old, variables[net]["params"], ema_decay) if net in trained else old
                for net, old in state.ema.items()
            }
        )
    return state, metrics


def fit(stage: Stage, state: TrainState, examples: Mapping[str, Any]) -> tuple[TrainState, dict[str, Any]]:
    """Returns the state after the fit of `stage`, and the fit's figures; the fit uses averaged parameters if kept."""
    assert stage.fit is not None
    after, figures = stage.fit(inference_variables(state), examples)
    kept = {name: {**after[name], "params": held["params"]} for name, held in state.variables.items()}
    return state.replace(variables=kept), figures


def _average(params: Any) -> dict[str, Any]:
    return {"params": jax.tree.map(jnp.copy, params), "steps": jnp.zeros((), jnp.int32)}


def _updated(old: dict[str, Any], params: Any, decay: float) -> dict[str, Any]:
    """The average after one more step; its decay warms up over the steps in which this network is trained."""
    steps = old["steps"] + 1
    kept = jnp.minimum(decay, (1.0 + steps) / (10.0 + steps))
    return {"params": optax.incremental_update(params, old["params"], 1.0 - kept), "steps": steps}


def _gradient(phase: Phase, variables: Variables, loss_state: Any, values: Values, key: Array, psum: Any, parts: int):
    """This device's part of the gradient of the mean loss over the real examples of all devices (not yet summed)."""
    params = params_of(variables, phase)
    count = jnp.maximum(psum(jnp.sum(values["mask"])), 1.0)

    def objective(params, variables, loss_state, values):
        variables = {**variables, **{net: {**variables[net], "params": params[net]} for net in phase.trains}}
        values, after = phase.objective.forward(variables, values, key=key, train=frozenset(phase.trains))
        loss, loss_state, logs = phase.objective.loss.apply(loss_state, values)
        sums = {log: jnp.sum(values["mask"] * value) / count for log, value in {**logs, "loss": loss}.items()}
        stats = {net: {k: v for k, v in after[net].items() if k != "params"} for net in phase.trains}
        return sums["loss"], (stats, loss_state, lax.stop_gradient(dict(values)), sums)

    def part(variables, values):
        grads, (stats, after, values, sums) = jax.grad(objective, has_aux=True)(params, variables, loss_state, values)
        variables = {**variables, **{net: {**variables[net], **stats[net]} for net in phase.trains}}
        return variables, grads, after, values, sums

    if parts == 1:
        variables, grads, after, values, sums = part(variables, values)
        return grads, variables, after, values, sums

    def accumulate(carry, values):
        variables, grads, after, values, sums = part(carry[0], values)
        return (variables, jax.tree.map(jnp.add, carry[1], grads)), (after, values, sums)

    split = jax.tree.map(lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]), dict(values))
    start = (dict(variables), jax.tree.map(jnp.zeros_like, params))
    (variables, grads), (after, values, sums) = lax.scan(accumulate, start, split)
    after = jax.tree.map(lambda x: x[-1], after)  # every part starts from the same state: a schedule counts steps
    sums = jax.tree.map(lambda x: jnp.sum(x, axis=0), sums)
    values = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), values)
    return grads, variables, after, values, sums


def predict_step(system: System, variables: Variables, image: Array) -> dict[str, Array]:
    """Returns the system's outputs by name for `image [B, *S, C]`, with every network in inference mode.

    Also returns `found [B]`: 0 where a localiser found nothing and the centre of the volume was used, 1 otherwise.
    """
    values, _ = system.predict(variables, {"image": image}, key=jax.random.key(0), train=frozenset())
    named = {output.name: read(values, output.name) for output in system.outputs}
    return {**named, "found": values.get("found", jnp.ones(image.shape[0]))}


def inference_variables(state: TrainState) -> dict[str, Any]:
    """Returns the variables for prediction: averaged parameters where an average is kept."""
    averaged: Mapping[str, Any] = state.ema
    return {
        name: {
            **collections,
            "params": averaged[name]["params"] if name in averaged else collections["params"],
        }
        for name, collections in state.variables.items()
    }
