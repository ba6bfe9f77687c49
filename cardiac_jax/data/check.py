"""Checks a data set: lists its cases, all problems of its files, and notes on files that are used as they are.

Notes say what was not read, what a file does not tell (`io/geometry.py`), and which annotation is not placed as in
hearts (`plausible.py`).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cardiac_jax import notes
from cardiac_jax.core.types import IGNORE
from cardiac_jax.data import plausible
from cardiac_jax.data.case import Case, Dataset
from cardiac_jax.data.discover import discover
from cardiac_jax.data.labels import roles
from cardiac_jax.data.load import inspect
from cardiac_jax.data.orientation import APEX_UNKNOWN
from cardiac_jax.errors import InputError


class Row(NamedTuple):
    """One readable case.

    Attributes:
      shape, spacing_mm: number and size of voxels along Z, H, W.
      annotated, fully_annotated: number of slices (of the label) with any annotated voxel, and with all annotated.
      voxels: number of voxels of each class.
    """

    id: str
    split: str
    group: str
    sequences: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    annotated: int
    fully_annotated: int
    voxels: tuple[int, ...]


class Findings(NamedTuple):
    """Readable cases, all problems found, and notes: lines about files that were not read or do not tell everything."""

    rows: list[Row]
    problems: list[InputError]
    notes: list[str]


def check(dataset: Dataset, root: Path, sequences: Sequence[str] | None = None, *, labelled: bool = True) -> Findings:
    """Reads every file of the data set under `root` and returns cases and problems; faults of files are not raised.

    Args:
      sequences: sequences that every case must have, on one grid; None: each image is checked separately, unless the
        data set is `registered`.
      labelled: whether a case outside the publisher's test folder needs a label.
    """
    try:
        records, problems, lines = discover(dataset, root)
    except InputError as error:
        return Findings([], [error], [])
    rows: list[Row] = []
    beating: dict[str, dict[str, float]] = {}
    unknown = 0
    if sequences is None and dataset.registered:
        sequences = dataset.sequences
    with notes.collected() as told:
        for record in records:
            needed = labelled and bool(dataset.labels) and record.split != "test"
            order = list(sequences) if sequences is not None else list(record.images)
            case, faults = inspect(record, dataset, order if sequences else order[:1], labelled=needed)
            problems += faults
            for other in order[1:] if not sequences else ():
                problems += inspect(replace(record, label=None), dataset, [other])[1]
            if case is None:
                continue
            rows.append(_row(case, list(record.images), dataset))
            doubt = _doubt(case, dataset, beating.setdefault(record.patient, {}))
            problems += [InputError(record.label or case.source, doubt)] if doubt else []
            unknown += not case.frame.apex_known
            if case.truth is not None and case.frame.apex_known and not doubt:
                for note in plausible.placed_otherwise(case.truth.data, dataset.classes):
                    notes.say(record.label or case.source, note)
    lines += [f"{where}: {note}" for where, note in told]
    if unknown and {"myo", "lv"} & roles(dataset.classes).keys():
        lines.append(f"{root}: {unknown} cases {APEX_UNKNOWN}")
    return Findings(rows, problems, lines)


def _doubt(case: Case, dataset: Dataset, ml: dict[str, float]) -> str:
    """A line if the label map cannot be what its names say, else ""; adds the LV's volume at this phase to `ml`."""
    truth = case.truth
    if truth is None or "LV" not in dataset.classes:
        return ""
    whole = truth.data[(truth.data != IGNORE).all(axis=(1, 2))]
    if case.phase:
        voxels = np.count_nonzero(whole == dataset.classes.index("LV"))
        ml[case.phase] = voxels * float(np.prod(truth.spacing_mm)) / 1000
    return plausible.exchanged(plausible.wall_edges(whole, dataset.classes)) or plausible.phases_exchanged(ml)


def _row(case: Case, sequences: Sequence[str], dataset: Dataset) -> Row:
    annotated = fully_annotated = 0
    voxels: tuple[int, ...] = ()
    if case.truth is not None:
        label = case.truth.data
        drawn = (label != IGNORE).reshape(len(label), -1)
        annotated, fully_annotated = int(drawn.any(axis=1).sum()), int(drawn.all(axis=1).sum())
        voxels = tuple(int(n) for n in np.bincount(label.ravel(), minlength=256)[: len(dataset.classes)])
    return Row(
        id=case.id,
        split=case.split or "",
        group=case.group or "",
        sequences=" ".join(sequences),
        shape=case.shape,
        spacing_mm=case.spacing_mm,
        annotated=annotated,
        fully_annotated=fully_annotated,
        voxels=voxels,
    )
