"""From a checkpoint to a network that predicts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cardiac_jax import systems
from cardiac_jax.anatomy import anatomical_prior
from cardiac_jax.core.config import to_config
from cardiac_jax.core.step import inference_variables, init_state
from cardiac_jax.core.types import Config, Variables
from cardiac_jax.data.spec import DataSpec, from_json
from cardiac_jax.errors import InputError
from cardiac_jax.train import devices
from cardiac_jax.train.checkpoint import Checkpoints


class Trained(NamedTuple):
    """A checkpoint brought back to life.

    Attributes:
      variables: those of every network, averaged parameters where an average is kept.
      predict: `image [B, *S, C] -> probabilities [B, *S, K]`.
      prior: of valid anatomy, where the system has learnt one.
    """

    config: Config
    description: DataSpec
    about: dict[str, Any]
    step: int
    variables: Variables
    predict: Callable[[np.ndarray], np.ndarray]
    prior: anatomical_prior.Prior | None


def restore(workdir: Path, which: str = "best", on_lost: Callable[[int], None] | None = None) -> Trained:
    """The network of a checkpoint (`best`, `latest` or a step), on however many devices there are.

    `on_lost` hears of volumes in which a localiser found nothing (see `parallel.compile_predict`).

    Raises:
      InputError: there is none, it is damaged, or another system or code version wrote it.
    """
    checkpoints = Checkpoints(workdir)
    step = checkpoints.pick(which)
    about = checkpoints.about(step)
    config = to_config(about["config"])
    description = from_json(about["data"], workdir)
    try:
        system = systems.build(config, description)
    except AttributeError as error:
        if not (error.args and isinstance(error.args[0], KeyError)):  # how a configuration says that it lacks a key
            raise
        problem = f"checkpoint of another version of the code: its configuration lacks {error.args[0].args[0]}"
        raise InputError(workdir, problem) from None
    like = jax.eval_shape(lambda: init_state(system, 0, ema=config.train.ema > 0))
    variables = inference_variables(checkpoints.restore(step, like))
    run = devices.compile_predict(system, on_lost)
    prior = anatomical_prior.prior_of(system, variables, description.spacing_mm or 0.0)
    return Trained(config, description, about, step, variables, lambda image: run(variables, image), prior)
