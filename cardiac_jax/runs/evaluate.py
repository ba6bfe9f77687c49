"""From a checkpoint to label maps, rows, the table and pictures."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from cardiac_jax.data import dataset, folder, formats, source
from cardiac_jax.data.case import Case, Dataset, Record
from cardiac_jax.data.files import atomic_write, write_label
from cardiac_jax.data.load import load
from cardiac_jax.data.orientation import orientation, to_canonical
from cardiac_jax.data.preprocess import restore
from cardiac_jax.errors import InputError
from cardiac_jax.metrics import figures, records, table
from cardiac_jax.metrics.evaluate import Row, evaluate_case
from cardiac_jax.metrics.summary import mean_by_case
from cardiac_jax.progress import shown
from cardiac_jax.runs import run
from cardiac_jax.train.predict import predict_slices


class Prediction(NamedTuple):
    """One case on its own grid: `labels [X, Y, Z]` uint8 classes, `probabilities [X, Y, Z, K]`."""

    labels: np.ndarray
    probabilities: np.ndarray


def predict_case(trained: run.Trained, case: Case, flips: bool = False) -> Prediction:
    """Segments one case and brings the probabilities back to the file's grid before the largest wins."""
    ready = source.on_grid(case, trained.description)
    probabilities = restore(predict_slices(trained.predict, ready.image, flips), ready.geometry)
    return Prediction(probabilities.argmax(-1).astype(np.uint8), probabilities)


def predict_folder(
    workdir: Path,
    images: Path,
    output: Path,
    *,
    checkpoint: str,
    probabilities: bool,
    flips: bool,
    console: Console,
) -> None:
    """Writes `<output>/<case>.nii.gz` for every image under `images`, in the label values of the training data.

    Raises:
      InputError: an image or the checkpoint cannot be used; images before it are written, none is half-written.
    """
    trained = run.restore(workdir, checkpoint)
    raw = trained.description.raw_values
    found = folder.find(images)
    for record in found:
        if (output / f"{record.id}.nii.gz").resolve() in {path.resolve() for path in record.images.values()}:
            raise InputError("--output", f"is the folder of the images: {record.id}.nii.gz would be overwritten")
    for record in shown(found, "predicting", console):
        start = time.perf_counter()
        case = load(record, folder.DATASET)
        prediction = predict_case(trained, case, flips)
        write_label(output / f"{record.id}.nii.gz", prediction.labels, case, raw)
        if probabilities:
            path = output / f"{record.id}_probabilities.nii.gz"
            content = formats.encode(path, prediction.probabilities, case.affine)
            atomic_write(path, lambda to, content=content: to.write_bytes(content))
        console.print(f"{record.id}.nii.gz ({time.perf_counter() - start:.1f} s)")


def evaluate(
    workdir: Path,
    out: Path,
    *,
    checkpoint: str = "best",
    name: str | None = None,
    root: str | None = None,
    split: str = "val",
    flips: bool = False,
    leave_out: Sequence[str] = (),
    console: Console,
) -> list[Row]:
    """Measures a checkpoint on a split and writes what it found to `out`.

    `cases.csv`, `cases.json` (every case, also those left out of the table), `table.md`, `overlay.png` (best, median
    and worst case) and `predictions/<case>.nii.gz`.

    Args:
      name: another data set than the one trained on.
      root: its folder, if not the one of training.
      split: train, val or test as the run split its patients (of another data set: its own folders), or all.

    Returns:
      The rows.

    Raises:
      InputError: checkpoint, data or split cannot be used.
    """
    trained = run.restore(workdir, checkpoint)
    classes = trained.description.classes
    chosen = dataset(name or trained.description.dataset)
    if tuple(chosen.classes) != tuple(classes):
        raise InputError("data.name", f"{chosen.name} has classes {chosen.classes}, the checkpoint {classes}")
    raw = trained.description.raw_values
    rows: list[Row] = []
    views: dict[str, figures.View] = {}
    named = _records(trained, chosen, Path(root or trained.config.data.root), split)
    start = time.perf_counter()
    for record in shown(named, "evaluating", console):
        case = load(record, chosen, trained.description.sequences, labelled=True)
        assert case.label is not None
        labels = predict_case(trained, case, flips).labels
        frame = orientation(case.affine, chosen.slice_order)
        measured = evaluate_case(labels, case.label, case.spacing_mm, classes, slice_axis=frame.axes[0])
        rows += [{"case": case.id, "group": case.group or "", **row} for row in measured]
        write_label(out / "predictions" / f"{case.id}.nii.gz", labels, case, raw)
        image = next(iter(case.images.values()))
        views[case.id] = figures.View(
            case.id,
            to_canonical(image, frame),
            to_canonical(case.label, frame),
            {trained.config.get("method", "prediction"): to_canonical(labels, frame)},
            frame.of(case.spacing_mm),
        )
    seconds = (time.perf_counter() - start) / len(named)
    about = {
        "workdir": str(workdir),
        "checkpoint": {"which": checkpoint, "step": trained.step, "code": trained.about["code"]},
        "config": trained.about["config"],
        "data": dataclasses.asdict(trained.description) | {"dataset": chosen.name},
        "split": split,
        "flips": flips,
        "seconds_per_case": seconds,
    }
    records.write_csv(out / "cases.csv", rows)
    records.write_json(out / "cases.json", rows, about)
    title = f"{trained.config.get('method', '')}, step {trained.step}; {chosen.name} {split}, in 3D per case"
    summary = table.structure_table(rows, classes[1:], title=title, leave_out=leave_out)
    atomic_write(out / "table.md", lambda to: to.write_text(table.to_markdown(summary) + "\n"))
    console.print(table.to_rich(summary))
    dice = mean_by_case(rows, "dice", classes[1:])
    typical = figures.best_median_worst(dice)
    chosen_views = [
        views[case]._replace(note=f"{which}, mean Dice {dice[case]:.3f}") for which, case in typical.items()
    ]
    if chosen_views:
        figures.save(figures.case_figure(chosen_views, classes), out / "overlay.png")
    console.print(f"{len(named)} cases, {seconds:.2f} s a case; written to {out}")
    return rows


def _records(trained: run.Trained, chosen: Dataset, root: Path, split: str) -> list[Record]:
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
