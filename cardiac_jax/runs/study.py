"""Evaluations of the variants of a study: their folders, commands, and whether they exist already."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from cardiac_jax.results.evaluation import folder_of, read_results
from cardiac_jax.runs.train import named_code
from cardiac_jax.train.checkpoint import Checkpoints


def results(run: Path, split: str) -> Path:
    """Returns the folder of a variant's evaluation on `split`."""
    return run / folder_of(split)


def evaluation(run: Path, split: str, tta: int) -> list[str]:
    """Returns the command that evaluates `run`, which was trained by the study: code that it names may be imported."""
    words = ["launch.evaluate", f"--workdir={run}", f"--split={split}", f"--out={results(run, split)}", f"--tta={tta}"]
    config = ConfigDict(json.loads((run / "config.json").read_text(encoding="utf-8")))
    own = [name for name in named_code(config) if ":" in name]
    return [*words, f"--use={','.join(own)}"] if own else words


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
