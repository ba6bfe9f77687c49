"""Result tables for terminal and Markdown: mean +- SD over patients, the best in bold, n and misses in the notes."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.table import Table as RichTable
from rich.text import Text

from cardiac_jax.metrics.paired_tests import Comparison, smallest_p
from cardiac_jax.metrics.registry import METRICS
from cardiac_jax.metrics.summary import MEAN, Rows, Summary, counted, summary_of, without


class Cell(NamedTuple):
    """Text of one table cell, optionally bold."""

    text: str
    bold: bool = False


class Table(NamedTuple):
    """Content of a table, independent of its format; each row starts with its name, notes go below the table."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def structure_table(
    rows: Rows,
    structures: Sequence[str],
    metrics: Sequence[str] = ("dice", "asd_mm", "hd_mm", "hd95_mm"),
    title: str = "Per structure in 3D, mean ± SD over patients",
    leave_out: Sequence[str] = (),
) -> Table:
    """Table of metrics x structures of one method, mean +- SD over patients, as Table 1 of Yue et al. 2019.

    Raises:
      InputError: a case to leave out does not exist.
    """
    rows = without(rows, leave_out)
    lines, left_out = [], []
    for metric in metrics:
        line = [Cell(METRICS[metric].heading)]
        for structure in structures:
            summary = summary_of(rows, metric, structure)
            line.append(Cell(mean_sd(summary, metric)))
            left_out += left_out_note(f"{METRICS[metric].heading} {structure}", summary)
        lines.append(tuple(line))
    notes = (cases_note(rows, leave_out), *left_out)
    return Table(title, ("metric", *structures), tuple(lines), notes)


def method_table(
    rows_by_method: Mapping[str, Rows],
    structures: Sequence[str] = ("LV", "RV", "Myo"),
    metric: str = "dice",
    title: str = "",
    leave_out: Sequence[str] = (),
) -> Table:
    """Table of methods x structures and their mean, the best of each column in bold, as Table 2 of Yue et al. 2019.

    Values are mean +- SD over patients. "mean" averages over the structures of each case, then over the cases of each
    patient. The notes say how many patients each mean leaves out, and why.

    Raises:
      InputError: a case to leave out does not exist for one of the methods.
    """
    kept = {method: without(rows, leave_out) for method, rows in rows_by_method.items()}
    columns, left_out = [], []
    for name in (*structures, MEAN):
        column = {method: summary_of(rows, metric, name, structures) for method, rows in kept.items()}
        for method, summary in column.items():
            left_out += left_out_note(f"{method} {name}", summary)
        columns.append((column, best_of(column, metric)))
    lines = [
        (Cell(method), *(Cell(mean_sd(column[method], metric), method in best) for column, best in columns))
        for method in kept
    ]
    cases = {method: cases_note(rows, leave_out) for method, rows in kept.items()}
    same = len(set(cases.values())) == 1
    notes = ((*cases.values(),)[:1] if same else tuple(f"{m}: {note}" for m, note in cases.items())) + (*left_out,)
    title = title or f"{METRICS[metric].heading} in 3D, mean ± SD over patients"
    return Table(title, ("method", *structures, MEAN), tuple(lines), notes)


def comparison_table(comparisons: Sequence[Comparison], metric: str = "dice") -> Table:
    """Table of paired differences with interval and both p values; bold if p (Holm) < 0.05."""
    lines, left_out = [], []
    for c in comparisons:
        difference, low, high = (
            "-" if math.isnan(value) else METRICS[metric].text(value, "+") for value in (c.difference, c.low, c.high)
        )
        significant, methods = c.p_holm < 0.05, f"{c.method} - {c.baseline}"
        left_out += left_out_note(f"{methods}, {c.structure}", Summary(c.difference, math.nan, *c[3:6]))
        lines.append(
            (
                Cell(methods),
                Cell(c.structure),
                Cell(str(c.n)),
                Cell(f"{difference} [{low}, {high}]", significant),
                Cell(p_text(c.p)),
                Cell(p_text(c.p_holm), significant),
            )
        )
    notes = [
        "n: patients; differences of one patient's cases are averaged first. 95% CI: Student's t.",
        f"Wilcoxon signed-rank, two-sided; Holm over the {len(comparisons)} comparisons of this table.",
    ]
    tested = [c.n for c in comparisons if c.n]
    least = smallest_p(min(tested)) if tested else 0.0
    corrected = min(1.0, least * len(tested))
    if corrected >= 0.05:
        of = f"with n = {min(tested)} p cannot fall below {least:.3g}"
        notes.append(f"Warning: {of}, nor p (Holm) below {corrected:.3g}.")
    header = ("methods", "structure", "n", "mean difference [95% CI]", "p", "p (Holm)")
    return Table(f"{METRICS[metric].heading}, paired by patient", header, tuple(lines), (*notes, *left_out))


def to_markdown(table: Table) -> str:
    """Markdown text of a table, with title and notes."""
    body = [f"| {' | '.join(f'**{c.text}**' if c.bold else c.text for c in row)} |" for row in table.rows]
    head = [f"| {' | '.join(table.header)} |", "|" + "---|" * len(table.header)]
    return "\n".join([f"**{table.title}**", "", *head, *body, "", *(f"- {note}" for note in table.notes)]) + "\n"


def to_rich(table: Table) -> RichTable:
    """The table as a `rich` table for the terminal."""
    out = RichTable(title=Text(table.title), caption=Text("\n".join(table.notes)), caption_justify="left")
    for i, name in enumerate(table.header):
        out.add_column(Text(name), justify="left" if i == 0 else "right", no_wrap=i == 0, overflow="fold")
    for row in table.rows:
        out.add_row(*(Text(c.text, style="bold" if c.bold else "") for c in row))
    return out


def mean_sd(summary: Summary, metric: str) -> str:
    """Printed mean ± SD; a dash if there is no value."""
    if not summary.n:
        return "-"
    spread = "" if math.isnan(summary.sd) else f" ± {METRICS[metric].text(summary.sd)}"
    return f"{METRICS[metric].text(summary.mean)}{spread}"


def left_out_note(what: str, summary: Summary, unit: str = "patients") -> list[str]:
    """A note with the numbers of missed, excluded and partial values of `what`; empty if there are none."""
    counts = [
        (summary.misses, "missed (infinite)"),
        (summary.excluded, "excluded (nothing to measure)"),
        (summary.partial, "averaged over fewer cases or structures (nothing to measure in the others)"),
    ]
    text = "".join(f", {count} {why}" for count, why in counts if count)
    return [f"{what}: n = {summary.n} of {summary.total} {unit}{text}."] if text else []


def cases_note(rows: Rows, leave_out: Sequence[str]) -> str:
    """A note with the numbers of patients and cases, and the excluded cases."""
    return f"n = {counted(rows)}" + (f", without {', '.join(leave_out)}." if leave_out else ".")


def best_of(column: Mapping[str, Summary], metric: str) -> set[str]:
    """Methods with the best printed mean; equal printed means are all best.

    Empty for a single method, and for a metric without a better direction. A mean excludes misses, so only the methods
    with the fewest misses are compared.
    """
    higher = METRICS[metric].higher_is_better
    fewest = min((s.misses for s in column.values()), default=0)
    if sum(s.n > 0 for s in column.values()) < 2 or higher is None:
        return set()
    shown = {m: float(METRICS[metric].text(s.mean)) for m, s in column.items() if s.n and s.misses == fewest}
    if not shown:
        return set()
    best = max(shown.values()) if higher else min(shown.values())
    return {method for method, value in shown.items() if value == best}


def p_text(value: float) -> str:
    """Printed p value; a dash for NaN."""
    if math.isnan(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
