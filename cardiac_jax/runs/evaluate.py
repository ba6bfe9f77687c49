"""Evaluation of label maps, predicted by a checkpoint or written by any other program."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cardiac_jax.data import label_maps
from cardiac_jax.data.case import Case, Dataset, Record
from cardiac_jax.data.discover import discover
from cardiac_jax.data.io.write import write_label
from cardiac_jax.data.labels import roles
from cardiac_jax.data.load import image_on, load
from cardiac_jax.data.plausible import exchanged, wall_edges
from cardiac_jax.data.sets import dataset
from cardiac_jax.data.sets.description import Labels
from cardiac_jax.data.stack import Stack
from cardiac_jax.errors import InputError, printable, raise_failed
from cardiac_jax.metrics.coding import confusion, other_coding
from cardiac_jax.metrics.strata import union
from cardiac_jax.metrics.summary import counted
from cardiac_jax.progress import run_each, say_found, saying
from cardiac_jax.report.evaluation import write
from cardiac_jax.results import evaluation
from cardiac_jax.runs.evaluate_images import evaluate_images
from cardiac_jax.runs.predict import predict_case, say_lost, sequences_of
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

    Labels are measured on the grid of the gold standard, which may be finer than that of the image. Where the main
    output is an image, it is measured instead (`evaluate_images.py`).

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
      InputError: the checkpoint, the split or none of the cases can be used.
      BatchError: some cases failed; the files hold the results of the others and name these.
    """
    members = restore_all(workdirs, checkpoint, say_lost(console), post, tta)
    first = members[0]
    place = Path(root or first.config.data.root)
    chosen = dataset(name or first.spec.dataset, first.spec.classes[1:], place)
    summary = first.decoders[first.outputs[0].name].summary()
    gathered = _Gathered(chosen, console)
    named, problems = _records(first, chosen, place, split, console)
    needed = sequences_of(members)
    about = _about(members, checkpoint, chosen) | {"split": split, "crop": crop, "tta": tta}
    if first.outputs[0].kind == "image":
        return evaluate_images(members, chosen, named, problems, out, about, leave_out, console)
    if first.outputs[0].kind != "labels":
        raise InputError(first.workdir, f"predicts {first.outputs[0].name}, which is neither a label map nor an image")
    start = time.perf_counter()

    def one(record: Record) -> None:
        case = load(record, chosen, needed, labelled=True)
        truth = case.truth
        assert truth is not None and record.label is not None
        predictions = predict_case(members, case, crop, saying(console), truth)
        decoded = predictions[0].decoded
        summary.add(decoded, truth)
        written = Path("predictions") / f"{case.id}.nii.gz"
        write_label(out / written, decoded.value, first.spec.raw_values, record.label if chosen.fine else case.source)
        files = evaluation.files(_picture(record, case.source), record.label, written)
        gathered.add(evaluation.subject(record), decoded.value, truth, files, _late_of(case, chosen, record, truth))

    failed = problems | run_each([(record.id, record) for record in named], "evaluating", console, one)
    gathered.some_or_raise(failed)
    seconds = (time.perf_counter() - start) / max(len(named), 1)
    about |= {"seconds_per_case": seconds, "files": gathered.files, "failed": evaluation.reasons(failed)}
    if summary.about():
        about["projection"] = summary.about()
    evaluated = evaluation.Results(about["name"], gathered.measured, about, out)
    write(out, evaluated, leave_out, console)
    gathered.say()
    if summary.line():
        console.print(summary.line())
    console.print(f"{len(gathered.files)} cases, {seconds:.2f} s a case; written to {printable(str(out))}")
    raise_failed(failed, len(gathered.files))
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
    labels: Labels | None = None,
    truth_labels: Labels | None = None,
    leave_out: Sequence[str] = (),
    console: Console,
) -> evaluation.Results:
    """Evaluates label maps written by any program; returns the results and writes them to `out`.

    Files are matched as in `data/label_maps.py`.

    Args:
      name: the data set whose folder `truth` is; "": `truth` is a folder of label maps.
      method: name in tables; default: name of the folder `pred`.
      images: folder of images for pictures. With a class "scar", core scar is measured on the intensities of the one
        called LGE or DE, which must be as acquired.
      split: split of the data set `name`, see `data/label_maps.py`.
      labels, truth_labels: label values of the predictions and of the gold standard, see `data/label_maps.py`.

    Raises:
      InputError: no prediction can be measured.
      BatchError: some predictions have no gold standard, another grid, an unknown label value or an image on
        another grid; the files hold the results of the others and name these.
    """
    chosen = dataset(name, root=truth) if name else None
    found = label_maps.find(pred, truth, images, chosen, split, labels, truth_labels)
    say_found(found.notes, found.failed, console)
    gathered = _Gathered(found.dataset, console, found.coding.regions)

    def one(pair: label_maps.Pair) -> None:
        drawn, gold = label_maps.load(pair, found)
        finer = found.dataset.fine
        late = None if finer else _late(found.dataset, pair.images.get(LATE), gold)
        picture = None if found.coding.regions else pair.images.get(LATE) or next(iter(pair.images.values()), None)
        if picture is not None and finer and pair.record is not None:
            picture = _picture(pair.record, picture)
        elif picture is not None:
            image_on(picture, gold, f"the gold standard {pair.truth.name}")  # it is shown with the labels on it
        files = evaluation.files(picture, pair.truth, pair.pred.resolve())
        patient, phase = label_maps.identity(pair.id)
        plain = evaluation.Subject(pair.id, patient, phase=phase)
        gathered.add(evaluation.subject(pair.record) if pair.record else plain, drawn, gold, files, late)

    failed = found.failed | run_each([(pair.id, pair) for pair in found.pairs], "measuring", console, one)
    gathered.some_or_raise(failed)
    about = {
        "name": method or pred.resolve().name,
        "data": _data(gathered.chosen) | {"pred_labels": sorted(found.coding.pred.items())},
        "split": split,
        "missing": found.missing,
        "files": gathered.files,
        "failed": evaluation.reasons(failed),
        "notes": found.notes,
    }
    evaluated = evaluation.Results(about["name"], gathered.measured, about, out)
    write(out, evaluated, leave_out, console)
    gathered.say()
    absent = f"; {len(found.missing)} labelled cases have no prediction" if found.missing else ""
    saying(console)(f"{counted(evaluated.rows)}{absent}; written to {printable(str(out))}")
    raise_failed(failed, len(gathered.files))
    return evaluated


def _about(members: Sequence[Trained], checkpoint: str, chosen: Dataset) -> dict[str, Any]:
    """Provenance of an evaluation of checkpoints."""
    first = members[0]
    return {
        "name": first.name,
        "workdir": str(first.workdir.resolve()),
        "members": [str(member.workdir.resolve()) for member in members],
        "checkpoint": {"which": checkpoint, "step": first.step, "code": first.about["code"]},
        "config": first.about["config"],
        "machine": first.about.get("machine", ""),
        "fits": first.fits,
        "data": _data(chosen),
    }


class _Gathered:
    """The rows and files of the cases measured so far.

    Attributes:
      chosen: gives the classes of the rows: of the data set, or one for each of the structures that overlap.
      measured: all rows.
      files: case -> its files.
    """

    def __init__(self, held: Dataset, console: Console, regions: Mapping[str, tuple[int, ...]] | None = None) -> None:
        self.regions = regions or {}
        self.chosen = held._replace(classes=("background", *self.regions), labels={}) if regions else held
        self.measured = evaluation.Measured()
        self.files: dict[str, dict[str, str]] = {}
        self._console = console
        self._held = held
        self._counts = np.zeros((len(held.classes),) * 2, np.int64)
        self._edges = np.zeros((2, 2), np.int64)
        self._with_scar = 0

    def add(
        self, of: evaluation.Subject, drawn: Stack, gold: Stack, files: dict[str, str], late: np.ndarray | None
    ) -> None:
        """Measures one case; every overlapping structure is measured as a data set of its own."""
        measured = self.measured
        for name, parts in self.regions.items():
            alone = self.chosen._replace(classes=("background", name))
            ours, truth = (stack.with_data(union(stack.data, parts)) for stack in (drawn, gold))
            measured = evaluation.measured(measured, of, ours, truth, alone)
        if not self.regions:
            measured = evaluation.measured(measured, of, drawn, gold, self._held, late)
        self.measured = measured
        self.files[of.case] = files
        self._counts += confusion(drawn.data, gold.data, len(self._held.classes))
        self._edges += wall_edges(gold.data, self._held.classes)
        self._with_scar += late is not None

    def some_or_raise(self, failed: Mapping[str, InputError]) -> None:
        """Raises InputError if no case was measured."""
        if not self.files:
            raise_failed(failed, 0)
            raise InputError("evaluation", "there is no case to measure")

    def say(self) -> None:
        """Prints what the core scar was measured on, and whether another coding would fit better."""
        if "scar" in roles(self._held.classes):
            of = f"on {LATE}, in {self._with_scar} of {len(self.files)} cases" if self._with_scar else "not measured"
            why = "" if self._with_scar else f": no image is called {LATE} or DE"
            self._console.print(f"core scar: {of}{why}")
        doubt = exchanged(self._edges)
        if doubt:
            self._console.print(f"warning: in the gold standard, {doubt}")
        line = other_coding(self._counts, self._held.classes)
        if line:
            saying(self._console)(f"{line}; if so, name them by --labels=NAME=VALUE,...")


def _picture(record: Record, source: Path) -> Path:
    """The image behind the labels in pictures: a high-resolution one if there is one."""
    return next(iter(record.fine_images.values()), source)


def _late_of(case: Case, chosen: Dataset, record: Record, truth: Stack) -> np.ndarray | None:
    """LGE as acquired on the grid of the gold standard; None as for `_late`, or if that is finer than the image."""
    if chosen.fine:
        return None
    return case.images[LATE] if LATE in case.images else _late(chosen, record.images.get(LATE), truth)


def _late(chosen: Dataset, path: Path | None, like: Stack) -> np.ndarray | None:
    """LGE as acquired `[Z, H, W]`; None if the data set has no class "scar" or there is no such image.

    Raises:
      InputError: the image has another grid than `like`.
    """
    if "scar" not in roles(chosen.classes) or path is None or not path.is_file():
        return None
    return image_on(path, like, "the gold standard")


def _data(chosen: Dataset) -> dict[str, Any]:
    """JSON with which the label maps can be read again."""
    labels = sorted(chosen.labels.items())
    held = {"dataset": chosen.name, "classes": chosen.classes, "labels": labels, "slice_order": chosen.slice_order}
    return held | ({"fine": True} if chosen.fine else {})


def _records(
    trained: Trained, chosen: Dataset, root: Path, split: str, console: Console
) -> tuple[list[Record], dict[str, InputError]]:
    """The cases of a split under `root` and what cannot be used there; prints what is not read.

    For the data set of training, the split is the patients in that split of the run.
    """
    if split not in ("train", "val", "test", "all"):
        raise InputError("--split", f"{split!r} is not one of train, val, test, all")
    found = discover(chosen, root)
    failed = {problem.where: problem for problem in found.problems}
    say_found(found.notes, failed, console)
    if split == "all":
        return found.records, failed
    own = chosen.name == trained.spec.dataset
    named = [r for r in found.records if (r.patient in trained.about["splits"][split] if own else r.split == split)]
    if not named and not failed:
        raise InputError(root, f"no case in split {split!r}")
    return named, failed
