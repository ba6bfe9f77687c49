"""Writes `report.html` from evaluations, and the same numbers as CSV and JSON.

<out>/report.html           the complete report in one file
<out>/tables/<name>.csv     each table as printed
<out>/tables/<name>.md      each table with its notes
<out>/numbers.json          means, SDs, counts and paired tests in full precision
<out>/cases.csv, .json      a row per method, case and structure
"""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.errors import InputError
from cardiac_jax.metrics import paired_tests
from cardiac_jax.metrics.summary import Rows, counted
from cardiac_jax.progress import shown
from cardiac_jax.report import image_sections, sections
from cardiac_jax.report.collect import Entry
from cardiac_jax.report.opinions import tables as opinion_tables
from cardiac_jax.report.page import Section, render
from cardiac_jax.report.table import Table, to_markdown, to_rich
from cardiac_jax.results import records


def build(
    entries: Sequence[Entry],
    out: Path,
    console: Console,
    *,
    reference: str = "",
    own: str = "",
    published: sections.Published | None = None,
    leave_out: Sequence[str] = (),
    title: str = "",
    seconds: Mapping[str, Sequence[float]] | None = None,
    opinions: Mapping[str, Rows] | None = None,
) -> Path:
    """Writes the report and returns the path of its page.

    Args:
      reference: the method that all others are tested against.
      own: the default reference, if it is among the entries; otherwise the first entry is the default.
      published: values of the paper.
      leave_out: cases to exclude from a second copy of the main table.
      title: title of the page; by default the methods and the data set.
      seconds: method -> times of prediction of one stack, measured in turn.
      opinions: method -> rows of readers' scores of its restored images.

    Raises:
      InputError: a method or case does not exist, or a file of an evaluation is missing.
    """
    names = [entry.results.name for entry in entries]
    reference = reference or (own if own in names else names[0])
    if reference not in names:
        raise InputError("--reference", f"{reference!r} is not one of {', '.join(names)}")
    structures = entries[0].results.structures
    of_images = entries[0].results.of_images
    compared: list[paired_tests.Comparison] = []
    if len(entries) > 1:
        metric = "ssim" if of_images else "dice"
        compared = paired_tests.compare(sections.rows_of(entries), reference, structures, metric, mean=not of_images)
    options = sections.Options(reference, published or {}, tuple(leave_out), compared, seconds or {}, opinions or {})
    made: list[Section] = []
    for part in shown(image_sections.PARTS if of_images else sections.PARTS, "report", console):
        made.append(part(entries, options))
    for table in made[0].tables:
        console.print(to_rich(table))
    about = entries[0].results.about["data"]
    count = counted([row for entry in entries for row in entry.results.rows])
    title = title or f"{', '.join(names) if len(names) < 4 else f'{len(names)} methods'} on {about['dataset']}"
    grid = "the reference" if of_images else "each case"
    subtitle = f"{count}; {', '.join(structures)}; measured in 3D on the grid of {grid}"
    page = render(title, subtitle, made)
    for section in made:
        for table in section.tables:
            _write_table(out / "tables" / _slug(table.title), table)
    rows = [{"method": entry.results.name, **row} for entry in entries for row in entry.results.rows]
    records.write_csv(out / "cases.csv", rows)
    records.write_json(out / "cases.json", rows, {"reference": reference})
    _write_numbers(out / "numbers.json", entries, options)
    atomic_write(out / "report.html", lambda to: to.write_text(page, encoding="utf-8"))
    console.print(f"written to {out}: report.html, tables/, numbers.json, cases.csv, cases.json")
    return out / "report.html"


def write_opinions(opinions: Mapping[str, Rows], out: Path | None, reference: str, console: Console) -> None:
    """Prints readers' scores (method -> rows) and, with `out`, writes the tables there, and the rows as CSV.

    Raises:
      InputError: `reference` is named and has no score.
    """
    if reference and reference not in opinions:
        raise InputError("--reference", f"{reference!r} is not one of {', '.join(opinions)}")
    for table in opinion_tables(opinions, reference or next(iter(opinions))):
        console.print(to_rich(table))
        if out is not None:
            _write_table(out / "tables" / _slug(table.title), table)
    if out is not None:
        records.write_csv(out / "opinions.csv", [{"method": m, **row} for m, rows in opinions.items() for row in rows])


def _write_table(path: Path, table: Table) -> None:
    def write(to: Path) -> None:
        with to.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([table.header, *([cell.text for cell in row] for row in table.rows)])

    atomic_write(path.with_suffix(".csv"), write)
    atomic_write(path.with_suffix(".md"), lambda to: to.write_text(to_markdown(table), encoding="utf-8"))


def _write_numbers(path: Path, entries: Sequence[Entry], options: sections.Options) -> None:
    summary, paired = sections.numbers(entries), [one._asdict() for one in options.paired]
    content: dict[str, object] = {
        "summary": [records.plain(n) for n in summary],
        "paired": [records.plain(p) for p in paired],
    }
    if options.seconds:
        content["seconds"] = {method: list(held) for method, held in options.seconds.items()}
    text = json.dumps(content, indent=1, allow_nan=False)
    atomic_write(path, lambda to: to.write_text(text + "\n", encoding="utf-8"))


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
