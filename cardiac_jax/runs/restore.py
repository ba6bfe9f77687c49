"""Restores trained models from checkpoints."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from cardiac_jax import systems
from cardiac_jax.core.config import to_config
from cardiac_jax.core.step import inference_variables, init_state
from cardiac_jax.core.types import Config, Decoder, Output, System, Variables
from cardiac_jax.data.spec import DataSpec, from_json
from cardiac_jax.errors import InputError
from cardiac_jax.inference.copies import PredictAll, averaged, drawn
from cardiac_jax.runs.upgrade import upgraded
from cardiac_jax.train import devices
from cardiac_jax.train.checkpoint import OLDEST, Checkpoints


class Trained(NamedTuple):
    """A restored checkpoint.

    Attributes:
      workdir: work directory of the training run.
      about: the JSON stored with the weights.
      variables: variables of every network, with averaged parameters where an average is kept.
      predict: `image [B, *S, C]` -> the system's outputs by name; with `tta`, averaged over copies.
      look: the same without copies and without a word about a localiser that finds nothing, to look for the heart.
      decoders: name of an output -> its decoder.
    """

    workdir: Path
    config: Config
    spec: DataSpec
    about: dict[str, Any]
    step: int
    system: System
    variables: Variables
    predict: PredictAll
    look: PredictAll
    decoders: Mapping[str, Decoder]

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The system's outputs, the main output first."""
        return self.system.outputs

    @property
    def name(self) -> str:
        """The method's name in tables."""
        return self.config.get("method", self.config.system)

    @property
    def fits(self) -> dict[str, Any]:
        """Figures of the fits, by stage."""
        return self.about["fits"]


def restore(
    workdir: Path,
    which: str = "best",
    on_lost: Callable[[int], None] | None = None,
    post: Mapping[str, Any] | None = None,
    tta: int = 0,
) -> Trained:
    """Returns the model of a checkpoint (`best`, `latest` or a step), on any number of devices.

    Args:
      on_lost: called with the number of volumes in which a localiser found nothing (see `devices.compile_predict`).
      post: values that replace those under `config.post`.
      tta: number of moved copies over which predictions are averaged (see `inference/copies.py`); 0: none.

    Raises:
      InputError: there is no checkpoint, it is damaged, it was written by another system or code version, the system
        has no such post-processing, or it was trained without moved images and `tta` is above 0.
    """
    checkpoints = Checkpoints(workdir)
    step = checkpoints.pick(which)
    about, variables = checkpoints.about(step), None
    if about["format"] == OLDEST:
        stored = checkpoints.tree(step)
        try:
            about, variables = upgraded(about, stored)
        except KeyError as error:
            problem = f"checkpoint of another version of the code: it lacks {error.args[0]}"
            raise InputError(workdir, problem) from None
    config = to_config(about["config"])
    for key, value in (post or {}).items():
        if key not in config.post:
            raise InputError(f"--{key}", f"{workdir} is a run of {config.system}, which learns no anatomical prior")
        with config.unlocked():
            config.post[key] = value
    spec = from_json(about["data"], workdir)
    try:
        system = systems.build_system(config, spec)
    except AttributeError as error:
        if not (error.args and isinstance(error.args[0], KeyError)):  # ml_collections raises this for a missing key
            raise
        problem = f"checkpoint of another version of the code: its configuration lacks {error.args[0].args[0]}"
        raise InputError(workdir, problem) from None
    if variables is None:
        like = jax.eval_shape(lambda: init_state(system, 0, ema=config.train.ema > 0))
        variables = inference_variables(checkpoints.restore(step, like))
    run = devices.compile_predict(system, on_lost)
    decoders = {output.name: output.decoder(variables, about["fits"]) for output in system.outputs}
    predict, look = (partial(run, variables, quiet=quiet) for quiet in (False, True))
    if tta:
        predict = averaged(predict, system.outputs, drawn(config, tta))
    return Trained(workdir, config, spec, about, step, system, variables, predict, look, decoders)


def restore_all(
    workdirs: Sequence[Path],
    which: str = "best",
    on_lost: Callable[[int], None] | None = None,
    post: Mapping[str, Any] | None = None,
    tta: int = 0,
) -> list[Trained]:
    """Returns the members of an ensemble, one per work directory.

    Raises:
      InputError: as for `restore`; or the members differ in classes, label values or outputs.
    """
    members = [restore(workdir, which, on_lost, post, tta) for workdir in workdirs]
    first = members[0]
    for other in members[1:]:
        if (other.spec.classes, other.spec.labels) != (first.spec.classes, first.spec.labels):
            raise InputError(other.workdir, f"segments other classes than {first.workdir}")
        if [output.name for output in other.outputs] != [output.name for output in first.outputs]:
            raise InputError(other.workdir, f"has other outputs than {first.workdir}")
    return members
