"""Restored images: the table (Table III of Oktay et al. 2018), pictures with error maps, files of an evaluation."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from cardiac_jax.data.interpolate import nearest_labels, onto
from cardiac_jax.data.io.formats import read
from cardiac_jax.data.label_maps import classes_of
from cardiac_jax.data.stack import Stack, from_volume
from cardiac_jax.metrics.images import HEART, IMAGE, MARGIN_MM, heart_box
from cardiac_jax.metrics.intervals import mean_interval
from cardiac_jax.metrics.registry import METRICS
from cardiac_jax.metrics.summary import Rows, by_case, by_patient, summary_of, without
from cardiac_jax.report import figures
from cardiac_jax.report.evaluation import typical, write_failed, write_tables
from cardiac_jax.report.options import Options
from cardiac_jax.report.table import Cell, Table, best_of, cases_note, left_out_note, mean_sd, p_text
from cardiac_jax.results.evaluation import Results, write_rows

COLUMNS = (("ssim", HEART), ("plane_ssim", IMAGE), ("psnr_db", IMAGE), ("psnr_db", HEART))
"""Metric and part of the image of the columns beside the SSIM of the whole image."""
WINDOW_NOTE = (
    "SSIM of the whole image that both cover: Gaussian window of 11 voxels and sigma 1.5 in 3D (Wang et al. 2004). "
    "Data range: largest minus smallest intensity of the reference."
)
PICTURE_MARGIN_MM = 15.0  # about the heart
LOW, HIGH = 1.0, 99.5  # percentiles of the reference that are black and white


class Restored(NamedTuple):
    """One case, everything on the grid of the reference `[Z, H, W]`; NaN where there is no value.

    Attributes:
      low: the image that was restored, of the nearest voxel.
      truth: the reference.
      images: method -> its image.
      label: classes, 255 not annotated; None without a label map.
      spacing_mm: voxel size along Z, H, W.
    """

    case: str
    low: np.ndarray
    truth: np.ndarray
    images: Mapping[str, np.ndarray]
    label: np.ndarray | None
    spacing_mm: tuple[float, float, float]

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """Part that is pictured: the heart with a margin in plane, all slices; the whole image without a heart."""
        found = None if self.label is None else heart_box(self.label, self.spacing_mm, PICTURE_MARGIN_MM)
        whole = slice(0, self.truth.shape[0]), slice(0, self.truth.shape[1]), slice(0, self.truth.shape[2])
        if found is None:
            return whole
        h, w = (slice(s.start, min(s.stop, n)) for s, n in zip(found[1:], self.truth.shape[1:], strict=True))
        return whole[0], h, w

    @property
    def window(self) -> tuple[float, float]:
        """Intensities that are black and white, of the reference in the pictured part."""
        low, high = np.nanpercentile(self.truth[self.box], (LOW, HIGH))
        return float(low), float(max(high, low + 1e-6))


def restored(methods: Sequence[Results], case: str) -> Restored:
    """A case with the images of all methods, read from its files.

    Raises:
      InputError: a file is missing, unreadable or has unknown label values.
    """
    first = methods[0].about
    files, data = first["files"][case], first["data"]

    def stack(path: Path) -> Stack:
        volume = read(path)
        return from_volume(volume.data, volume.affine, data["slice_order"])

    truth, label = stack(Path(files["truth"])), None
    if files.get("label"):
        path = Path(files["label"])
        held, known = stack(path), {int(value): k for value, k in data["labels"]}
        label = nearest_labels(held.with_data(classes_of(held.data, known, path)), truth)
    images = {one.name: onto(stack(one.folder / one.about["files"][case]["prediction"]), truth) for one in methods}
    low = onto(stack(Path(files["image"])), truth, order=0)
    return Restored(case, low, truth.data.astype(np.float32), images, label, truth.spacing_mm)


def restoration_table(
    rows_by_method: Mapping[str, Rows], options: Options, title: str = "", leave_out: Sequence[str] = ()
) -> Table:
    """Table of methods with SSIM of the image, its interval and p value, opinion scores and time (Table III).

    p compares a method with the reference, corrected as in the table of paired comparisons. MOS is the mean +- SD over
    images of one reader. Time is the median of `options.seconds` or, without it, of the rows' `seconds`.

    Raises:
      InputError: a case to leave out does not exist for one of the methods.
    """
    kept = {method: without(rows, leave_out) for method, rows in rows_by_method.items()}
    column = {method: summary_of(rows, "ssim", IMAGE) for method, rows in kept.items()}
    best = best_of(column, "ssim")
    p = {one.baseline: one.p_holm for one in options.paired if one.structure == IMAGE}
    readers = list(dict.fromkeys(str(row["structure"]) for rows in options.opinions.values() for row in rows))
    times = options.seconds or {method: _own_seconds(rows) for method, rows in kept.items()}
    lines, notes = [], [cases_note(next(iter(kept.values())), leave_out)]
    for method, rows in kept.items():
        notes += left_out_note(method, column[method])
        values = [v for v in by_patient(rows, "ssim", IMAGE).values() if math.isfinite(v)]
        low, high = (f"{v:.3f}" if math.isfinite(v) else "-" for v in mean_interval(np.asarray(values)))
        own = options.opinions.get(method, ())
        scores = [[float(row["opinion"]) for row in own if row["structure"] == reader] for reader in readers]
        held = times.get(method, ())
        lines.append(
            (
                Cell(method),
                Cell(mean_sd(column[method], "ssim"), method in best),
                Cell(f"[{low}, {high}]"),
                Cell(p_text(p.get(method, math.nan))),
                *(Cell(opinion_text(of_reader)) for of_reader in scores),
                Cell(f"{float(np.median(held)):.3g}" if len(held) else "-"),
            )
        )
    if options.paired:
        notes.append(f"p: {METRICS['ssim'].label} of {options.reference} against the method, paired by patient.")
    header = ("method", METRICS["ssim"].heading, "95% CI", "p (Holm)", *(f"MOS {r}" for r in readers), "s a stack")
    title = title or "Restored images, mean ± SD over patients"
    return Table(title, header, tuple(lines), (*notes, WINDOW_NOTE, _time_note(options)))


def measures_table(rows_by_method: Mapping[str, Rows], leave_out: Sequence[str] = ()) -> Table:
    """Table of methods with the other measures, in the whole image and about the heart.

    Raises:
      InputError: a case to leave out does not exist for one of the methods.
    """
    kept = {method: without(rows, leave_out) for method, rows in rows_by_method.items()}
    parts = {str(row["structure"]) for rows in kept.values() for row in rows}
    notes = [cases_note(next(iter(kept.values())), leave_out)]
    columns, held = [(metric, part) for metric, part in COLUMNS if part in parts], []
    for metric, part in columns:
        column = {method: summary_of(rows, metric, part) for method, rows in kept.items()}
        best = best_of(column, metric)
        held.append([Cell(mean_sd(summary, metric), method in best) for method, summary in column.items()])
        for method, summary in column.items():
            notes += left_out_note(f"{method}, {METRICS[metric].label}, {part}", summary)
    lines = [(Cell(method), *cells) for method, *cells in zip(kept, *held, strict=True)]
    if HEART in parts:
        notes.append(f"heart: the box of all structures and {MARGIN_MM:g} mm, all of it that both images cover.")
    header = ("method", *(f"{METRICS[metric].heading}, {part}" for metric, part in columns))
    return Table("Other measures of restored images, mean ± SD over patients", header, tuple(lines), tuple(notes))


def opinion_text(scores: Sequence[float]) -> str:
    """Printed mean +- SD of one reader's scores of one method; a dash without a score."""
    if not scores:
        return "-"
    spread = f" ± {np.std(scores, ddof=1):.2f}" if len(scores) > 1 else ""
    return f"{np.mean(scores):.2f}{spread}"


def _own_seconds(rows: Rows) -> list[float]:
    """Seconds of each case but the first, which compiles."""
    seconds = {str(row["case"]): float(row["seconds"]) for row in rows}
    return [v for v in list(seconds.values())[1:] if math.isfinite(v)]


def _time_note(options: Options) -> str:
    if not options.seconds:
        return (
            "s a stack: median over the cases but the first, of each evaluation's own process, preparation included; "
            "comparable only by --time."
        )
    counts = {len(held) for held in options.seconds.values()}
    of = f"median of {min(counts)}" if len(counts) == 1 else "median"
    return (
        f"s a stack: {of} predictions in one process, the methods in turn, the first of each not counted; of the "
        "network's input size, with the way to the device and back."
    )


def write(out: Path, results: Results, leave_out: Sequence[str], console: Console) -> None:
    """Writes all files of an evaluation except the images, and prints the table.

    Raises:
      InputError: a case to leave out does not exist, or a file of a case is missing.
    """
    about = results.about
    title = f"{results.name}; {about['data']['dataset']} {about['split']}, mean ± SD over patients"
    summary = restoration_table({results.name: results.rows}, Options(results.name, {}, ()), title, leave_out)
    failed: Mapping[str, str] = about.get("failed", {})
    if failed:
        note = f"Not in this table, because they failed: {', '.join(failed)}."
        summary = summary._replace(notes=(*summary.notes, note))
    write_rows(out, results)
    write_failed(out, failed)
    write_tables(out, [summary, measures_table({results.name: results.rows}, leave_out)], console)
    chosen = typical([results])
    if chosen:
        rows = [(restored([results], case), which) for which, (case, _) in chosen.items()]
        figures.save(restored_figure(rows, {results.name: by_case(results.rows, "ssim", IMAGE)}), out / "overlay.png")


def restored_figure(
    views: Sequence[tuple[Restored, str]], ssim: Mapping[str, Mapping[str, float]] | None = None
) -> Figure:
    """Figure of cases x (low resolution, each method, reference) in a long-axis cut, with the errors below.

    The cut lies through the middle of the heart, the base above. An error is image minus reference in per cent of the
    data range of the reference, on one scale for all images of a case.

    Args:
      views: cases and the text after their names, all with the same methods.
      ssim: method -> case -> SSIM, printed above the image.
    """
    names = ["low resolution", *views[0][0].images, "reference"]
    tallest = max(_height_to_width(view) for view, _ in views)
    row_in = min(max(1.75 * tallest + 0.3, 1.3), 1.95)  # of thin stacks no gap between the rows, but room for names
    figure = Figure(figsize=(1.0 + 1.9 * len(names), 2 * row_in * len(views) + 0.2), layout="constrained")
    axes = figure.subplots(2 * len(views), len(names), squeeze=False)
    for k, (view, note) in enumerate(views):
        planes = {name: long_axis(view, data) for name, data in _named(view).items()}
        truth = planes["reference"]
        size = float(np.nanmax(view.truth) - np.nanmin(view.truth)) or 1.0
        errors = {name: 100 * (plane - truth) / size for name, plane in planes.items() if name != "reference"}
        limit = max(float(np.nanpercentile(np.abs(list(errors.values())), HIGH)), 1e-3)
        low, high = view.window
        extent = (0, truth.shape[1] * view.spacing_mm[2], 0, truth.shape[0] * view.spacing_mm[0])
        for ax, below, name in zip(axes[2 * k], axes[2 * k + 1], names, strict=True):
            shown = {"extent": extent, "origin": "lower", "interpolation": "nearest"}
            ax.imshow(planes[name], "gray", vmin=low, vmax=high, **shown)
            value = (ssim or {}).get(name, {}).get(view.case, math.nan)
            ax.set_title(name + ("" if math.isnan(value) else f"\nSSIM {value:.3f}"), fontsize=8)
            if name in errors:
                below.imshow(errors[name], "RdBu_r", vmin=-limit, vmax=limit, **shown)
            else:
                below.set_axis_off()
            for one in (ax, below):
                one.set(xticks=[], yticks=[])
        axes[2 * k, 0].set_ylabel(f"{view.case}\n{note}".strip(), fontsize=8)
        axes[2 * k + 1, 0].set_ylabel("error", fontsize=8)
        drawn = axes[2 * k + 1, 0].images[0]
        bar = figure.colorbar(drawn, cax=axes[2 * k + 1, -1].inset_axes((0.02, 0.1, 0.06, 0.8)))
        bar.set_label("% of the data range", fontsize=7)
        bar.ax.tick_params(labelsize=7)
    return figure


def long_axis(view: Restored, data: np.ndarray) -> np.ndarray:
    """The cut `[Z, W]` through the middle of the pictured part, apex first."""
    z, h, w = view.box
    return data[z, (h.start + h.stop) // 2, w]


def _height_to_width(view: Restored) -> float:
    """Height of the cut divided by its width, both in millimetres."""
    depth, width = long_axis(view, view.truth).shape
    return depth * view.spacing_mm[0] / (width * view.spacing_mm[2])


def _named(view: Restored) -> dict[str, np.ndarray]:
    return {"low resolution": view.low, **view.images, "reference": view.truth}
