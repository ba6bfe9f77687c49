"""A training run in its work directory.

<workdir>/config.json     the configuration, as overridden
<workdir>/split.json      patients of each split
<workdir>/data.json       digests of the files of these patients
<workdir>/log.jsonl       one line every few steps
<workdir>/checkpoints/    see `train/checkpoint.py`
"""

import dataclasses
import hashlib
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

import cardiac_jax
from cardiac_jax import systems
from cardiac_jax.core.config import flat, to_config, words
from cardiac_jax.core.registry import allow
from cardiac_jax.core.types import Config
from cardiac_jax.data import cohort, fingerprint, pipeline, splits
from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.errors import InputError
from cardiac_jax.inference.predict import validator
from cardiac_jax.runs.warm_start import warm_start
from cardiac_jax.train import devices, loop
from cardiac_jax.train.checkpoint import Checkpoints, folder

MOVABLE = ("data.root", "data.cine_root", "train.log_every", "train.tensorboard")
"""Keys that may differ when a run is resumed: they do not affect the trained weights."""
GROWING = ("train.steps",)
"""Keys that may increase when a run is resumed: the last stage gets more steps, with the longer schedule."""


def train_run(config: Config, workdir: Path, console: Console) -> int:
    """Trains `config` in `workdir`, or resumes the run there.

    Returns:
      0, or the number of the signal that stopped training.

    Raises:
      InputError: the data, a key, or the existing run in `workdir` cannot be used; nothing is written
        to `workdir` then.
    """
    allow(named_code(config))
    resuming = _has_checkpoint(workdir)
    if resuming:
        _refuse_changes(config, workdir)
    for key in ("batch_size", "accumulate", "eval_every", "log_every", "keep_best"):
        if config.train[key] < 1:
            raise InputError(f"train.{key}", f"{config.train[key]} is less than 1")
    if devices.is_first_process():
        cohort.make_phantom(config.data, config.seed, console)
    devices.barrier("data")
    data = cohort.load(config.data, config.seed, console)
    digests = fingerprint.digests(data.files)
    if resuming:
        fingerprint.refuse_changes(workdir, data.files, digests)
    examples = (pipeline.volumes if data.spec.is_volumetric else pipeline.slices)(data.cases["train"])
    frequency = pipeline.class_frequency(examples, data.spec.classes_count)
    spec = dataclasses.replace(data.spec, frequency=frequency)
    system = systems.build_system(config, spec)
    devices.refuse_uneven(config.train.batch_size, config.train.accumulate)
    start_from, origins = warm_start(config, system, console)
    about = {
        "system": config.system,
        "config": config.to_dict(),
        "data": dataclasses.asdict(spec),
        "splits": data.split._asdict(),
        "init": origins,
        "code": code_version(),
        "machine": machine(),
    }
    sides = ", ".join(f"{len(cases)} {split} cases" for split, cases in data.cases.items())
    what = f"{len(examples)} {'volumes' if spec.is_volumetric else 'slices'}"
    console.print(f"{config.system} {config.get('method', '')}: {sides}, {what}; {devices.describe()}")
    validate = validator(devices.compile_predict(system), system.outputs, data.cases["val"], spec)

    def begin() -> None:
        """Writes splits, digests and configuration of the run; called after all checks have passed."""
        splits.keep(workdir, data.split)
        fingerprint.keep(workdir, digests)
        atomic_write(workdir / "config.json", lambda to: to.write_text(config.to_json(indent=1), encoding="utf-8"))

    return loop.train(system, config, examples, validate, workdir, about, console, start_from, begin)


def named_code(config: Config) -> tuple[str, ...]:
    """Returns the names in a configuration that can refer to a user's code: system, networks, terms, data set."""
    model, localiser = config.get("model", {}), config.get("localiser", {})
    terms = (word.partition("=")[0] for word in words(config.get("terms", ())))
    found = (config.system, model.get("net", ""), localiser.get("net", ""), config.data.name, *terms)
    return tuple(filter(None, found))


def code_version() -> dict[str, str]:
    """Returns the release, a fingerprint of the package's sources, and the versions of the numerical libraries."""
    package = Path(cardiac_jax.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    libraries = {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")}
    return {"cardiac-jax": version("cardiac-jax"), "sources": digest.hexdigest()[:16], **libraries}


def machine() -> str:
    """Returns a description of the machine: number and kind of accelerators, or CPU cores and memory."""
    devices = jax.devices()
    if devices[0].platform != "cpu":
        return f"{len(devices)} x {devices[0].device_kind}"
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} x {platform.machine()} CPU cores, {memory_gb:.0f} GB"


def _has_checkpoint(workdir: Path) -> bool:
    """Whether `workdir` has a checkpoint; a run without one may be started again with other keys."""
    if not folder(workdir).is_dir():
        return False
    checkpoints = Checkpoints(workdir)
    found = checkpoints.latest() is not None
    checkpoints.close()
    return found


def _refuse_changes(config: Config, workdir: Path) -> None:
    """Raises InputError if the run in `workdir` has another configuration."""
    path = workdir / "config.json"
    if not path.exists():
        return
    try:
        before: dict[str, Any] = dict(flat(to_config(json.loads(path.read_text(encoding="utf-8"))).to_dict()))
    except (ValueError, AttributeError, TypeError):
        raise InputError(path, "is not a configuration in JSON") from None
    now: dict[str, Any] = dict(flat(config.to_dict()))
    changed = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k) and k not in MOVABLE)
    changed = [k for k in changed if not (k in GROWING and k in before and now[k] > before[k])]
    if changed:
        key = changed[0]
        more = f" (and {len(changed) - 1} more keys)" if len(changed) > 1 else ""
        problem = (
            f"this run was started with {key}={before.get(key)!r}, not {now.get(key)!r}{more}; use another --workdir"
        )
        raise InputError(path, problem)
