"""Evaluations of the variants of a study: their folders, and whether they exist already."""

from pathlib import Path

from cardiac_jax.results.evaluation import folder_of, read_results
from cardiac_jax.train.checkpoint import Checkpoints


def results(run: Path, split: str) -> Path:
    """Returns the folder of a variant's evaluation on `split`."""
    return run / folder_of(split)


def is_evaluated(run: Path, split: str, tta: int) -> bool:
    """Returns whether the best checkpoint of `run` was already evaluated on `split`, with the same number of copies."""
    folder = results(run, split)
    if not (folder / "cases.json").exists():
        return False
    about = read_results(folder).about
    checkpoints = Checkpoints(run)
    best = checkpoints.pick("best")
    checkpoints.close()
    return about["checkpoint"]["step"] == best and about.get("tta") == tta and about["split"] == split
