"""The cases an experiment names: found, split by patient, loaded and brought to the network's grid."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from cardiac_jax.core.types import Config
from cardiac_jax.data import splits
from cardiac_jax.data.case import Case, Dataset, Record
from cardiac_jax.data.labels import merged
from cardiac_jax.data.load import load as load_case
from cardiac_jax.data.preprocess import Grid, Prepared, prepare
from cardiac_jax.data.sets import dataset, phantom
from cardiac_jax.data.spec import DataSpec
from cardiac_jax.data.synthesis import lge_like
from cardiac_jax.errors import InputError
from cardiac_jax.progress import progress, shown

PHANTOM = "runs/phantom"
"""Where the phantom lies by default."""
BEATING = 10
"""Phantom patients with cine: a whole beat takes longer to simulate than a stack."""


class Source(NamedTuple):
    """Prepared cases by split ("train", "val"; test cases are left alone until they are evaluated)."""

    dataset: Dataset
    split: splits.Split
    cases: dict[str, list[Prepared]]


def load(config: Config, seed: int, console: Console, sides: Sequence[str] = ("train", "val")) -> Source:
    """The training and validation cases of `config.data`, or only one of them.

    Raises:
      InputError: the first problem found; `launch.prepare --check` lists them all.
    """
    chosen, root = dataset(config.name, config.classes), Path(config.root)
    if not config.root or (config.name != "phantom" and config.root == PHANTOM and not root.exists()):
        raise InputError("data.root", f"is required: the folder of the data set {config.name}")
    if config.lge_like and tuple(config.sequences) != ("LGE",):
        raise InputError("data.lge_like", f"makes LGE, data.sequences are {tuple(config.sequences)}")
    if config.lge_like and not config.cine_root:
        raise InputError("data.cine_root", "is required: the folder of ACDC whose cine is made LGE-like")
    records = chosen.find(root)
    split = split_of(config, seed, records)
    cases = {}
    for side in sides:
        named = [record for record in records if record.patient in getattr(split, side)]
        cases[side] = prepared(named, chosen, config, console, side)
        if side == "train" and config.lge_like:
            cases[side] += _lge_like(named, chosen, config, seed, console)
    return Source(chosen, split, cases)


def make_phantom(config: Config, seed: int, console: Console) -> None:
    """Writes the phantom, and its cine where that is asked for, if `config` names it and the folder is not there."""
    if config.name != "phantom":
        return
    _simulate(config.root, "mscmr", config.patients, seed, console)
    if config.lge_like:
        _simulate(config.cine_root, "acdc", min(BEATING, config.patients), seed + 1, console)  # other patients


def _simulate(folder: str, layout: str, patients: int, seed: int, console: Console) -> None:
    """Simulated patients in `folder`, whole or not at all; nothing where it exists."""
    root = Path(folder)
    if not folder or root.exists():
        return
    console.print(f"data.name=phantom and {root} is not there: simulating {patients} patients in it")
    partial = root.with_name(f".{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with progress(console) as bar:
        task = bar.add_task("phantom", total=patients, note="")
        phantom.write(partial, layout, patients, seed, on_patient=lambda done: bar.update(task, completed=done))
    partial.rename(root)
    console.print(f"{patients} phantom patients written to {root}")


def split_of(config: Config, seed: int, records: Sequence[Record]) -> splits.Split:
    """Patients of each split: a listed file, the publisher's folders (`fold` -1), or a fold dealt from the seed."""
    if config.splits:
        return splits.read(Path(config.splits), records, max(config.fold, 0))
    return splits.split(records, seed, None if config.fold < 0 else config.fold, config.folds, config.test_share)


def prepared(records: Sequence[Record], chosen: Dataset, config: Config, console: Console, what: str) -> list[Prepared]:
    """Labelled cases on the grid of `config`."""
    grid = _grid(config)
    return [
        prepare(
            load_case(record, chosen, config.sequences, labelled=True),
            grid,
            config.sequences,
            chosen.slice_order,
        )
        for record in shown(records, f"reading {what}", console)
    ]


def _lge_like(
    records: Sequence[Record], chosen: Dataset, config: Config, seed: int, console: Console
) -> list[Prepared]:
    """End-diastolic cine of ACDC, made to look like the training LGE of `records` (see `synthesis.py`)."""
    cine = dataset("acdc")
    references = [load_case(record, chosen, ("LGE",)).images["LGE"] for record in records]
    known = (*cine.classes, "scar")
    table = np.arange(256, dtype=np.uint8)
    table[: len(known)] = [merged(name, chosen.classes) for name in known]
    ends = [record for record in cine.find(Path(config.cine_root)) if record.phase == "ED"]
    found = []
    for record in shown(ends, "making LGE-like images", console):
        case = lge_like(load_case(record, cine, labelled=True), references, seed, scar=known.index("scar"))
        assert case.label is not None
        case = dataclasses.replace(case, label=table[case.label])
        ready = prepare(case, _grid(config), ("LGE",), cine.slice_order)
        found.append(ready._replace(synthetic=True))
    return found


def _grid(config: Config) -> Grid:
    return Grid(config.spacing_mm or None, tuple(config.size), config.clahe, append_clahe=config.append_clahe)


def describe(source: Source, config: Config, frequency: Sequence[int]) -> DataSpec:
    """What a checkpoint says of its training data."""
    classes = source.dataset.classes
    raw = {canonical: value for value, canonical in reversed(list(source.dataset.labels.items()))}
    return DataSpec(
        dataset=source.dataset.name,
        classes=tuple(classes),
        labels=tuple(raw[k] for k in range(len(classes))),
        sequences=tuple(config.sequences),
        slice_order=source.dataset.slice_order,
        spacing_mm=config.spacing_mm or None,
        size=tuple(config.size),
        frequency=tuple(frequency),
        clahe=config.clahe,
        append_clahe=config.append_clahe,
        overlap=config.overlap,
    )


def on_grid(case: Case, description: DataSpec) -> Prepared:
    """A case as the network of a checkpoint wants it."""
    return prepare(case, description.grid, description.sequences, description.slice_order)
