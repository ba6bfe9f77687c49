"""The parts of a report about anatomical validity, and about the mixture that valid shapes are drawn from."""

from collections.abc import Mapping, Sequence
from typing import Any

from cardiac_jax.metrics import cohort_charts
from cardiac_jax.metrics.registry import METRICS
from cardiac_jax.metrics.table import Cell, Table
from cardiac_jax.metrics.validity import invalid_tables, limits_text, share_text
from cardiac_jax.report.collect import Entry
from cardiac_jax.report.page import Picture, Section
from cardiac_jax.report.wishes import Wishes


def validity(entries: Sequence[Entry], wishes: Wishes) -> Section:
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


def latent(entries: Sequence[Entry], wishes: Wishes) -> Section:
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
