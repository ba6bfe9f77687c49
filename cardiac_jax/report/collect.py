"""The evaluations under the folders that a user names, and the training logs beside them."""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cardiac_jax.anatomy.mixture_size import Curves
from cardiac_jax.errors import InputError
from cardiac_jax.results import evaluation
from cardiac_jax.train.log import read_log

ROWS = "cases.json"


class Latent(NamedTuple):
    """The mixture that a run fitted to its autoencoder's codes: how its size was found, and what was drawn from it.

    Attributes:
      chosen: components by cross-validation.
      used: components of the mixture in use.
      accept_rate: share of the draws that passed the anatomical check.
      limits: of that check.
    """

    curves: Curves
    chosen: int
    used: int
    accept_rate: float
    limits: dict[str, Any]


class Entry(NamedTuple):
    """One method of a report: what was measured, the lines of its training log (none of another program), and the
    mixture that its run fitted, if there is one."""

    results: evaluation.Results
    log: Sequence[dict[str, Any]]
    latent: Latent | None = None


def collect(folders: Sequence[Path], split: str) -> list[Entry]:
    """The evaluations in `folders`: of each, what `evaluate` wrote there, or in a run's `evaluation_<split>`, or in
    those of a study's runs. The folds of one method are pooled.

    Raises:
      InputError: a folder holds no evaluation, or two are of different structures.
    """
    entries = [_entry(group) for root in folders for group in _evaluations(root, split)]
    twice = [name for name, n in collections.Counter(e.results.name for e in entries).items() if n > 1]
    entries = [_renamed(entry) if entry.results.name in twice else entry for entry in entries]
    first = entries[0].results
    for entry in entries:
        if entry.results.structures != first.structures:
            problem = (
                f"measures {', '.join(entry.results.structures)}, {first.folder} {', '.join(first.structures)}; "
                "a dataset.json or --data.name gives label values their names"
            )
            raise InputError(entry.results.folder, problem)
    measured = [{row["case"] for row in entry.results.rows} for entry in entries]
    if not set.intersection(*measured):
        raise InputError(
            entries[-1].results.folder, "shares no case with the other evaluations: there is nothing to compare"
        )
    return entries


def systems_of(entries: Sequence[Entry]) -> list[str]:
    """The systems behind the entries, each once; none of another program's label maps."""
    named = [entry.results.about.get("config", {}).get("system") for entry in entries]
    return sorted({name for name in named if name})


def ordered(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """Entries in the order of `names`; others follow as they come."""
    place = {name: i for i, name in enumerate(names)}
    return sorted(entries, key=lambda entry: place.get(entry.results.name, len(place)))


def _evaluations(root: Path, split: str) -> list[list[Path]]:
    """Folders of the evaluations under `root`, one group per method."""
    if not root.is_dir():
        raise InputError(root, "no such folder")
    inside = evaluation.folder_of(split)
    deeper = [[f"fold*/{inside}"], [f"*/{inside}", f"*/fold*/{inside}"]]
    places = [[root], [root / inside], *([p for pattern in some for p in root.glob(pattern)] for some in deeper)]
    for candidates in places:
        found = sorted(path for path in candidates if (path / ROWS).is_file())
        groups: dict[Path, list[Path]] = {}
        for path in found:
            run = path.parent
            groups.setdefault(run.parent if run.name.startswith("fold") else run, []).append(path)
        if groups:
            return list(groups.values())
    raise InputError(root, f"holds no {ROWS}, here or in {inside}: run launch.evaluate first")


def _entry(folders: Sequence[Path]) -> Entry:
    pooled = evaluation.pooled([evaluation.read_results(folder) for folder in folders])
    workdir = pooled.about.get("workdir")
    if not workdir:
        return Entry(pooled, [])
    return Entry(pooled, read_log(Path(workdir) / "log.jsonl"), latent_of(pooled))


def latent_of(results: evaluation.Results) -> Latent | None:
    """The mixture of an evaluation's run, from the figures of its fits; None where it has none.

    Raises:
      InputError: the figures are damaged.
    """
    held = next((fit for fit in results.about.get("fits", {}).values() if "nll" in fit), None)
    if held is None:
        return None
    where = results.folder / ROWS
    try:
        nll, aic = (np.asarray(held[name], np.float64) for name in ("nll", "aic"))
        sizes = tuple(int(size) for size in held["sizes"])
        counts = int(held["components_by_cv"]), int(held["components"])
        latent = Latent(Curves(sizes, nll, aic), *counts, float(held["accept_rate"]), dict(held["limits"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        problem = "is no record of a mixture: sizes, nll, aic, components, accept_rate, limits"
        raise InputError(where, problem) from None
    if nll.ndim != 2 or nll.shape != aic.shape or len(nll) != len(sizes):
        raise InputError(where, f"holds {len(sizes)} sizes, but curves of shapes {nll.shape} and {aic.shape}")
    return latent


def _renamed(entry: Entry) -> Entry:
    """Told apart by the folder: two seeds of one method."""
    folder = entry.results.folder.resolve()
    place = folder.parent if folder.name.startswith(evaluation.folder_of("")) else folder
    place = place.parent if place.name.startswith("fold") else place
    return entry._replace(results=entry.results._replace(name=f"{entry.results.name} ({place.name})"))
