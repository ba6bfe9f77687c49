"""The cases of an experiment: finding, splitting by patient, loading, and resampling to the network's grid."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from cardiac_jax.core.config import words
from cardiac_jax.core.types import Config
from cardiac_jax.data import splits
from cardiac_jax.data.axes import placements
from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.discover import records_of
from cardiac_jax.data.fingerprint import files_of
from cardiac_jax.data.labels import merged
from cardiac_jax.data.load import load as load_case
from cardiac_jax.data.preprocess import Prepared, lost_share, prepare
from cardiac_jax.data.sets import dataset, phantom
from cardiac_jax.data.spec import DataSpec, spec_of
from cardiac_jax.data.synthesis import lge_like
from cardiac_jax.errors import InputError
from cardiac_jax.progress import progress, saying, shown

PHANTOM = "runs/phantom"
"""Default folder of the phantom."""
TWINS = "runs/twins"
"""Folder of twins that is simulated if it does not exist."""
BEATING = 10
"""Largest number of phantom patients with cine: a heart beat takes longer to simulate than a stack."""


class Cohort(NamedTuple):
    """Prepared cases by split ("train", "val"); test cases are only read in evaluation.

    Attributes:
      files: the files of these cases, see `fingerprint.files_of`.
    """

    dataset: Dataset
    split: splits.Split
    spec: DataSpec
    cases: dict[str, list[Prepared]]
    files: dict[str, Path]


def load(config: Config, seed: int, console: Console, sides: Sequence[str] = ("train", "val")) -> Cohort:
    """Returns the cases of `config` (the keys `data`) in the splits `sides`, on the network's grid.

    Raises:
      InputError: a key of `config`, or the first problem found in a file (`launch.prepare --check` lists them all).
    """
    root = Path(config.root)
    chosen = dataset(config.name, words(config.classes), root if config.root else None)
    spec = spec_of(config, chosen)
    if not config.root or (config.name != "phantom" and config.root == PHANTOM and not root.exists()):
        raise InputError("data.root", f"is required: the folder of the data set {config.name}")
    if config.lge_like and spec.sequences != ("LGE",):
        raise InputError("data.lge_like", f"makes LGE, data.sequences are {spec.sequences}")
    if config.lge_like and not config.cine_root:
        raise InputError("data.cine_root", "is required: the folder of ACDC whose cine is made LGE-like")
    records = records_of(chosen, root, saying(console))
    split = split_of(config, seed, records)
    cases: dict[str, list[Prepared]] = {}
    files: dict[str, Path] = {}
    for side in sides:
        named = [record for record in records if record.patient in getattr(split, side)]
        files |= files_of(named, spec.sequences)
        cases[side] = prepared(named, chosen, spec, console, side)
        if side == "train" and config.lge_like:
            cases[side] += _lge_like(named, chosen, spec, config.cine_root, seed, console)
    return Cohort(chosen, split, spec, cases, files)


def make_phantom(config: Config, seed: int, console: Console) -> None:
    """Writes the phantom, and its cine for `lge_like`, if `config` names the phantom and the folder does not exist.

    Twins are simulated only in the folder `TWINS`.
    """
    if config.name == "twins" and config.root == TWINS:
        _simulate(config.root, "hr", config.patients, seed, console)
    if config.name != "phantom":
        return
    _simulate(config.root, "mscmr", config.patients, seed, console)
    if config.lge_like:
        _simulate(config.cine_root, "acdc", min(BEATING, config.patients), seed + 1, console)  # other patients


def _simulate(folder: str, layout: str, patients: int, seed: int, console: Console) -> None:
    """Simulates patients into `folder`, completely or not at all; does nothing if the folder exists."""
    root = Path(folder)
    if not folder or root.exists():
        return
    console.print(f"{root} is not there: simulating {patients} phantom patients in it")
    partial = root.with_name(f".{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with progress(console) as bar:
        task = bar.add_task("phantom", total=patients, note="")
        phantom.write(partial, layout, patients, seed, on_patient=lambda done: bar.update(task, completed=done))
    partial.rename(root)
    console.print(f"{patients} phantom patients written to {root}")


def split_of(config: Config, seed: int, records: Sequence[Record]) -> splits.Split:
    """Returns the patients of each split: from a file, the publisher's folders (`fold` -1), or a random fold by seed.

    Raises:
      InputError: the splits cannot be made from these records.
    """
    if config.splits:
        return splits.read(Path(config.splits), records, max(config.fold, 0))
    return splits.split(records, seed, None if config.fold < 0 else config.fold, config.folds, config.test_share)


def prepared(records: Sequence[Record], chosen: Dataset, spec: DataSpec, console: Console, side: str) -> list[Prepared]:
    """Returns the cases of `records`, all labelled, on the network's grid, cropped about the images' centres.

    Validation cases are whole where prediction uses tiles, and where the crop would leave out labelled voxels. What is
    left out of the training is printed.

    Raises:
      InputError: a file cannot be used.
    """
    training = side == "train"
    found, lost = [], {}
    for record in shown(records, f"reading {side}", console):
        case = load_case(record, chosen, spec.sequences, labelled=True)
        assert case.truth is not None
        ready = prepare(case, spec.grid(whole=spec.tile_overlap > 0 and not training), spec.sequences)
        if share := lost_share(case.truth.data, ready.geometry, placements(case.grid, case.truth)):
            lost[case.id] = share
            ready = ready if training else prepare(case, spec.grid(whole=True), spec.sequences)
        found.append(ready)
    if lost:
        worst = max(lost, key=lambda name: lost[name])
        what = "are not trained on" if training else "validation uses these images as a whole"
        console.print(
            f"{side}: in {len(lost)} of {len(found)} cases, labelled voxels lie outside the central {spec.size} voxels "
            f"of data.size, at most {lost[worst]:.1%} ({worst}); {what}"
        )
    return found


def _lge_like(
    records: Sequence[Record], chosen: Dataset, spec: DataSpec, root: str, seed: int, console: Console
) -> list[Prepared]:
    """LGE-like images from end-diastolic cine of ACDC, matched to the training LGE of `records` (`synthesis.py`)."""
    cine = dataset("acdc")
    references = [load_case(record, chosen, ("LGE",)).images["LGE"] for record in records]
    known = (*cine.classes, "scar")
    table = np.arange(256, dtype=np.uint8)
    table[: len(known)] = [merged(name, chosen.classes) for name in known]
    end_diastole = [record for record in records_of(cine, Path(root), saying(console)) if record.phase == "ED"]
    found = []
    for record in shown(end_diastole, "making LGE-like images", console):
        case = lge_like(load_case(record, cine, labelled=True), references, seed, scar=known.index("scar"))
        assert case.label is not None
        case = dataclasses.replace(case, label=table[case.label])
        found.append(prepare(case, spec.grid(), ("LGE",))._replace(synthetic=True))
    return found
