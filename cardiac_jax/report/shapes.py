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
        `after`.
    """
    metric, lines, notes = METRICS["dice"], [], []
    for method, held in projected.items():
        before, after, slices = held["before"], held["after"], held["slices"]
        counts = (share_text(before, slices), share_text(after, slices), f"{after - before:+g}")
        lines.append((Cell(method), Cell("invalid slices"), *map(Cell, counts)))
        for structure, dice in held["dice"].items():
            was, became = float(dice["before"]), float(dice["after"])
            values = (metric.text(was), metric.text(became), metric.text(became - was, "+"))
            lines.append((Cell(method), Cell(f"{structure} {metric.heading}"), *map(Cell, values)))
        notes.append(f"{method}: limits of the projection: {limits_text(held['limits'])}.")
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
        values = (name, sizes, str(held.curves.nll.shape[1]), str(held.chosen), f"{100 * held.accept_rate:.1f}%")
        lines.append(tuple(map(Cell, values)))
        notes.append(f"{name}: limits of the check: {limits_text(held.limits)}.")
        said = f"{name}: likelihood and adjusted Akaike criterion of the latent codes by components of the mixture."
        pictures.append(Picture(cohort_charts.curves_figure(held.curves, held.chosen), said))
    header = ("method", "components tried", "folds", "taken", "draws accepted")
    tables = [Table("Mixture of the latent codes", header, tuple(lines), tuple(notes))] if lines else []
    return Section("latent", "Latent space", (), tables, pictures)
