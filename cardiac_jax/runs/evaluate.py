"""Evaluation of label maps, predicted by a checkpoint or written by any other program."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cardiac_jax.data import label_maps
from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.io import formats
from cardiac_jax.data.io.write import write_label
from cardiac_jax.data.labels import roles
from cardiac_jax.data.load import load, same_grid
from cardiac_jax.data.sets import dataset
from cardiac_jax.data.stack import Stack, from_volume
from cardiac_jax.errors import InputError
from cardiac_jax.progress import shown
from cardiac_jax.report.evaluation import write
from cardiac_jax.results import evaluation
from cardiac_jax.runs.predict import predict_case, say_lost
from cardiac_jax.runs.restore import Trained, restore_all
from cardiac_jax.train import devices

LATE = "LGE"
"""Core scar is measured on the intensities of this sequence."""


@devices.on_host()
def evaluate(
    workdirs: Sequence[Path],
    out: Path,
    *,
    checkpoint: str = "best",
    name: str | None = None,
    root: str | None = None,
    split: str = "val",
    crop: str = "",
    tta: int = 0,
    post: Mapping[str, Any] | None = None,
    leave_out: Sequence[str] = (),
    console: Console,
) -> evaluation.Results:
    """Evaluates a run, or an ensemble of runs, on a split; returns the results and writes them to `out`.

    Args:
      workdirs: one run, or several whose probabilities are averaged; data set and split are those of the first.
      name: name of the data set; None: the data set of training.
      root: folder of the data set; None: the folder of training.
      split: train, val or test, or all. Patients are split as in training; another data set is split by its folders.
      crop: how an image larger than the network's input is covered, see `inference/region.py`.
      tta: number of moved copies of every image whose predictions are averaged with its own.
      post: values that replace those under `config.post`.
      leave_out: cases left out of the printed table; they are in every file.

    Raises:
      InputError: the checkpoint, the data or the split cannot be used.
    """
    members = restore_all(workdirs, checkpoint, say_lost(console), post, tta)
    first = members[0]
    chosen = dataset(name or first.spec.dataset, first.spec.classes[1:])
    measured, summary = evaluation.Measured(), first.decoders[first.outputs[0].name].summary()
    files: dict[str, dict[str, str]] = {}
    named = _records(first, chosen, Path(root or first.config.data.root), split)
    start = time.perf_counter()
    for record in shown(named, "evaluating", console):
        case = load(record, chosen, first.spec.sequences, labelled=True)
        assert case.label is not None and record.label is not None
        truth = case.stack(case.label)
        decoded = predict_case(members, case, crop, console.print)[0].decoded
        summary.add(decoded, truth)
        written = Path("predictions") / f"{case.id}.nii.gz"
        write_label(out / written, decoded.value, first.spec.raw_values, case.source)
        late = case.images[LATE] if LATE in case.images else _late(chosen, record.images.get(LATE), truth)
        measured = evaluation.measured(measured, evaluation.subject(record), decoded.value, truth, chosen, late)
        files[case.id] = evaluation.files(case.source, record.label, written)
    seconds = (time.perf_counter() - start) / len(named)
    about = {
        "name": first.name,
        "workdir": str(first.workdir.resolve()),
        "members": [str(member.workdir.resolve()) for member in members],
        "checkpoint": {"which": checkpoint, "step": first.step, "code": first.about["code"]},
        "config": first.about["config"],
        "machine": first.about.get("machine", ""),
        "fits": first.fits,
        "data": _data(chosen),
        "split": split,
        "crop": crop,
        "tta": tta,
        "seconds_per_case": seconds,
        "files": files,
    }
    if summary.about():
        about["projection"] = summary.about()
    evaluated = evaluation.Results(about["name"], measured, about, out)
    write(out, evaluated, leave_out, console)
    if summary.line():
        console.print(summary.line())
    console.print(f"{len(named)} cases, {seconds:.2f} s a case; written to {out}")
    return evaluated


@devices.on_host()
def evaluate_maps(
    pred: Path,
    truth: Path,
    out: Path,
    *,
    name: str = "",
    method: str = "",
    images: Path | None = None,
    split: str = "all",
    leave_out: Sequence[str] = (),
    console: Console,
) -> evaluation.Results:
    """Evaluates label maps written by any program; returns the results and writes them to `out`.

    Files are matched as in `data/label_maps.py`.

    Args:
      name: the data set whose folder `truth` is; "": `truth` is a folder of label maps.
      method: name in tables; default: name of the folder `pred`.
      images: folder of images for pictures. With a class "scar" they must be LGE as acquired: core scar is measured on
        their intensities.
      split: split of the data set `name`, see `data/label_maps.py`.

    Raises:
      InputError: a prediction has no gold standard, another grid, or an unknown label value; or an LGE image on which
        core scar is measured has another grid.
    """
    found = label_maps.find(pred, truth, images, dataset(name) if name else None, split)
    chosen = found.dataset
    measured = evaluation.Measured()
    files: dict[str, dict[str, str]] = {}
    for pair in shown(found.pairs, "measuring", console):
        labels, gold = label_maps.load(pair, chosen)
        known = pair.record
        subject = evaluation.subject(known) if known else evaluation.Subject(pair.id, pair.id)
        late = _late(chosen, known.images.get(LATE) if known else pair.image, gold)
        measured = evaluation.measured(measured, subject, labels, gold, chosen, late)
        files[pair.id] = evaluation.files(pair.image, pair.truth, pair.pred.resolve())
    about = {
        "name": method or pred.resolve().name,
        "data": _data(chosen),
        "split": split,
        "missing": found.missing,
        "files": files,
    }
    evaluated = evaluation.Results(about["name"], measured, about, out)
    write(out, evaluated, leave_out, console)
    absent = f"; {len(found.missing)} labelled cases have no prediction" if found.missing else ""
    console.print(f"{len(found.pairs)} cases{absent}; written to {out}")
    return evaluated


def _late(chosen: Dataset, path: Path | None, like: Stack) -> np.ndarray | None:
    """LGE as acquired `[Z, H, W]`; None if the data set has no class "scar" or there is no such image.

    Raises:
      InputError: the image has another grid than `like`.
    """
    if "scar" not in roles(chosen.classes) or path is None or not path.is_file():
        return None
    image = formats.read(path)
    same_grid(path, image, like.volume(), "the gold standard")
    return from_volume(image.data, image.affine, chosen.slice_order).data


def _data(chosen: Dataset) -> dict[str, Any]:
    """JSON with which the label maps can be read again."""
    labels = sorted(chosen.labels.items())
    return {"dataset": chosen.name, "classes": chosen.classes, "labels": labels, "slice_order": chosen.slice_order}


def _records(trained: Trained, chosen: Dataset, root: Path, split: str) -> list[Record]:
    """The cases of a split under `root`; for the data set of training, the patients in that split of the run."""
    found = chosen.find(root)
    if split == "all":
        return found
    if split not in ("train", "val", "test"):
        raise InputError("--split", f"{split!r} is not one of train, val, test, all")
    own = chosen.name == trained.spec.dataset
    named = [r for r in found if (r.patient in trained.about["splits"][split] if own else r.split == split)]
    if not named:
        raise InputError(root, f"no case in split {split!r}")
    return named
