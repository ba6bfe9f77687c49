"""Predicted label maps of any program, paired with the gold standard; `label_names.py` tells what their values mean.

pred/<case>.nii.gz       or .nii, .nrrd, .mha, .mhd with .raw
truth/<case>.nii.gz      gold standard of the same name; or the folder of a known data set, whose case ids (or the
                         names of whose images) are the names
images/<case>.nii.gz     image of the same name, <case>_LGE, or channels <case>_0000 as in nnU-Net; optional
dataset.json             names of the label values (`sets/description.py`); in `truth` or `pred`, or the folder above
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cardiac_jax.data import label_names
from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.discover import discover, files
from cardiac_jax.data.io import formats, volume
from cardiac_jax.data.label_names import Coding, Told
from cardiac_jax.data.load import canonical_labels, label_values
from cardiac_jax.data.regrid import on_grid
from cardiac_jax.data.sets import description, entries, folder
from cardiac_jax.data.sets.description import Labels
from cardiac_jax.data.stack import Stack, from_volume
from cardiac_jax.errors import InputError

MOST_LABELS = 64
_PHASE = re.compile(r"(?P<patient>.+?)_(?:(?P<phase>E[DS])|frame_?\d+)(?:_gt)?", re.IGNORECASE)


class Pair(NamedTuple):
    """One case: its id, both label maps, its images by sequence, and its record if `truth` is a data set's folder."""

    id: str
    pred: Path
    truth: Path
    images: Mapping[str, Path]
    record: Record | None = None


class Maps(NamedTuple):
    """Predictions paired with the gold standard.

    Attributes:
      dataset: gives the classes, and the label values of the gold standard.
      coding: also the label values of the predictions, and structures that overlap.
      pairs: sorted by id.
      missing: ids of annotated cases without a prediction, sorted.
      failed: case or file -> why it cannot be measured.
      notes: lines about files that were not read and names that were mapped.
    """

    dataset: Dataset
    coding: Coding
    pairs: list[Pair]
    missing: list[str]
    failed: dict[str, InputError]
    notes: list[str]


class Listed(NamedTuple):
    """Label maps of a folder: case -> file, file -> its fault, and lines about what was not read."""

    files: dict[str, Path]
    failed: dict[str, InputError]
    notes: list[str]


def find(
    pred: Path,
    truth: Path,
    images: Path | None = None,
    chosen: Dataset | None = None,
    split: str = "all",
    labels: Labels | None = None,
    truth_labels: Labels | None = None,
) -> Maps:
    """Return the pairs of predictions and gold standards with the same name.

    Args:
      pred, truth, images: folders, see the module docstring.
      chosen: the data set if `truth` is a data set's folder; None if it is a folder of label maps.
      split: "train", "val", "test" or "all"; for data sets whose publisher's folders define a split.
      labels: label values of the predictions, and of a folder `truth` that nothing else describes.
      truth_labels: label values of the folder `truth`.

    Raises:
      InputError: a folder has no label map, no prediction has a gold standard, no image has the name of a case, or the
        label values of predictions and gold standard cannot be matched.
    """
    predictions, failed, notes = listed(pred)
    records: dict[str, Record] = {}
    if chosen is None:
        gold = listed(truth)
        truths, pictures = gold.files, _images(images, predictions, notes) if images else {}
        failed |= gold.failed
        notes += gold.notes
    else:
        found = discover(chosen, truth)
        labelled = [r for r in found.records if r.label is not None and split in ("all", r.split)]
        records = {record.id: record for record in labelled}
        truths = {record.id: record.label for record in labelled if record.label is not None}
        pictures = {record.id: record.images for record in labelled}
        predictions, twice = _by_record(predictions, found.records)
        others = sorted(predictions.keys() & {r.id for r in found.records if split not in ("all", r.split)})
        predictions = {case: path for case, path in predictions.items() if case not in others}
        if others:
            notes.append(f"not in the split {split}, and not measured: {len(others)} predictions, such as {others[0]}")
        failed |= twice | {problem.where: problem for problem in found.problems}
        notes += found.notes
    unmatched = sorted(predictions.keys() - truths.keys())
    hint = "" if chosen else " (if it is a data set's folder, add --data.name=...)"
    for case in unmatched:
        failed.setdefault(
            case, InputError(predictions[case], f"has no gold standard of the same name in {truth}{hint}")
        )
    cases = sorted(predictions.keys() & truths.keys())
    if not cases:
        raise next(iter(failed.values()), InputError(pred, f"holds no prediction of a case in {truth}"))
    both = {case: (predictions[case], truths[case]) for case in cases}
    coding = _coding(pred, truth, both, chosen, labels, truth_labels, failed)
    held = chosen._replace(classes=coding.classes, labels=coding.truth) if chosen else _plain(truth, coding)
    pairs = [
        Pair(case, predictions[case], truths[case], pictures.get(case, {}), records.get(case))
        for case in cases
        if case not in failed
    ]
    return Maps(held, coding, pairs, sorted(truths.keys() - predictions.keys()), failed, [*notes, *coding.notes])


def load(pair: Pair, found: Maps) -> tuple[Stack, Stack]:
    """(prediction, gold standard) as classes `[Z, H, W]` on one grid.

    Raises:
      InputError: a file cannot be read, has another grid, or has an unknown label value.
    """
    truth, pred = formats.read(pair.truth), formats.read(pair.pred)
    if truth.cropped and not pred.cropped:
        truth = on_grid(pair.truth, truth, pred, f"the prediction {pair.pred.name}")
    pred = on_grid(pair.pred, pred, truth, f"the gold standard {pair.truth.name}")
    drawn = classes_of(pred.data, found.coding.pred, pair.pred), classes_of(truth.data, found.coding.truth, pair.truth)
    pred_stack, truth_stack = (from_volume(labels, truth.affine, found.dataset.slice_order) for labels in drawn)
    return pred_stack, truth_stack


def classes_of(raw: np.ndarray, labels: Mapping[int, int], path: Path) -> np.ndarray:
    """The classes of a raw label map as `canonical_labels` does; a mask of a single structure may hold 1 or 255.

    Raises:
      InputError: there are other values.
    """
    try:
        return canonical_labels(raw, labels, path)
    except InputError as error:
        for value in (1, label_names.MASK) if max(labels.values(), default=0) == 1 and len(labels) == 2 else ():
            try:
                return canonical_labels(raw, {0: 0, value: 1}, path)
            except InputError:
                continue
        raise error


def listed(root: Path) -> Listed:
    """Return the label maps of a folder, without the probabilities that `predict` writes beside them.

    Raises:
      InputError: there is no such folder, or it has no label map.
    """
    if not root.is_dir():
        raise InputError(root, "is a file, expected its folder" if root.is_file() else "no such folder")
    held = [path for path in sorted(root.iterdir()) if volume.suffix(path) and not path.name.startswith(".")]
    held = [path for path in held if not entries.is_output(path)]
    faults, notes = entries.account(root, held)
    failed = {entries.stem(path): fault for path, fault in faults.items()}
    found = {entries.stem(path): path for path in held if entries.normal(path) not in faults}
    if not found:
        raise next(iter(failed.values()), InputError(root, f"holds no label map ({', '.join(volume.SUFFIXES)})"))
    return Listed(found, failed, notes)


def identity(case: str) -> tuple[str, str]:
    """Patient and phase in the name of a case: `patient1_ED`, `patient1_frame01`; phase "" if it has none."""
    match = _PHASE.fullmatch(case)
    return (match["patient"], (match["phase"] or "").upper()) if match else (case, "")


def _images(root: Path, cases: Collection[str], notes: list[str]) -> dict[str, Mapping[str, Path]]:
    """case -> sequence -> file of a folder of images; raises InputError if no image has the name of a case."""
    found = discover(folder.DATASET, root)
    for problem in found.problems:
        raise problem
    notes += found.notes
    by_case: dict[str, Mapping[str, Path]] = {
        entries.stem(path): {sequence: path} for r in found.records for sequence, path in r.images.items()
    }
    by_case |= {record.id: record.images for record in found.records}
    if not by_case.keys() & set(cases):
        raise InputError(root, f"holds no image with the name of a case, such as {min(cases)}")
    return by_case


def _by_record(
    predictions: Mapping[str, Path], records: Collection[Record]
) -> tuple[dict[str, Path], dict[str, InputError]]:
    """Predictions by the id of their record; a file may also have the name of one of the record's files."""
    ids = {entries.stem(path): record.id for record in records for path in files(record)}
    ids |= {record.id: record.id for record in records}
    found: dict[str, Path] = {}
    twice: dict[str, InputError] = {}
    for name, path in predictions.items():
        case = ids.get(name, name)
        first = found.setdefault(case, path)
        if first != path:
            twice[case] = InputError(path, f"predicts the case {case}, as does {first.name}")
    return found, twice


def _coding(
    pred: Path,
    truth: Path,
    paths: Mapping[str, tuple[Path, Path]],
    chosen: Dataset | None,
    labels: Labels | None,
    truth_labels: Labels | None,
    failed: dict[str, InputError],
) -> Coding:
    """The meaning of the label values; adds cases whose values cannot be read to `failed`."""
    described = {folder: description.find(folder) for folder in (pred, truth)}
    by_file = {place: Told(description.labels(path), str(path)) for place, path in described.items() if path}
    ours = Told(labels, "--labels") if labels else by_file.get(pred)
    if chosen is not None:
        own = Told(label_names.of_dataset(chosen), f"data set {chosen.name}")
        return label_names.by_name(ours, own) if ours else label_names.as_stored(chosen)
    gold = Told(truth_labels, "--truth_labels") if truth_labels else by_file.get(truth)
    if ours or gold:
        told = [one for one in (ours, gold) if one]
        return _with_lack(label_names.by_name(told[0], told[-1]))
    values: tuple[dict[Path, set[int]], dict[Path, set[int]]] = {}, {}
    for case, both in paths.items():
        try:
            read = [_values(path) for path in both]
        except InputError as error:
            failed.setdefault(case, error)
            continue
        for held, path, own in zip(values, both, read, strict=True):
            held[path] = own
    if not values[0]:
        raise next(failed[case] for case in paths)
    return _with_lack(label_names.by_value(*values, pred))


def _with_lack(coding: Coding) -> Coding:
    return coding._replace(notes=coding.notes + label_names.unmeasured(coding.classes))


def _plain(truth: Path, coding: Coding) -> Dataset:
    return Dataset(str(truth), coding.classes, coding.truth, ("image",), _nothing, "affine")


def _values(path: Path) -> set[int]:
    """All label values of a map except background, as whole numbers.

    Raises:
      InputError: the file cannot be read, has more than `MOST_LABELS` values or negative ones.
    """
    held = label_values(formats.read(path).data, path)
    if len(held) > MOST_LABELS:
        raise InputError(path, f"holds {len(held)} different values: an image, not a label map")
    return held.keys() - {0}


def _nothing(root: Path) -> list:
    raise InputError(root, "is a folder of label maps, not a data set")
