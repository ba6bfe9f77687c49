"""The parts of a report about anatomical validity, and about the mixture that valid shapes are drawn from."""

from collections.abc import Mapping, Sequence
from typing import Any

from cardiac_jax.anatomy import wall_check
from cardiac_jax.anatomy.validity import CHECKS, GOLD, PREDICTION
from cardiac_jax.metrics.registry import METRICS
from cardiac_jax.metrics.summary import Rows, without
from cardiac_jax.report import cohort_charts
from cardiac_jax.report.collect import Entry
from cardiac_jax.report.options import Options
from cardiac_jax.report.page import Picture, Section
from cardiac_jax.report.table import Cell, Table


def validity(entries: Sequence[Entry], options: Options) -> Section:
    """How many slices no heart looks like, of every method; and what projecting them onto valid ones changed."""
    tables = invalid_tables({entry.results.name: entry.results.measured.validity for entry in entries})
    projected = {e.results.name: e.results.about["projection"] for e in entries if "projection" in e.results.about}
    if projected:
        tables.append(projection_table(projected))
    return Section("validity", "Anatomical validity", (), tables)


def projection_table(projected: Mapping[str, Mapping[str, Any]]) -> Table:
    """Before and after projection: invalid slices, and Dice by structure.

    Args:
      projected: method -> `before`, `after`: invalid slices among `slices`; `limits`; `dice`: structure -> `before`,
        `after`; where they are known, slices `moved` and `from_bank`, and `which` slices were projected.
    """
    metric, lines, notes = METRICS["dice"], [], []
    for method, held in projected.items():
        before, after, slices = held["before"], held["after"], held["slices"]
        counts = (share_text(before, slices), share_text(after, slices), f"{after - before:+g}")
        lines.append((Cell(method), Cell("invalid slices"), *map(Cell, counts)))
        for key, what in (("moved", "slices moved"), ("from_bank", "slices taken from the bank")):
            if key in held:
                lines.append((Cell(method), Cell(what), Cell("-"), Cell(share_text(held[key], slices)), Cell("-")))
        for structure, dice in held["dice"].items():
            was, became = float(dice["before"]), float(dice["after"])
            values = (metric.text(was), metric.text(became), metric.text(became - was, "+"))
            lines.append((Cell(method), Cell(f"{structure} {metric.heading}"), *map(Cell, values)))
        which = f"slices projected: {held['which']}; " if "which" in held else ""
        notes.append(f"{method}: {which}limits of the projection: {limits_text(held['limits'])}.")
    notes.append("Counted under the projection's own limits; the table of all methods counts by the default limits.")
    notes.append("Anatomically valid does not mean accurate.")
    header = ("method", "what", "before", "after", "difference")
    return Table("Projection onto anatomically valid slices", header, tuple(lines), tuple(notes))


def latent(entries: Sequence[Entry], options: Options) -> Section:
    """Size of each method's mixture, and how many of its draws are anatomically valid."""
    lines, notes, pictures = [], [], []
    for entry in entries:
        if entry.latent is None:
            continue
        name, held = entry.results.name, entry.latent
        sizes = ", ".join(map(str, held.curves.sizes))
        folds, rate = held.curves.nll.shape[1], f"{100 * held.accept_rate:.1f}%"
        values = (name, sizes, str(folds), str(held.chosen), str(held.used), rate)
        lines.append(tuple(map(Cell, values)))
        notes.append(f"{name}: limits of the check: {limits_text(held.limits)}.")
        said = f"{name}: likelihood and adjusted Akaike criterion of the latent codes by components of the mixture."
        pictures.append(Picture(cohort_charts.curves_figure({"": (held.curves, held.used)}), said))
    header = ("method", "components tried", "folds", "chosen", "in use", "draws accepted")
    tables = [Table("Mixture of the latent codes", header, tuple(lines), tuple(notes))] if lines else []
    return Section("latent", "Latent space", (), tables, pictures)


def invalid_tables(rows_by_method: Mapping[str, Rows], leave_out: Sequence[str] = ()) -> list[Table]:
    """Invalid slices by method, and by check.

    Args:
      rows_by_method: those of `validity_rows`, with `case`; methods without rows are left out.

    Raises:
      InputError: a case to leave out is not there.
    """
    held = {method: without(rows, leave_out) for method, rows in rows_by_method.items() if rows}
    notes, lines, parts = [], [], []
    for method, rows in held.items():
        judged = {of: [row for row in rows if row["of"] == of and not row["skipped"]] for of in (PREDICTION, GOLD)}
        lines.append((Cell(method), *(Cell(_share(own, "invalid")) for own in judged.values())))
        for of, own in judged.items():
            parts.append((Cell(method), Cell(of), *(Cell(_share(own, name)) for name in CHECKS)))
        skipped = {str(row["case"]): str(row["skipped"]) for row in rows if row["skipped"]}
        for reason in dict.fromkeys(skipped.values()):
            cases = [case for case, why in skipped.items() if why == reason]
            notes.append(f"{method}: {len(cases)} of {len({row['case'] for row in rows})} cases not judged: {reason}.")
    if not held:
        return []
    notes = (
        "Slices with myocardium, what is drawn in it included, each on its file's grid; of the gold standard those "
        "annotated throughout.",
        f"Limits: {limits_text(wall_check.DEFAULT._asdict())}.",
        *notes,
    )
    titles = "Anatomically invalid slices", "Slices that fail each check"
    return [
        Table(titles[0], ("method", PREDICTION, GOLD), tuple(lines), notes),
        Table(titles[1], ("method", "of", *CHECKS), tuple(parts), ("A slice may fail several.",)),
    ]


def limits_text(limits: Mapping[str, Any]) -> str:
    """Limits of a check as printed: "holes 0 px, c shaped yes"."""
    said = []
    for name, value in limits.items():
        stem, _, last = name.rpartition("_")
        words, unit = (stem, f" {last}") if last in ("px", "mm", "mm2") else (name, "")
        permits = isinstance(getattr(wall_check.DEFAULT, name, value), bool)
        held = ("no", "yes")[bool(value)] if permits else f"{value:g}{unit}"
        said.append(f"{words.replace('_', ' ')} {held}")
    return ", ".join(said)


def share_text(number: float, slices: float) -> str:
    """ "3 of 12 (25.0%)"; a dash of none."""
    return f"{number:g} of {slices:g} ({100 * number / slices:.1f}%)" if slices else "-"


def _sum(rows: Rows, name: str) -> float:
    return sum(float(row[name]) for row in rows)


def _share(rows: Rows, name: str) -> str:
    return share_text(_sum(rows, name), _sum(rows, "slices"))
