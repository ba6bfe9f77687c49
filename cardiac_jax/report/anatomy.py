"""Report sections about anatomical validity and about the mixture model of the latent codes."""

from collections.abc import Mapping, Sequence
from typing import Any

from cardiac_jax.anatomy import wall_check
from cardiac_jax.anatomy.validity import CHECKS, GOLD, PREDICTION
from cardiac_jax.metrics.registry import METRICS
from cardiac_jax.metrics.summary import Rows, without
from cardiac_jax.report import cohort_charts
from cardiac_jax.report.collect import Entry
from cardiac_jax.report.extremes import extremes_figure
from cardiac_jax.report.options import Options
from cardiac_jax.report.page import Picture, Section
from cardiac_jax.report.table import Cell, Table

COUNTED = {
    "tidied": "slices valid after tidying",
    "moved": "slices moved",
    "from_bank": "slices replaced by a bank mask",
    "refused": "slices refused and emptied",
}
"""Key of a projection's summary -> its line in the table."""


def validity(entries: Sequence[Entry], options: Options) -> Section:
    """Section on anatomically invalid slices of each method, and on the effect of projection onto valid slices."""
    tables = invalid_tables({entry.results.name: entry.results.measured.validity for entry in entries})
    projected = {e.results.name: e.results.about["projection"] for e in entries if "projection" in e.results.about}
    if projected:
        tables.append(projection_table(projected))
    pictures = [
        Picture(
            extremes_figure(summary["limits"]),
            f"{name}: the worst slices that still pass the limits of the projection; a heart distorted in one way at a "
            "time. The bar is 20 mm.",
            pixels=True,
        )
        for name, summary in projected.items()
    ]
    return Section("validity", "Anatomical validity", (), tables, pictures)


def projection_table(projected: Mapping[str, Mapping[str, Any]]) -> Table:
    """Table of invalid slices and Dice by structure, before and after projection.

    Args:
      projected: method -> `before` and `after` (invalid slices out of `slices`), `limits`, `dice` (structure ->
        `before`, `after`), and optionally `which` were projected, `defaulted` limits and the counts of `COUNTED`.
    """
    metric, lines, notes = METRICS["dice"], [], []
    for method, summary in projected.items():
        before, after, slices = summary["before"], summary["after"], summary["slices"]
        counts = (share_text(before, slices), share_text(after, slices), f"{after - before:+g}")
        lines.append((Cell(method), Cell("invalid slices"), *map(Cell, counts)))
        for key, label in COUNTED.items():
            if key in summary:
                lines.append((Cell(method), Cell(label), Cell("-"), Cell(share_text(summary[key], slices)), Cell("-")))
        for structure, dice in summary["dice"].items():
            was, became = float(dice["before"]), float(dice["after"])
            values = (metric.text(was), metric.text(became), metric.text(became - was, "+"))
            lines.append((Cell(method), Cell(f"{structure} {metric.heading}"), *map(Cell, values)))
        which = f"slices projected: {summary['which']}; " if "which" in summary else ""
        notes.append(f"{method}: {which}limits of the projection: {limits_text(summary['limits'])}.")
        if summary.get("defaulted"):
            lacking = ", ".join(summary["defaulted"])
            notes.append(f"{method}: the checkpoint is older than these limits, which have their defaults: {lacking}.")
    notes.append("Invalid by the limits of the projection; the table of all methods uses the default limits.")
    notes.append("Anatomically valid does not mean accurate.")
    header = ("method", "quantity", "before", "after", "difference")
    return Table("Projection onto anatomically valid slices", header, tuple(lines), tuple(notes))


def latent(entries: Sequence[Entry], options: Options) -> Section:
    """Section on the size of each method's mixture model, and the share of its samples that are anatomically valid."""
    lines, notes, pictures = [], [], []
    for entry in entries:
        if entry.latent is None:
            continue
        name, mixture = entry.results.name, entry.latent
        sizes = ", ".join(map(str, mixture.curves.sizes))
        folds, rate = mixture.curves.nll.shape[1], f"{100 * mixture.accept_rate:.1f}%"
        values = (name, sizes, str(folds), str(mixture.chosen), str(mixture.used), rate)
        lines.append(tuple(map(Cell, values)))
        notes.append(f"{name}: limits of the check: {limits_text(mixture.limits)}.")
        caption = f"{name}: likelihood and adjusted AIC of the latent codes by number of mixture components."
        pictures.append(Picture(cohort_charts.curves_figure({"": (mixture.curves, mixture.used)}), caption))
    header = ("method", "components tried", "folds", "chosen", "in use", "samples accepted")
    tables = [Table("Mixture of the latent codes", header, tuple(lines), tuple(notes))] if lines else []
    return Section("latent", "Latent space", (), tables, pictures)


def invalid_tables(rows_by_method: Mapping[str, Rows], leave_out: Sequence[str] = ()) -> list[Table]:
    """Two tables: invalid slices by method, and slices that fail each check; empty without rows.

    Args:
      rows_by_method: rows of `validity_rows`, with `case`; methods without rows are omitted.

    Raises:
      InputError: a case to leave out does not exist.
    """
    kept = {method: without(rows, leave_out) for method, rows in rows_by_method.items() if rows}
    notes, lines, parts = [], [], []
    for method, rows in kept.items():
        judged = {of: [row for row in rows if row["of"] == of and not row["skipped"]] for of in (PREDICTION, GOLD)}
        lines.append((Cell(method), *(Cell(_share(own, "invalid")) for own in judged.values())))
        for of, own in judged.items():
            parts.append((Cell(method), Cell(of), *(Cell(_share(own, name)) for name in CHECKS)))
        skipped = {str(row["case"]): str(row["skipped"]) for row in rows if row["skipped"]}
        for reason in dict.fromkeys(skipped.values()):
            cases = [case for case, why in skipped.items() if why == reason]
            notes.append(f"{method}: {len(cases)} of {len({row['case'] for row in rows})} cases not judged: {reason}.")
    if not kept:
        return []
    notes = (
        "Slices with myocardium (scar and oedema included) or pool, judged together, on the grid of the file; for the "
        "gold standard, fully annotated slices only.",
        f"Limits: {limits_text(wall_check.DEFAULT._asdict())}.",
        *notes,
    )
    titles = "Anatomically invalid slices", "Slices that fail each check"
    return [
        Table(titles[0], ("method", PREDICTION, GOLD), tuple(lines), notes),
        Table(titles[1], ("method", "label map", *CHECKS), tuple(parts), ("A slice may fail several checks.",)),
    ]


def limits_text(limits: Mapping[str, Any]) -> str:
    """Printed limits of a check, e.g. "holes 0 px, c shaped yes"."""
    texts = []
    for name, value in limits.items():
        stem, _, last = name.rpartition("_")
        words, unit = (stem, f" {last}") if last in ("px", "mm", "mm2") else (name, "")
        is_flag = isinstance(getattr(wall_check.DEFAULT, name, value), bool)
        text = ("no", "yes")[bool(value)] if is_flag else f"{value:g}{unit}"
        texts.append(f"{words.replace('_', ' ')} {text}")
    return ", ".join(texts)


def share_text(number: float, slices: float) -> str:
    """Printed share, e.g. "3 of 12 (25.0%)"; a dash if there are no slices."""
    return f"{number:g} of {slices:g} ({100 * number / slices:.1f}%)" if slices else "-"


def _sum(rows: Rows, name: str) -> float:
    return sum(float(row[name]) for row in rows)


def _share(rows: Rows, name: str) -> str:
    return share_text(_sum(rows, name), _sum(rows, "slices"))
