"""A run: its work directory from configuration to checkpoint, and back from checkpoint to a network that predicts.

<workdir>/config.json     the configuration, as overridden
<workdir>/split.json      patients of each split
<workdir>/log.jsonl       one line every few steps
<workdir>/checkpoints/    see `checkpoint.py`
"""

import dataclasses
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

import cardiac_jax
from cardiac_jax import anatomical, systems
from cardiac_jax.data import folds, pipeline, source
from cardiac_jax.data.description import Description, from_json
from cardiac_jax.data.files import atomic_write
from cardiac_jax.errors import InputError
from cardiac_jax.system import inference_variables, init_state
from cardiac_jax.train import loop, parallel
from cardiac_jax.train.checkpoint import Checkpoints
from cardiac_jax.train.predict import validator
from cardiac_jax.types import Config, Variables

MOVABLE = ("data.root", "data.cine_root", "train.log_every", "train.tensorboard")
"""Keys that may differ when a run goes on: they change nothing that is learnt."""


def train(config: Config, workdir: Path, console: Console) -> int:
    """Trains `config` in `workdir`, or goes on there.

    Returns:
      0, or the number of the signal that stopped it.

    Raises:
      InputError: the data, a key, or what is in `workdir` already cannot be used.
    """
    _refuse_changes(config, workdir)
    for key in ("batch_size", "accumulate", "eval_every", "log_every", "keep_best"):
        if config.train[key] < 1:
            raise InputError(f"train.{key}", f"{config.train[key]} is less than 1")
    if parallel.is_first_process():
        source.make_phantom(config.data, config.seed, console)
    parallel.barrier("data")
    data = source.load(config.data, config.seed, console)
    volumetric = len(config.data.size) == 3
    examples = (pipeline.volumes if volumetric else pipeline.slices)(data.cases["train"])
    frequency = pipeline.class_frequency(examples, len(data.dataset.classes))
    description = source.describe(data, config.data, frequency)
    system = systems.build(config, description)
    parallel.refuse_uneven(config.train.batch_size, config.train.accumulate)
    # Only now, with nothing left to refuse: a mistake must not leave a folder that its correction cannot use.
    folds.keep(workdir, data.split)
    atomic_write(workdir / "config.json", lambda to: to.write_text(config.to_json(indent=1), encoding="utf-8"))
    about = {
        "system": config.system,
        "config": config.to_dict(),
        "data": dataclasses.asdict(description),
        "splits": data.split._asdict(),
        "code": code_version(),
        "machine": machine(),
    }
    sides = ", ".join(f"{len(cases)} {split} cases" for split, cases in data.cases.items())
    what = f"{len(examples)} {'volumes' if volumetric else 'slices'}"
    console.print(f"{config.system} {config.get('method', '')}: {sides}, {what}; {parallel.describe()}")
    validate = validator(parallel.compile_predict(system), data.cases["val"], description.classes, description.size)
    return loop.train(system, config, examples, validate, workdir, about, console)


class Trained(NamedTuple):
    """A checkpoint brought back to life.

    Attributes:
      variables: those of every network, averaged parameters where an average is kept.
      predict: `image [B, *S, C] -> probabilities [B, *S, K]`.
      prior: of valid anatomy, where the system has learnt one.
    """

    config: Config
    description: Description
    about: dict[str, Any]
    step: int
    variables: Variables
    predict: Callable[[np.ndarray], np.ndarray]
    prior: anatomical.Prior | None


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
    run = parallel.compile_predict(system, on_lost)
    prior = anatomical.prior_of(system, variables, description.spacing_mm or 0.0)
    return Trained(config, description, about, step, variables, lambda image: run(variables, image), prior)


def code_version() -> dict[str, str]:
    """Release, a fingerprint of the package's sources, and the libraries that decide a result."""
    package = Path(cardiac_jax.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    libraries = {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")}
    return {"cardiac-jax": version("cardiac-jax"), "sources": digest.hexdigest()[:16], **libraries}


def machine() -> str:
    """Where this runs, in words: accelerators or processor, how many, how much memory."""
    devices = jax.devices()
    if devices[0].platform != "cpu":
        return f"{len(devices)} x {devices[0].device_kind}"
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} x {platform.machine()} CPU cores, {memory_gb:.0f} GB"


def to_config(data: dict[str, Any]) -> Config:
    """The configuration stored as JSON: lists are tuples again."""

    def cast(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cast(inner) for key, inner in value.items()}
        return tuple(map(cast, value)) if isinstance(value, list) else value

    return ConfigDict(cast(data)).lock()


def _refuse_changes(config: Config, workdir: Path) -> None:
    """Raises InputError if a run with another configuration was started in `workdir`."""
    path = workdir / "config.json"
    if not path.exists():
        return
    try:
        before = dict(flat(to_config(json.loads(path.read_text(encoding="utf-8"))).to_dict()))
    except (ValueError, AttributeError, TypeError):
        raise InputError(path, "is not a configuration in JSON") from None
    now = dict(flat(config.to_dict()))
    changed = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k) and k not in MOVABLE)
    if changed:
        key = changed[0]
        more = f" (and {len(changed) - 1} more keys)" if len(changed) > 1 else ""
        problem = (
            f"this run was started with {key}={before.get(key)!r}, not {now.get(key)!r}{more}; use another --workdir"
        )
        raise InputError(path, problem)


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """(dotted key, value) of a nested configuration."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
