"""Variants side by side: their tables, paired tests and pictures, from what `evaluate` wrote for each."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from cardiac_jax.data import dataset
from cardiac_jax.data.files import atomic_write
from cardiac_jax.data.formats import read
from cardiac_jax.data.load import canonical_labels, load
from cardiac_jax.data.orientation import orientation, to_canonical
from cardiac_jax.errors import InputError
from cardiac_jax.metrics import agreement, charts, figures, records, table
from cardiac_jax.metrics.evaluate import Row
from cardiac_jax.metrics.summary import mean_by_case, without
from cardiac_jax.train.checkpoint import Checkpoints
from cardiac_jax.train.log import read_log


def variants(path: str) -> tuple[str, tuple[str, ...]]:
    """The key an experiment's study varies and its values, in the order of the paper's table.

    Raises:
      InputError: the experiment's file names none (`STUDY = (key, values)`).
    """
    spec = importlib.util.spec_from_file_location("experiment", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "STUDY"):
        raise InputError(path, "names no STUDY: this experiment has no variants to compare")
    return module.STUDY


def results(run: Path, split: str) -> Path:
    """Where a variant's evaluation lies."""
    return run / f"evaluation_{split}"


def is_evaluated(run: Path, split: str, flips: bool) -> bool:
    """Whether the best checkpoint of `run` has been evaluated on `split` already."""
    path = results(run, split) / "cases.json"
    if not path.exists():
        return False
    about, _ = records.read_json(path)
    checkpoints = Checkpoints(run)
    best = checkpoints.pick("best")
    checkpoints.close()
    return about["checkpoint"]["step"] == best and about["flips"] == flips and about["split"] == split


def report(workdir: Path, names: Sequence[str], split: str, leave_out: Sequence[str], console: Console) -> None:
    """Prints and writes `study.md`: methods x structures, distances, paired tests; `boxes.png`, `slices.png`, `curves`.

    With cases to leave out, every table is printed with and without them.
    """
    found = {name: records.read_json(results(workdir / name, split) / "cases.json") for name in names}
    rows = {name: held[1] for name, held in found.items()}
    about = next(iter(found.values()))[0]
    structures = [name for name in about["data"]["classes"][1:]]
    order = [name for name in ("LV", "RV", "Myo") if name in structures] or structures
    text = []
    for left in ([], list(leave_out)) if leave_out else ([],):
        shown = [
            table.method_table(
                rows, order, title=f"Dice, {about['data']['dataset']} {split}, 3D per case", leave_out=left
            ),
            table.method_table(rows, order, metric="asd_mm", title="ASD (mm)", leave_out=left),
            table.method_table(rows, order, metric="hd_mm", title="HD (mm)", leave_out=left),
        ]
        if len(rows) > 1:
            last = "srscn" if "srscn" in rows else names[-1]
            kept = {name: without(held, left) for name, held in rows.items()}
            shown.append(table.comparison_table(agreement.compare(kept, last, order)))
        for one in shown:
            console.print(table.to_rich(one))
        text += [table.to_markdown(one) for one in shown]
    atomic_write(workdir / "study.md", lambda to: to.write_text("\n\n".join(text) + "\n"))
    figures.save(charts.box_plots(rows, order, leave_out=leave_out), workdir / "boxes.png")
    for name in names:
        figures.save(charts.training_curves(read_log(workdir / name / "log.jsonl")), workdir / name / "curves.png")
    figures.save(_slices(workdir, rows, split, about), workdir / "slices.png")
    console.print(f"written to {workdir}: study.md, boxes.png, slices.png, */curves.png, */evaluation_{split}/")


def _slices(workdir: Path, rows: Mapping[str, Sequence[Row]], split: str, about: Mapping) -> figures.Figure:
    """Fig. 2: the case whose mean Dice over all methods is the median, apex, middle and base under each method."""
    classes, chosen = tuple(about["data"]["classes"]), dataset(about["data"]["dataset"])
    per_method = [mean_by_case(held, "dice", classes[1:]) for held in rows.values()]
    mean = {case: float(np.nanmean([scores[case] for scores in per_method])) for case in per_method[0]}
    typical = figures.best_median_worst(mean)
    name = typical.get("median", typical["best"])
    record = next(r for r in chosen.find(Path(about["config"]["data"]["root"])) if r.id == name)
    case = load(record, chosen, about["data"]["sequences"], labelled=True)
    frame = orientation(case.affine, chosen.slice_order)
    preds = {}
    for method in rows:
        path = results(workdir / method, split) / "predictions" / f"{name}.nii.gz"
        preds[method] = to_canonical(canonical_labels(read(path).data, chosen.labels, path), frame)
    image = to_canonical(next(iter(case.images.values())), frame)
    assert case.label is not None
    spacing = frame.of(case.spacing_mm)
    view = figures.View(
        name, image, to_canonical(case.label, frame), preds, spacing, f"(median, mean Dice {mean[name]:.3f})"
    )
    return figures.method_figure(view, classes)
