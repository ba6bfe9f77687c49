"""Lookup of experiments by name or file: `experiments/NAME.py`, in the checkout or installed with the package."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from cardiac_jax.core.types import Config
from cardiac_jax.errors import InputError


def experiment_file(name: str) -> Path | None:
    """Returns the file of the experiment `name`; None if there is none."""
    try:
        spec = importlib.util.find_spec(f"experiments.{name}")
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def load_experiment(path: Path) -> ModuleType:
    """Returns the module of an experiment's file."""
    spec = importlib.util.spec_from_file_location("experiment", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def study_of(path: Path) -> ModuleType:
    """Returns an experiment with `STUDY = {variant: words}`; `get_config(words)` is the variant's configuration.

    Raises:
      InputError: the experiment has no `STUDY`.
    """
    module = load_experiment(path)
    if not hasattr(module, "STUDY"):
        raise InputError(path, "names no STUDY: this experiment has no variants to compare")
    return module


def paper_of(system: str) -> ModuleType | None:
    """Returns the experiment of a system if it has published figures; None otherwise, e.g. for a user's system."""
    path = experiment_file(system) if system.isidentifier() else None
    module = load_experiment(path) if path is not None else None
    return module if module is not None and hasattr(module, "PUBLISHED") else None


def experiment(name: str, words: str = "", **changes: Any) -> Config:
    """Returns a configuration, e.g. `experiment("srscn", "method=unet,preset=cpu", **{"data.root": DIR})`.

    Args:
      name: name of a shipped experiment, or a file.
      words: the text after the colon of `--config=NAME:...`.
      changes: dotted keys and their values.

    Raises:
      InputError: there is no such experiment, word or key.
    """
    path = Path(name) if name.endswith(".py") else experiment_file(name)
    if path is None or not path.is_file():
        raise InputError(name, "is no experiment")
    config = load_experiment(path).get_config(words)
    for key, value in changes.items():
        try:
            config.update_from_flattened_dict({key: value})
        except (KeyError, AttributeError, TypeError) as error:
            raise InputError(key, f"cannot be set in {name}: {error}") from None
    return config
