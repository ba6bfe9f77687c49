"""Sections of the report: each function makes the content of one section from the entries."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from cardiac_jax.core.config import flat
from cardiac_jax.data.labels import IN_WALL
from cardiac_jax.metrics import measures
from cardiac_jax.metrics.agreement import FEWEST_PATIENTS, measured_pairs, segment_pairs
from cardiac_jax.metrics.evaluate import unions
from cardiac_jax.metrics.registry import METRICS
from cardiac_jax.metrics.summary import MEAN, Rows, by_patient, patient_by_case, summary_of
from cardiac_jax.report import bullseye, charts, figures, meshes, table
from cardiac_jax.report.anatomy import latent, validity
from cardiac_jax.report.cohort_table import agreement_table
from cardiac_jax.report.collect import Entry
from cardiac_jax.report.definitions import definitions
from cardiac_jax.report.evaluation import typical, view
from cardiac_jax.report.locations import locations
from cardiac_jax.report.options import Options, Published
from cardiac_jax.report.page import Picture, Section
from cardiac_jax.report.phases import phases
from cardiac_jax.report.statistics import statistics
from cardiac_jax.report.table import Cell, Table

MEASURES = ("dice", "jaccard", "asd_mm", "hd95_mm", "hd_mm", "surface_dice", "sensitivity", "precision")
OF_UNIONS = ("dice", "hd95_mm", "volume_abs_error_ml", "lesion_sensitivity", "lesion_precision", "lesion_f1")
IMAGE_MEASURES = ("ssim", "plane_ssim", "psnr_db")
LISTED = 6


def rows_of(entries: Sequence[Entry]) -> dict[str, Rows]:
    """Rows of each method: method -> rows."""
    return {entry.results.name: entry.results.rows for entry in entries}


def overview(entries: Sequence[Entry], options: Options) -> Section:
    """Section with the table of methods, paired tests and, except for phantom data, the published values."""
    rows, structures = rows_of(entries), entries[0].results.structures
    tables = [table.method_table(rows, structures)]
    if options.leave_out:
        tables.append(table.method_table(rows, structures, leave_out=options.leave_out))
    if options.paired:
        tables.append(table.comparison_table(options.paired))
    simulated = entries[0].results.about["data"]["dataset"] == "phantom"
    if not simulated and any(name in options.published.get("dice", {}) for name in rows):
        given = [metric for metric in METRICS if set(options.published.get(metric, {})) & set(rows)]
        beside = (published_table(rows, structures, metric, options.published) for metric in given)
        tables += [one for one in beside if len(one.header) > 1]  # not of structures that the paper has not
    return Section("results", "Results", warnings(entries), tables)


def all_measures(entries: Sequence[Entry], options: Options) -> Section:
    """Section with a table of methods x structures per metric."""
    rows, structures = rows_of(entries), entries[0].results.structures
    tables = [table.method_table(rows, structures, name) for name in MEASURES if name != "dice"]
    inside = [name for name in structures if name in IN_WALL]
    united = [name for name in unions(entries[0].results.about["data"]["classes"]) if name in _structures(rows)]
    if inside or united:
        title = "{} of enhancement, oedema and unions, mean ± SD over patients"
        tables += [
            table.method_table(rows, (*inside, *united), name, title.format(METRICS[name].heading))
            for name in OF_UNIONS
        ]
    return Section("measures", "All measures", (), tables)


def _structures(rows: Mapping[str, Rows]) -> set[str]:
    """Structures that every method was measured on."""
    return set.intersection(*({str(row["structure"]) for row in held} for held in rows.values()))


def distributions(entries: Sequence[Entry], options: Options) -> Section:
    """Section of box plots and histograms."""
    rows, structures = rows_of(entries), entries[0].results.structures
    pictures = []
    for name in ("dice", "asd_mm", "hd_mm"):
        heading = METRICS[name].heading
        caption = f"{heading} by structure and method: median, quartiles, whiskers to 1.5 IQR; each dot is a patient."
        pictures.append(Picture(charts.box_plots(rows, structures, name), caption))
    for structure in structures:
        values = {name: list(by_patient(held, "dice", structure).values()) for name, held in rows.items()}
        if any(map(math.isfinite, itertools.chain.from_iterable(values.values()))):
            caption = f"Histogram of the Dice of {structure} over patients; the line is the mean."
            pictures.append(Picture(charts.histogram(values, "dice"), caption, wide=False))
    return Section("distributions", "Distributions", (), (), pictures)


def clinical(entries: Sequence[Entry], options: Options) -> Section:
    """Section on volumes, mass, function and wall thickness: prediction against gold standard."""
    text, tables, pictures = [], [], []
    for entry in entries:
        name, rows = entry.results.name, entry.results.measured.clinical
        measured = measured_pairs(rows) | measured_pairs(measures.function_rows(rows))
        others = {key: both for key, both in measured.items() if both.patient_count >= FEWEST_PATIENTS}
        few = [key[0] for key in measured if key not in others]
        if few:
            text.append(f"{name}: fewer than {FEWEST_PATIENTS} patients have a value, not shown: {', '.join(few)}.")
        if not others:
            continue
        tables.append(agreement_table(others, f"{name}: prediction against gold standard"))
        if name != options.reference:
            continue
        for unit in dict.fromkeys(unit for _, unit in others):
            panels = {measure: both for (measure, its_unit), both in others.items() if its_unit == unit}
            caption = f"{name}: Bland-Altman, a point per case; bias and 95% limits with their 95% CI ({unit})."
            pictures.append(Picture(charts.bland_altman_plots(panels, unit), caption, wide=len(panels) > 1))
            caption = f"{name}: prediction against gold standard, a point per case; dashed: identity ({unit})."
            pictures.append(Picture(charts.scatter_plots(panels, unit), caption, wide=len(panels) > 1))
        thickness = segment_pairs(entry.results.measured.segments)
        segments = {number: both for number, both in thickness.items() if both.patient_count >= FEWEST_PATIENTS}
        if segments:
            caption = f"{name}: wall thickness by AHA segment, mean over patients (mm); grey: no patient has a value."
            pictures.append(Picture(bullseye.wall_figure(segments), caption))
    if pictures and len(entries) > 1:
        text.append(f"The plots show {options.reference}; --reference selects another method.")
    return Section("clinical", "Clinical measures", text, tables, pictures)


def cases(entries: Sequence[Entry], options: Options) -> Section:
    """Section with contours and surfaces of the best, median and worst case."""
    methods = [entry.results for entry in entries]
    classes = methods[0].about["data"]["classes"]
    chosen = typical(methods)
    if not chosen:
        return Section("cases", "Cases", ["These label maps have no images; pass --images to launch.evaluate."])
    pictures = []
    for which, (case, dice) in chosen.items():
        seen = view(methods, case, f"({which}; mean Dice over methods {dice:.3f})")
        contours = figures.method_figure(seen, classes)
        pictures.append(
            Picture(contours, f"{which.capitalize()} case, {case}: gold standard dashed, methods solid.", pixels=True)
        )
        surfaces = f"{which.capitalize()} case, {case}: surfaces, axes in mm."
        pictures.append(Picture(meshes.mesh_figure(seen, classes), surfaces, pixels=True))
    return Section("cases", "Best, median and worst case", (), (), pictures)


def misses(entries: Sequence[Entry], options: Options) -> Section:
    """Section listing structures that only the gold standard or only the prediction has."""
    lines = [
        (Cell(entry.results.name), Cell(str(row["case"])), Cell(str(row["structure"])), Cell(str(row["status"])))
        for entry in entries
        for row in entry.results.rows
        if row["status"] in ("missed", "spurious")
    ]
    notes = (
        "missed: structure only in the gold standard; spurious: only in the prediction. Their distances are infinite.",
    )
    text = () if lines else ("No method missed a structure or predicted an absent one.",)
    tables = [Table("Misses", ("method", "case", "structure", "status"), tuple(lines), notes)] if lines else []
    return Section("misses", "Misses", text, tables)


def training(entries: Sequence[Entry], options: Options) -> Section:
    """Section with the training curves of each run with a log."""
    pictures = [
        Picture(charts.training_curves(entry.log), f"{entry.results.name}: loss terms and validation score by step.")
        for entry in entries
        if charts.has_curves(entry.log)
    ]
    return Section("training", "Training", (), (), pictures)


def provenance(entries: Sequence[Entry], options: Options) -> Section:
    """Section with data, split, checkpoint, seed, versions, machine and time per method, and configuration keys.

    With several methods, only the configuration keys that differ are listed.
    """
    lines = []
    for entry in entries:
        about = entry.results.about
        checkpoint, config = about.get("checkpoint", {}), about.get("config", {})
        seconds = _training_seconds(entry.log)
        lines.append(
            tuple(
                Cell(str(value))
                for value in (
                    entry.results.name,
                    f"{about['data']['dataset']} {about['split']}"
                    + (f", {about['folds']} folds" if "folds" in about else ""),
                    len(set(patient_by_case(entry.results.rows).values())),
                    len(patient_by_case(entry.results.rows)),
                    checkpoint.get("step", "-"),
                    config.get("seed", "-"),
                    f"{seconds / 60:.1f} min" if seconds else "-",
                    f"{about['seconds_per_case']:.2f} s" if "seconds_per_case" in about else "-",
                    about.get("machine") or "-",
                )
            )
        )
    header = ("method", "data", "patients", "cases", "step", "seed", "training", "per case", "machine")
    tables = [Table("Runs", header, tuple(lines))]
    tables += [made for made in (_versions(entries), _configurations(entries)) if made.rows]
    return Section("provenance", "Provenance", (), tables)


def numbers(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Records of mean, SD and counts over patients in full precision, per method, structure (or "mean") and metric."""
    found = []
    for entry in entries:
        rows, structures = entry.results.rows, entry.results.structures
        owner = patient_by_case(rows)
        of = {"patients": len(set(owner.values())), "cases": len(owner)}
        of_images = entry.results.of_images
        for metric in IMAGE_MEASURES if of_images else MEASURES:
            for name in structures if of_images else (*structures, MEAN):
                summary = summary_of(rows, metric, name, structures)._asdict()
                found.append({"method": entry.results.name, "structure": name, "metric": metric, **summary, **of})
    return found


PARTS = (
    overview,
    phases,
    all_measures,
    distributions,
    locations,
    validity,
    clinical,
    cases,
    misses,
    definitions,
    statistics,
    latent,
    training,
    provenance,
)


def published_table(
    rows: Mapping[str, Rows], structures: Sequence[str], metric: str, published: Published, mean: bool = True
) -> Table:
    """Our values and the paper's: two columns for each structure (with `mean`, also the mean) published of a method."""
    named = {method: held for method, held in published[metric].items() if method in rows}
    columns = [
        name for name in (*structures, *((MEAN,) if mean else ())) if any(name in held for held in named.values())
    ]
    lines = []
    for method, held in rows.items():
        line = [Cell(method)]
        for name in columns:
            summary = summary_of(held, metric, name, structures)
            theirs = named.get(method, {}).get(name)
            line += [Cell(METRICS[metric].text(summary.mean) if summary.n else "-")]
            line += [Cell("-" if theirs is None else METRICS[metric].text(theirs))]
        lines.append(tuple(line))
    header = ("method", *(f"{name}, {whose}" for name in columns for whose in ("ours", "paper")))
    title = f"{METRICS[metric].heading}, ours and published"
    return Table(title, header, tuple(lines), (published["source"], published["differs"]))


def warnings(entries: Sequence[Entry]) -> list[str]:
    """Warnings about different cases, missing predictions and checkpoint selection."""
    said = []
    measured = {entry.results.name: {row["case"] for row in entry.results.rows} for entry in entries}
    common = set.intersection(*measured.values())
    for name, own in measured.items():
        if own != common:
            said.append(f"{name} was measured on {len(own)} cases, of which {len(common)} are common to all methods.")
    absent: dict[tuple[str, ...], list[str]] = {}
    for entry in entries:
        absent.setdefault(tuple(entry.results.about.get("missing", ())), []).append(entry.results.name)
    for cases_, names in absent.items():
        if cases_:
            who = ", ".join(names) if len(names) < len(entries) else "any method"
            listed = ", ".join(cases_[:LISTED]) + (", ..." if len(cases_) > LISTED else "")
            said.append(f"{len(cases_)} annotated cases have no prediction from {who}: {listed}.")
    for entry in entries:
        failed = entry.results.about.get("failed", {})
        if failed:
            listed = ", ".join(list(failed)[:LISTED]) + (", ..." if len(failed) > LISTED else "")
            said.append(f"{entry.results.name}: {len(failed)} failed and not measured: {listed}.")
    if any(e.results.about["split"] == "val" and e.log for e in entries):
        said.append("Checkpoints were selected on these validation cases: values are slightly optimistic.")
    return said


def _training_seconds(log: Sequence[Mapping[str, Any]]) -> float:
    """Training time in s, from the steps between two records and the speed in the later one."""
    total, last = 0.0, 0
    for line in log:
        if line.get("steps_per_s"):
            total += (line["step"] - last) / line["steps_per_s"]
            last = line["step"]
    return total


def _versions(entries: Sequence[Entry]) -> Table:
    code = {e.results.name: e.results.about.get("checkpoint", {}).get("code", {}) for e in entries}
    names = list(dict.fromkeys(name for versions in code.values() for name in versions))
    lines = [
        (Cell(method), *(Cell(versions.get(name, "-")) for name in names))
        for method, versions in code.items()
        if versions
    ]
    return Table("Versions", ("method", *names), tuple(lines))


def _configurations(entries: Sequence[Entry]) -> Table:
    """Table of the configuration keys that differ; each run's `config.json` has all of them."""
    configs = {e.results.name: dict(flat(e.results.about["config"])) for e in entries if "config" in e.results.about}
    keys = list(dict.fromkeys(key for held in configs.values() for key in held))
    differ = (
        [key for key in keys if len({str(held.get(key)) for held in configs.values()}) > 1]
        if len(configs) > 1
        else keys
    )
    lines = [(Cell(key), *(Cell(_text(held.get(key))) for held in configs.values())) for key in differ]
    title = "Configuration" if len(configs) < 2 else "Configuration keys that differ"
    return Table(title, ("key", *configs), tuple(lines))


def _text(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return "-" if value is None else str(value)
