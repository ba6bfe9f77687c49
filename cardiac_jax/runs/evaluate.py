"""Measures label maps: those of a checkpoint, or those of any other program."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cardiac_jax.anatomy.projection_summary import ProjectionSummary
from cardiac_jax.data import label_maps
from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.io import formats
from cardiac_jax.data.io.volume import Volume
from cardiac_jax.data.io.write import atomic_write, write_label
from cardiac_jax.data.labels import roles
from cardiac_jax.data.load import load, same_grid
from cardiac_jax.data.sets import dataset
from cardiac_jax.errors import InputError
from cardiac_jax.progress import shown
from cardiac_jax.report.evaluation import write
from cardiac_jax.results import evaluation
from cardiac_jax.runs.predict import predict_case, refuse_without_prior, say_lost
from cardiac_jax.runs.restore import Trained, restore
from cardiac_jax.train import devices

LATE = "LGE"
"""The sequence whose intensities tell core scar."""


@devices.on_host()
def evaluate(
    workdir: Path,
    out: Path,
    *,
    checkpoint: str = "best",
    name: str | None = None,
    root: str | None = None,
    split: str = "val",
    flips: bool = False,
    post: Mapping[str, Any] | None = None,
    leave_out: Sequence[str] = (),
    console: Console,
) -> evaluation.Results:
    """Measures a checkpoint on a split and writes what it found to `out` (see `results.py`).

    Args:
      name: another data set than the one trained on.
      root: its folder, if not the one of training.
      split: train, val or test as the run split its patients (of another data set: its own folders), or all.
      post: of a system with an anatomical prior, instead of its configuration: `project`, which slices are made valid;
        `trim`, whether slices beyond the base are left out.
      leave_out: cases left out of the printed table; they are in every file.

    Raises:
      InputError: checkpoint, data or split cannot be used.
    """
    trained = restore(workdir, checkpoint, say_lost(console))
    refuse_without_prior(trained, workdir, post)
    classes = trained.description.classes
    chosen = dataset(name or trained.description.dataset, classes[1:])
    measured, summary = evaluation.Measured(), ProjectionSummary(classes)
    files: dict[str, dict[str, str]] = {}
    named = _records(trained, chosen, Path(root or trained.config.data.root), split)
    start = time.perf_counter()
    for record in shown(named, "evaluating", console):
        case = load(record, chosen, trained.description.sequences, labelled=True)
        prediction = predict_case(trained, case, flips, post)
        labels = prediction.labels
        written = Path("predictions") / f"{case.id}.nii.gz"
        write_label(out / written, labels, case, trained.description.raw_values)
        assert case.label is not None and record.label is not None
        if prediction.slices is not None:
            summary.add(prediction.slices, prediction.drawn, labels, case.label)
        late = case.images.get(LATE)
        if late is None:
            late = _late(chosen, record.images.get(LATE), Volume(case.label, case.affine, None))
        measured = evaluation.measured(
            measured, evaluation.subject(record), labels, case.label, case.affine, chosen, late
        )
        files[case.id] = evaluation.files(case.source, record.label, written)
    seconds = (time.perf_counter() - start) / len(named)
    about = {
        "name": trained.config.get("method", trained.config.system),
        "workdir": str(workdir.resolve()),
        "checkpoint": {"which": checkpoint, "step": trained.step, "code": trained.about["code"]},
        "config": trained.about["config"],
        "machine": trained.about.get("machine", ""),
        "data": _data(chosen),
        "split": split,
        "flips": flips,
        "seconds_per_case": seconds,
        "files": files,
    }
    if trained.prior is not None:
        limits = trained.prior.about["limits"]
        done = {**trained.config.post, **(post or {})}
        which = done["project"] + (", trimmed at the base" if done["trim"] else "")
        about["projection"] = {**summary.summary(), "limits": limits, "which": which}
        text = json.dumps(trained.prior.about, allow_nan=False)
        atomic_write(workdir / evaluation.MIXTURE, lambda to: to.write_text(text, encoding="utf-8"))
    evaluated = evaluation.Results(about["name"], measured, about, out)
    write(out, evaluated, leave_out, console)
    if trained.prior is not None:
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
    """Measures label maps that any program wrote and writes what it found to `out` (see `data/label_maps.py`).

    Args:
      name: the data set whose folder `truth` is; "": a folder of label maps.
      method: name in tables; default: that of the folder.
      images: for pictures; where there is a class "scar" they must be LGE as acquired, since core scar is told by them.
      split: of a data set, as `data/label_maps.py` has it.

    Raises:
      InputError: a prediction without truth, on another grid, or with an unknown label value; an image, where core
        scar is told by it, on another grid.
    """
    found = label_maps.find(pred, truth, images, dataset(name) if name else None, split)
    chosen = found.dataset
    measured = evaluation.Measured()
    files: dict[str, dict[str, str]] = {}
    for pair in shown(found.pairs, "measuring", console):
        labels, gold, grid = label_maps.load(pair, chosen)
        known = pair.record
        subject = evaluation.subject(known) if known else evaluation.Subject(pair.id, pair.id)
        late = _late(chosen, known.images.get(LATE) if known else pair.image, grid)
        measured = evaluation.measured(measured, subject, labels, gold, grid.affine, chosen, late)
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


def _late(chosen: Dataset, path: Path | None, grid: Volume) -> np.ndarray | None:
    """LGE as acquired `[X, Y, Z]`, where the data set marks scar and there is such an image.

    Raises:
      InputError: it lies on another grid.
    """
    if "scar" not in roles(chosen.classes) or path is None or not path.is_file():
        return None
    image = formats.read(path)
    same_grid(path, image, grid, "the gold standard")
    return image.data


def _data(chosen: Dataset) -> dict[str, Any]:
    """What is needed to read the label maps back."""
    labels = sorted(chosen.labels.items())
    return {"dataset": chosen.name, "classes": chosen.classes, "labels": labels, "slice_order": chosen.slice_order}


def _records(trained: Trained, chosen: Dataset, root: Path, split: str) -> list[Record]:
    """The cases of a split: of the data set trained on, the patients that the run put there, wherever it lies now."""
    found = chosen.find(root)
    if split == "all":
        return found
    if split not in ("train", "val", "test"):
        raise InputError("--split", f"{split!r} is not one of train, val, test, all")
    own = chosen.name == trained.description.dataset
    named = [r for r in found if (r.patient in trained.about["splits"][split] if own else r.split == split)]
    if not named:
        raise InputError(root, f"no case in split {split!r}")
    return named
