"""What several systems are put together from, beyond networks and losses."""

import jax.numpy as jnp

from cardiac_jax.data.augment import Augment, augment_batch
from cardiac_jax.errors import InputError
from cardiac_jax.passes import random
from cardiac_jax.train.optim import optimizer
from cardiac_jax.types import Array, Config, Objective, Pass, Phase


def augment(config: Augment) -> Pass:
    """Warps image and label together, each example by its own key; everything else stays."""

    def both(keys: Array, image: Array, label: Array) -> tuple[Array, Array]:
        image, warped = augment_batch(image, label.astype(jnp.int32), keys, config)
        assert warped is not None
        return image, warped

    return random(both, ["image", "label"], ["image", "label"])


def phase(name: str, trains: tuple[str, ...], objective: Objective, config: Config, steps: int) -> Phase:
    """A phase with the optimiser that `config` names, its schedule over `steps`."""
    return Phase(name, trains, objective, optimizer(config, steps))


def precision(name: str) -> jnp.dtype:
    """The type that networks compute in; raises InputError."""
    if name not in ("float32", "bfloat16"):
        raise InputError("model.dtype", f"{name!r} is not one of float32, bfloat16")
    return jnp.dtype(name)
