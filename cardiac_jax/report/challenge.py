"""Writes and prints an evaluation by a challenge's own rules: `challenge_<rules>.csv`, `.json` and `.md`."""

import math
from pathlib import Path

import numpy as np
from rich.console import Console

from cardiac_jax.data.io.formats import read
from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.data.labels import wall_labels
from cardiac_jax.data.load import canonical_labels
from cardiac_jax.errors import InputError
from cardiac_jax.metrics import challenges
from cardiac_jax.metrics.challenges import RULES, SOURCES, Evaluated, Line
from cardiac_jax.report import table
from cardiac_jax.report.table import Cell, Table
from cardiac_jax.results import records
from cardiac_jax.results.evaluation import Results


def check(rules: str) -> None:
    """Raises InputError if there are no such rules; "" is none."""
    if rules and rules not in RULES:
        raise InputError("--rules", f"{rules!r} is not one of {', '.join(RULES)}")


def write(out: Path, results: Results, rules: str, console: Console) -> list[Line]:
    """Writes the table of a challenge by its rules into the folder of an evaluation, and prints it.

    Raises:
      InputError: there are no such rules, the classes or phases do not fit them, or a label map cannot be read again.
    """
    check(rules)
    classes = results.about["data"]["classes"]
    script_hd = _script_hd(results) if rules == "emidec" and wall_labels(classes) else {}
    lines = RULES[rules](Evaluated(results.rows, results.measured.clinical, classes, script_hd))
    rows = [line._asdict() for line in lines]
    records.write_csv(out / f"challenge_{rules}.csv", rows)
    records.write_json(out / f"challenge_{rules}.json", rows, {"rules": rules, "source": SOURCES[rules]})
    shown = challenge_table(lines, f"{results.name}, by the rules of {rules}", rules)
    atomic_write(out / f"challenge_{rules}.md", lambda to: to.write_text(table.to_markdown(shown), encoding="utf-8"))
    console.print(table.to_rich(shown))
    return lines


def challenge_table(lines: list[Line], title: str, rules: str) -> Table:
    """A table row for each line, with its number of cases and of those left out."""
    body = []
    for line in lines:
        heading = f"{line.measure} ({line.unit})" if line.unit else line.measure
        spread = "" if math.isnan(line.sd) else f" ± {line.sd:.3f}"
        value = "-" if math.isnan(line.value) else f"{line.value:.3f}{spread}"
        texts = (line.structure, heading, value, str(line.n), str(line.without))
        body.append(tuple(map(Cell, texts)))
    notes = (
        f"Rules: {SOURCES[rules]}; see docs/metrics.md.",
        "Left out: in one map only where the challenge has no value, or not fully annotated.",
    )
    return Table(title, ("structure", "measure", "value", "n", "left out"), tuple(body), notes)


def _script_hd(results: Results) -> dict[str, float]:
    """case -> HD of the whole wall as EMIDEC's script computes it, from the files of the evaluation."""
    data = results.about["data"]
    raw = {int(value): k for value, k in data["labels"]}
    wall = wall_labels(data["classes"])
    found: dict[str, float] = {}
    for case, entry in results.about["files"].items():
        paths = results.folder / entry["prediction"], Path(entry["truth"])
        volumes = [read(path) for path in paths]
        maps = [canonical_labels(volume.data, raw, path) for volume, path in zip(volumes, paths, strict=True)]
        spacing_mm = np.linalg.norm(volumes[1].affine[:3, :3], axis=0).tolist()
        pred, truth = (np.isin(labels, wall) for labels in maps)
        found[case] = challenges.hd_of_emidec(pred, truth, spacing_mm)
    return found
