"""Finds the evaluations in the given folders, and the training logs of their runs."""

import collections
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cardiac_jax.anatomy.mixture_size import Curves
from cardiac_jax.errors import InputError
from cardiac_jax.metrics.summary import patient_by_case, patient_of
from cardiac_jax.results import evaluation
from cardiac_jax.train.log import read_log

ROWS = "cases.json"


class Latent(NamedTuple):
    """Mixture model that a run fitted to the codes of its autoencoder.

    Attributes:
      curves: cross-validation curves over the number of components.
      chosen: number of components selected by cross-validation.
      used: number of components of the mixture in use.
      accept_rate: fraction of the samples that passed the anatomical check.
      limits: limits of that check.
    """

    curves: Curves
    chosen: int
    used: int
    accept_rate: float
    limits: dict[str, Any]


class Entry(NamedTuple):
    """One method of a report.

    Attributes:
      results: its evaluation.
      log: records of its training log; empty for label maps of another program.
      latent: the mixture model of its run, if there is one.
    """

    results: evaluation.Results
    log: Sequence[dict[str, Any]]
    latent: Latent | None = None


def collect(folders: Sequence[Path], split: str) -> list[Entry]:
    """The evaluations in `folders`, one entry per method; the folds of a method are pooled.

    Each folder is an evaluation itself, a run with `evaluation_<split>`, or a study of such runs.

    Raises:
      InputError: a folder has no evaluation, two evaluations differ in their structures, or no case is in all of them.
    """
    entries = [_entry(group) for root in folders for group in _evaluations(root, split)]
    twice = [name for name, n in collections.Counter(e.results.name for e in entries).items() if n > 1]
    entries = [_renamed(entry) if entry.results.name in twice else entry for entry in entries]
    first = entries[0].results
    for entry in entries:
        if entry.results.of_images != first.of_images:
            kinds = ("images", "label maps") if entry.results.of_images else ("label maps", "images")
            problem = f"measures {kinds[0]}, but {first.folder} measures {kinds[1]}; report them apart"
            raise InputError(entry.results.folder, problem)
        if entry.results.structures != first.structures:
            problem = (
                f"measures {', '.join(entry.results.structures)}, but {first.folder} measures "
                f"{', '.join(first.structures)}; name the label values with a dataset.json or --data.name"
            )
            raise InputError(entry.results.folder, problem)
    measured = [{row["case"] for row in entry.results.rows} for entry in entries]
    if not set.intersection(*measured):
        raise InputError(entries[-1].results.folder, "has no case in common with the other evaluations")
    return _with_patients(entries)


def systems_of(entries: Sequence[Entry]) -> list[str]:
    """Sorted names of the entries' systems, without duplicates; label maps of another program have none."""
    named = [entry.results.about.get("config", {}).get("system") for entry in entries]
    return sorted({name for name in named if name})


def ordered(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """Entries in the order of `names`, followed by the others in their order."""
    rank = {name: i for i, name in enumerate(names)}
    return sorted(entries, key=lambda entry: rank.get(entry.results.name, len(rank)))


def _evaluations(root: Path, split: str) -> list[list[Path]]:
    """Folders of the evaluations in `root`, one group per method."""
    if not root.is_dir():
        raise InputError(root, "no such folder")
    inside = evaluation.folder_of(split)
    deeper = [[f"fold*/{inside}"], [f"*/{inside}", f"*/fold*/{inside}"]]
    levels = [[root], [root / inside], *([p for pattern in some for p in root.glob(pattern)] for some in deeper)]
    for candidates in levels:
        found = sorted(path for path in candidates if (path / ROWS).is_file())
        groups: dict[Path, list[Path]] = {}
        for path in found:
            run = path.parent
            groups.setdefault(run.parent if run.name.startswith("fold") else run, []).append(path)
        if groups:
            return list(groups.values())
    raise InputError(root, f"has no {ROWS}, directly or in {inside}; run launch.evaluate first")


def _with_patients(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with one patient per case: what one evaluation knows holds for those that know none.

    Label maps evaluated as plain files have no patients: there `patient` is the case itself.
    """
    known = {
        case: patient
        for entry in entries
        for case, patient in patient_by_case(entry.results.rows).items()
        if patient != case
    }
    return [entry._replace(results=_of_patients(entry.results, known)) for entry in entries]


def _of_patients(results: evaluation.Results, known: Mapping[str, str]) -> evaluation.Results:
    """The results with the patients of `known` (case -> patient) where a row names its case as the patient."""
    kinds = (
        tuple(
            row if patient_of(row) != row["case"] else {**row, "patient": known.get(str(row["case"]), row["case"])}
            for row in rows
        )
        for rows in results.measured
    )
    return results._replace(measured=evaluation.Measured(*kinds))


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
        problem = "is not a mixture record with sizes, nll, aic, components, accept_rate and limits"
        raise InputError(where, problem) from None
    if nll.ndim != 2 or nll.shape != aic.shape or len(nll) != len(sizes):
        raise InputError(where, f"has {len(sizes)} sizes, but curves of shapes {nll.shape} and {aic.shape}")
    return latent


def _renamed(entry: Entry) -> Entry:
    """The entry with its folder appended to its name, to distinguish e.g. two seeds of one method."""
    folder = entry.results.folder.resolve()
    run = folder.parent if folder.name.startswith(evaluation.folder_of("")) else folder
    run = run.parent if run.name.startswith("fold") else run
    return entry._replace(results=entry.results._replace(name=f"{entry.results.name} ({run.name})"))
