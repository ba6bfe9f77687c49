"""Label maps that any program wrote, beside the gold standard: which file belongs to which, and what values mean.

pred/<case>.nii.gz       or .nii, .nrrd, .mha
truth/<case>.nii.gz      of the same name; or the folder of a registered data set, whose cases name the predictions
images/<case>.nii.gz     of the same name, or <case>_0000 as nnU-Net has it; optional, for pictures only
dataset.json             nnU-Net's, in `truth` or above it: names of the label values
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
    """One case: its id, both label maps, the image if one is known, and of a data set the record."""

    id: str
    pred: Path
    truth: Path
    image: Path | None
    record: Record | None = None


class Maps(NamedTuple):
    """Predictions beside truths.

    Attributes:
      dataset: its classes and label values.
      missing: labelled cases without a prediction, sorted.
    """

    dataset: Dataset
    pairs: list[Pair]
    missing: list[str]


def find(
    pred: Path, truth: Path, images: Path | None = None, chosen: Dataset | None = None, split: str = "all"
) -> Maps:
    """Pairs by name, sorted.

    Args:
      chosen: the data set whose folder `truth` is; None: a folder of label maps.
      split: of a data set whose publisher's folders fix it: train, val, test or all.

    Raises:
      InputError: a folder holds no label map, a prediction has no truth, no image has the name of a case, or no label
        value of the predictions is one of the truths.
    """
    predictions = files(pred)
    records: dict[str, Record] = {}
    if chosen is None:
        truths = files(truth)
        pictures = {case.removesuffix(CHANNEL): path for case, path in files(images).items()} if images else {}
        if images and not pictures.keys() & predictions.keys():
            raise InputError(images, f"holds no image of the name of a case, such as {min(predictions)}")
    else:
        labelled = [r for r in chosen.find(truth) if r.label is not None and split in ("all", r.split)]
        records = {record.id: record for record in labelled}
        truths = {record.id: record.label for record in labelled if record.label is not None}
        pictures = {record.id: next(iter(record.images.values())) for record in labelled}
    strangers = sorted(predictions.keys() - truths.keys())
    if strangers:
        hint = "" if chosen else " (of a data set's own folder: name it, --data.name=...)"
        raise InputError(predictions[strangers[0]], f"has no gold standard of the same name in {truth}{hint}")
    chosen = chosen or _described(pred, truth, predictions, truths)
    cases = sorted(predictions)
    pairs = [Pair(case, predictions[case], truths[case], pictures.get(case), records.get(case)) for case in cases]
    return Maps(chosen, pairs, sorted(truths.keys() - predictions.keys()))


def load(pair: Pair, chosen: Dataset) -> tuple[Stack, Stack]:
    """(prediction, gold standard) as classes `[Z, H, W]` on one grid.

    Raises:
      InputError: a file cannot be read, lies on another grid, or holds an unknown value.
    """
    truth, pred = formats.read(pair.truth), formats.read(pair.pred)
    same_grid(pair.pred, pred, truth, f"the gold standard {pair.truth.name}")
    classes = [
        canonical_labels(given.data, chosen.labels, path) for given, path in ((pred, pair.pred), (truth, pair.truth))
    ]
    pred_stack, truth_stack = (from_volume(labels, truth.affine, chosen.slice_order) for labels in classes)
    return pred_stack, truth_stack


def files(root: Path) -> dict[str, Path]:
    """case -> file; raises InputError where there is none."""
    if not root.is_dir():
        raise InputError(root, "is a file, its folder is wanted" if root.is_file() else "no such folder")
    found = [path for path in sorted(root.iterdir()) if volume.suffix(path) and not path.name.startswith(".")]
    if not found:
        raise InputError(root, f"holds no label map ({', '.join(volume.SUFFIXES)})")
    return {path.name[: -len(volume.suffix(path) or "")]: path for path in found}


def _described(pred: Path, truth: Path, predictions: dict[str, Path], truths: dict[str, Path]) -> Dataset:
    """Classes from a `dataset.json`, else one for every value that any of the maps holds."""
    places = (truth, truth.parent, pred, pred.parent)
    described = next((folder / DESCRIPTION for folder in places if (folder / DESCRIPTION).is_file()), None)
    if described is not None:
        named = _read_names(described)
    else:
        predicted, true = _values(list(predictions.values())), _values([truths[case] for case in predictions])
        if predicted and true and not predicted & true:
            shown = " against ".join(", ".join(map(str, sorted(values))) for values in (predicted, true))
            raise InputError(pred, f"no label value in common with {truth}: {shown}; recode one of them")
        named = {0: "background"} | {value: f"label {value}" for value in sorted(predicted | true)}
    labels = {value: k for k, value in enumerate(named)} | ({} if IGNORE in named else {IGNORE: IGNORE})
    return Dataset(str(truth), tuple(named.values()), labels, ("image",), _nothing, "affine")


def _values(paths: list[Path]) -> set[int]:
    """Every label value of the maps but background and 255; raises InputError where there are too many for labels."""
    found: set[int] = set()
    for path in paths:
        held = np.unique(formats.read(path).data)
        if len(held) > MOST_LABELS:
            raise InputError(path, f"holds {len(held)} different values: an image, not a label map")
        found |= {int(value) for value in held}
    return found - {0, IGNORE}


def _read_names(path: Path) -> dict[int, str]:
    """value -> name, background first, of nnU-Net's `{"labels": {name: value}}`; its `ignore` label stays 255."""
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
        named = {int(value): str(name) for name, value in labels.items() if name != "ignore"}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(path, 'holds no "labels": {name: value}') from None
    if 0 not in named:
        raise InputError(path, "names no label 0, the background")
    return dict(sorted(named.items()))


def _nothing(root: Path) -> list:
    raise InputError(root, "is a folder of label maps, not a data set")
