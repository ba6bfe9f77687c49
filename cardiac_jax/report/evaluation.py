"""Writes one evaluation with its table and overlay figure, and loads cases for figures."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from cardiac_jax.data.io.formats import read
from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.data.label_maps import classes_of
from cardiac_jax.data.load import resampled
from cardiac_jax.data.orientation import APEX_UNKNOWN
from cardiac_jax.data.regrid import on_grid
from cardiac_jax.data.stack import from_volume
from cardiac_jax.metrics.images import IMAGE
from cardiac_jax.metrics.summary import by_case, mean_by_case
from cardiac_jax.report import figures, table
from cardiac_jax.report.phases import phase_table
from cardiac_jax.results.evaluation import Results, write_rows
from cardiac_jax.results.records import write_csv

FAILED = "failed.csv"


def write(out: Path, results: Results, leave_out: Sequence[str], console: Console) -> None:
    """Writes all files of an evaluation except the label maps, and prints the table.

    Of one structure at ED and ES there is also a table of both phases.

    Raises:
      InputError: a case to leave out does not exist, or a file of a case is missing.
    """
    about, classes = results.about, results.about["data"]["classes"]
    title = f"{results.name}; {about['data']['dataset']} {about['split']}, in 3D, mean ± SD over patients"
    summary = table.structure_table(results.rows, classes[1:], title=title, leave_out=leave_out)
    failed: Mapping[str, str] = about.get("failed", {})
    if failed:
        note = f"Not in this table, because they failed: {', '.join(failed)}."
        summary = summary._replace(notes=(*summary.notes, note))
    write_rows(out, results)
    write_failed(out, failed)
    write_tables(out, [summary, *([by_phase] if (by_phase := phase_table([results])) else [])], console)
    unknown = {row["case"] for row in results.measured.slices if not row["location"]}
    if unknown:
        console.print(f"{len(unknown)} cases {APEX_UNKNOWN}")
    chosen = [
        view([results], case, f"{which}, mean Dice {value:.3f}") for which, (case, value) in typical([results]).items()
    ]
    if chosen:
        figures.save(figures.case_figure(chosen, classes), out / "overlay.png")


def write_failed(out: Path, failed: Mapping[str, str]) -> None:
    """Writes the list of cases that failed (case -> reason), or removes that of an earlier evaluation."""
    (out / FAILED).unlink(missing_ok=True)
    if failed:
        write_csv(out / FAILED, [{"case": case, "problem": problem} for case, problem in failed.items()])


def write_tables(out: Path, tables: Sequence[table.Table], console: Console) -> None:
    """Writes and prints the tables of an evaluation."""
    text = "\n".join(map(table.to_markdown, tables)) + "\n"
    atomic_write(out / "table.md", lambda to: to.write_text(text, encoding="utf-8"))
    for one in tables:
        console.print(table.to_rich(one))


def typical(methods: Sequence[Results]) -> dict[str, tuple[str, float]]:
    """best, median, worst -> (case, its mean Dice over structures and methods), among cases with an image.

    Restored images are ranked by their SSIM.
    """
    per_method = [
        by_case(one.rows, "ssim", IMAGE)
        if one.of_images
        else mean_by_case(one.rows, "dice", one.about["data"]["classes"][1:])
        for one in methods
    ]
    files = methods[0].about["files"]
    shared = [case for case in per_method[0] if files[case]["image"] and all(case in other for other in per_method)]
    mean = {case: sum(scores[case] for scores in per_method) / len(per_method) for case in shared}
    return {which: (case, mean[case]) for which, case in figures.best_median_worst(mean).items()}


def view(methods: Sequence[Results], case: str, note: str) -> figures.View:
    """View of a case with the predictions of all methods, read from its files.

    A gold standard that is finer than the image gives the grid, to which the image is interpolated.

    Raises:
      InputError: a file is missing, unreadable, has unknown label values, or lies on another grid than the image.
    """
    first = methods[0].about
    files, data = first["files"][case], first["data"]
    place = Path(files["truth" if data.get("fine") else "image"])
    volume = read(place)
    image = from_volume(volume.data, volume.affine, data["slice_order"])
    if data.get("fine"):
        image = resampled(Path(files["image"]), image, f"the gold standard {place.name}")

    def labels(path: Path, raw: Iterable[Sequence[int]]) -> np.ndarray:
        known = {int(value): k for value, k in raw}
        held = on_grid(path, read(path), volume, f"the {'gold standard' if data.get('fine') else 'image'} {place.name}")
        return from_volume(classes_of(held.data, known, path), volume.affine, data["slice_order"]).data

    preds = {}
    for one in methods:
        own = one.about["data"]
        path = one.folder / one.about["files"][case]["prediction"]
        preds[one.name] = labels(path, own.get("pred_labels", own["labels"]))
    truth = labels(Path(files["truth"]), data["labels"])
    return figures.View(case, image.data, truth, preds, image.spacing_mm, note, image.frame.apex_known)
