"""Variants side by side: which there are, and which of them are evaluated already."""

from pathlib import Path

from cardiac_jax.results.evaluation import folder_of, read_results
from cardiac_jax.train.checkpoint import Checkpoints


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
