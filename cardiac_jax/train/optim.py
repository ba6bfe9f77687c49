"""Optimisers from the configuration: Adam or SGD, learning-rate schedule, clipping, decoupled weight decay."""

import optax

from cardiac_jax.core.types import Config, Objective, Phase
from cardiac_jax.errors import InputError


def schedule(config: Config, steps: int) -> optax.Schedule:
    """Returns the learning rate by step: linear warm-up, then `config.schedule`.

    Args:
      config: `lr`, `schedule` (constant | cosine | poly | step), `warmup` (fraction of `steps`).
      steps: length of the stage.

    Raises:
      InputError: the schedule is unknown.
    """
    warm = round(config.warmup * steps)
    rest = max(steps - warm, 1)
    after = {
        "constant": lambda: optax.constant_schedule(config.lr),
        "cosine": lambda: optax.cosine_decay_schedule(config.lr, rest),
        "poly": lambda: optax.polynomial_schedule(config.lr, 0.0, 0.9, rest),
        "step": lambda: optax.piecewise_constant_schedule(config.lr, {rest // 2: 0.1, 3 * rest // 4: 0.1}),
    }
    if config.schedule not in after:
        raise InputError("optim.schedule", f"{config.schedule!r} is not one of {', '.join(after)}")
    if not warm:
        return after[config.schedule]()
    return optax.join_schedules([optax.linear_schedule(0.0, config.lr, warm), after[config.schedule]()], [warm])


def optimizer(config: Config, steps: int) -> optax.GradientTransformation:
    """Returns the optimiser: clipping by global norm, Adam or SGD (Nesterov momentum 0.9), decoupled weight decay.

    Args:
      config: `name` (adam | sgd), `clip` (0: none), `weight_decay` (0: none) and the keys of `schedule`.
      steps: length of the stage.

    Raises:
      InputError: the optimiser or the schedule is unknown.
    """
    rate = schedule(config, steps)
    if config.name not in ("adam", "sgd"):
        raise InputError("optim.name", f"{config.name!r} is not one of adam, sgd")
    scale = optax.scale_by_adam() if config.name == "adam" else optax.trace(decay=0.9, nesterov=True)
    parts = [optax.clip_by_global_norm(config.clip)] if config.clip else []
    parts.append(scale)
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay))
    return optax.chain(*parts, optax.scale_by_learning_rate(rate))


def phase(name: str, trains: tuple[str, ...], objective: Objective, config: Config, steps: int) -> Phase:
    """Returns a phase with the optimiser that `config` names and its schedule over `steps`."""
    return Phase(name, trains, objective, optimizer(config, steps))
