"""Predicted label maps of any program, paired with the gold standard, and the names of their label values.

pred/<case>.nii.gz       or .nii, .nrrd, .mha
truth/<case>.nii.gz      gold standard of the same name; or the folder of a known data set, whose case ids are the names
images/<case>.nii.gz     image of the same name, or <case>_0000 as in nnU-Net; optional, for figures only
dataset.json             names of the label values, as in nnU-Net; in `truth` or `pred`, or the folder above
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.io import formats, volume
from cardiac_jax.data.load import canonical_labels, same_grid
from cardiac_jax.data.stack import Stack, from_volume
from cardiac_jax.errors import InputError

CHANNEL = "_0000"
DESCRIPTION = "dataset.json"
MOST_LABELS = 64


class Pair(NamedTuple):
    """One case: its id, both label maps, its image (or None), and its record if `truth` is a data set's folder."""

    id: str
    pred: Path
    truth: Path
    image: Path | None
    record: Record | None = None


class Maps(NamedTuple):
    """Predictions paired with the gold standard.

    Attributes:
      dataset: gives the classes and label values.
      pairs: sorted by id.
      missing: ids of annotated cases without a prediction, sorted.
    """

    dataset: Dataset
    pairs: list[Pair]
    missing: list[str]


def find(
    pred: Path, truth: Path, images: Path | None = None, chosen: Dataset | None = None, split: str = "all"
) -> Maps:
    """Return the pairs of predictions and gold standards with the same name.

    Args:
      pred, truth, images: folders, see the module docstring.
      chosen: the data set if `truth` is a data set's folder; None if it is a folder of label maps.
      split: "train", "val", "test" or "all"; for data sets whose publisher's folders define a split.

    Raises:
      InputError: a folder has no label map, a prediction has no gold standard, no image has the name of a case, or the
        predictions and the gold standard have no label value in common.
    """
    predictions = files(pred)
    records: dict[str, Record] = {}
    if chosen is None:
        truths = files(truth)
        pictures = {case.removesuffix(CHANNEL): path for case, path in files(images).items()} if images else {}
        if images and not pictures.keys() & predictions.keys():
            raise InputError(images, f"holds no image with the name of a case, such as {min(predictions)}")
    else:
        labelled = [r for r in chosen.find(truth) if r.label is not None and split in ("all", r.split)]
        records = {record.id: record for record in labelled}
        truths = {record.id: record.label for record in labelled if record.label is not None}
        pictures = {record.id: next(iter(record.images.values())) for record in labelled}
    unmatched = sorted(predictions.keys() - truths.keys())
    if unmatched:
        hint = "" if chosen else " (if it is a data set's folder, add --data.name=...)"
        raise InputError(predictions[unmatched[0]], f"has no gold standard of the same name in {truth}{hint}")
    chosen = chosen or _described(pred, truth, predictions, truths)
    cases = sorted(predictions)
    pairs = [Pair(case, predictions[case], truths[case], pictures.get(case), records.get(case)) for case in cases]
    return Maps(chosen, pairs, sorted(truths.keys() - predictions.keys()))


def load(pair: Pair, chosen: Dataset) -> tuple[Stack, Stack]:
    """(prediction, gold standard) as classes `[Z, H, W]` on one grid.

    Raises:
      InputError: a file cannot be read, has another grid, or has an unknown label value.
    """
    truth, pred = formats.read(pair.truth), formats.read(pair.pred)
    same_grid(pair.pred, pred, truth, f"the gold standard {pair.truth.name}")
    classes = [
        canonical_labels(given.data, chosen.labels, path) for given, path in ((pred, pair.pred), (truth, pair.truth))
    ]
    pred_stack, truth_stack = (from_volume(labels, truth.affine, chosen.slice_order) for labels in classes)
    return pred_stack, truth_stack


def files(root: Path) -> dict[str, Path]:
    """Return the label maps of a folder as {case: file}.

    Raises:
      InputError: there is no such folder, or it has no label map.
    """
    if not root.is_dir():
        raise InputError(root, "is a file, expected its folder" if root.is_file() else "no such folder")
    found = [path for path in sorted(root.iterdir()) if volume.suffix(path) and not path.name.startswith(".")]
    if not found:
        raise InputError(root, f"holds no label map ({', '.join(volume.SUFFIXES)})")
    return {path.name[: -len(volume.suffix(path) or "")]: path for path in found}


def _described(pred: Path, truth: Path, predictions: dict[str, Path], truths: dict[str, Path]) -> Dataset:
    """Classes from a `dataset.json`; without one, one class for each value in any of the maps."""
    folders = (truth, truth.parent, pred, pred.parent)
    described = next((folder / DESCRIPTION for folder in folders if (folder / DESCRIPTION).is_file()), None)
    if described is not None:
        named = _read_names(described)
    else:
        predicted, true = _values(list(predictions.values())), _values([truths[case] for case in predictions])
        if predicted and true and not predicted & true:
            shown = " against ".join(", ".join(map(str, sorted(values))) for values in (predicted, true))
            raise InputError(pred, f"has no label value in common with {truth}: {shown}; recode one of them")
        named = {0: "background"} | {value: f"label {value}" for value in sorted(predicted | true)}
    labels = {value: k for k, value in enumerate(named)} | ({} if IGNORE in named else {IGNORE: IGNORE})
    return Dataset(str(truth), tuple(named.values()), labels, ("image",), _nothing, "affine")


def _values(paths: list[Path]) -> set[int]:
    """All label values of the maps except background and 255.

    Raises:
      InputError: a file has more than `MOST_LABELS` values.
    """
    found: set[int] = set()
    for path in paths:
        held = np.unique(formats.read(path).data)
        if len(held) > MOST_LABELS:
            raise InputError(path, f"holds {len(held)} different values: an image, not a label map")
        found |= {int(value) for value in held}
    return found - {0, IGNORE}


def _read_names(path: Path) -> dict[int, str]:
    """{value: name}, background first, from nnU-Net's `{"labels": {name: value}}`; its label `ignore` is left out."""
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
        named = {int(value): str(name) for name, value in labels.items() if name != "ignore"}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(path, 'holds no "labels": {name: value}') from None
    if 0 not in named:
        raise InputError(path, "has no label 0, the background")
    return dict(sorted(named.items()))


def _nothing(root: Path) -> list:
    raise InputError(root, "is a folder of label maps, not a data set")
