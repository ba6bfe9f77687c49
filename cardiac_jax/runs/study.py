"""Variants side by side: which there are, and which of them are evaluated already."""

import importlib.util
from pathlib import Path
from types import ModuleType

from cardiac_jax.errors import InputError
from cardiac_jax.results.evaluation import folder_of, read_results
from cardiac_jax.train.checkpoint import Checkpoints


def experiment(path: str) -> ModuleType:
    """The experiment's file, whose `STUDY = {name: words}` has the rows of its table: `get_config(words)` is one.

    Raises:
      InputError: it names none.
    """
    spec = importlib.util.spec_from_file_location("experiment", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "STUDY"):
        raise InputError(path, "names no STUDY: this experiment has no variants to compare")
    return module


def results(run: Path, split: str) -> Path:
    """Where a variant's evaluation lies."""
    return run / folder_of(split)


def is_evaluated(run: Path, split: str, flips: bool) -> bool:
    """Whether the best checkpoint of `run` has been evaluated on `split` already."""
    folder = results(run, split)
    if not (folder / "cases.json").exists():
        return False
    about = read_results(folder).about
    checkpoints = Checkpoints(run)
    best = checkpoints.pick("best")
    checkpoints.close()
    return about["checkpoint"]["step"] == best and about["flips"] == flips and about["split"] == split
