"""What an evaluation leaves in its folder, whoever made the label maps, and how it is read back.

<out>/cases.csv, .json           a row per case and structure: overlap, distances, volumes
<out>/slices.csv, .json          a row per structure and slice, by apex, middle and base; unions and core scar too
<out>/clinical.csv, .json        a row per case and clinical measure, by prediction and gold standard
<out>/volumes.csv, .json         a row per case and structure: volume with interpolation between slices
<out>/validity.csv, .json        two rows per case: anatomically invalid slices of prediction and of gold standard
<out>/table.md                   mean +- SD of them
<out>/overlay.png                best, median and worst case, where the images are known
<out>/predictions/<case>.nii.gz  label maps, where a checkpoint made them
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cardiac_jax.anatomy.validity import CHECKS, validity_rows
from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.stack import Stack
from cardiac_jax.errors import InputError
from cardiac_jax.metrics import structures
from cardiac_jax.metrics.evaluate import Row, evaluate_case
from cardiac_jax.metrics.measures import measure_case
from cardiac_jax.metrics.strata import slice_rows
from cardiac_jax.metrics.summary import Rows
from cardiac_jax.results import records


def folder_of(split: str) -> str:
    """Where a study puts the evaluation of a run on `split`, inside the run."""
    return f"evaluation_{split}"


class Subject(NamedTuple):
    """Whose rows these are: the case, its patient, pathology group and phase ("" where there is none)."""

    case: str
    patient: str
    group: str = ""
    phase: str = ""


def subject(record: Record) -> Subject:
    """The subject of a data set's record."""
    return Subject(record.id, record.patient, record.group or "", record.phase or "")


class Measured(NamedTuple):
    """Rows of every kind; `cases` one per structure, `slices` one per structure and slice, `clinical` per measure,
    `volumes` one per structure, `validity` one of the prediction and one of the gold standard."""

    cases: tuple[Row, ...] = ()
    slices: tuple[Row, ...] = ()
    clinical: tuple[Row, ...] = ()
    volumes: tuple[Row, ...] = ()
    validity: tuple[Row, ...] = ()


class Results(NamedTuple):
    """One method measured on one set of cases.

    Attributes:
      name: of the method, as tables print it.
      measured: its rows.
      about: where they come from: `data` (`dataset`, `classes`, `labels`, `slice_order`), `split`, `files`
        (case -> `image`, `truth`, `prediction`), and of a checkpoint `config`, `checkpoint`, `machine`; where masks
        were projected onto valid ones `projection` (`before`, `after`, `slices`: invalid slices of how many, `limits`,
        `dice`: structure -> `before`, `after`).
      folder: where they lie.
    """

    name: str
    measured: Measured
    about: Mapping[str, Any]
    folder: Path

    @property
    def rows(self) -> Rows:
        """One per case and structure."""
        return self.measured.cases

    @property
    def structures(self) -> list[str]:
        """Classes but the background, LV first where there is one, as the papers print them."""
        names = list(self.about["data"]["classes"][1:])
        return sorted(names, key=lambda name: ("LV", "RV", "Myo").index(name) if name in ("LV", "RV", "Myo") else 3)


def measured(
    before: Measured,
    of: Subject,
    pred: Stack,
    truth: Stack,
    chosen: Dataset,
    image: np.ndarray | None = None,
) -> Measured:
    """`before` and the rows of one case.

    Args:
      pred, truth: label maps `[Z, H, W]`.
      image: LGE intensities as acquired `[Z, H, W]`, on which core scar is measured.
    """
    stacks, spacing_mm, classes = (pred.data, truth.data), truth.spacing_mm, chosen.classes
    parts = structures.parts(*stacks, classes, image)
    slices = [r for r in slice_rows(*stacks, spacing_mm, classes) if r["structure"] not in {p.name for p in parts}]
    kinds = (
        evaluate_case(*stacks, spacing_mm, classes, slice_axis=0),
        [*slices, *structures.part_slice_rows(parts, spacing_mm)],
        measure_case(*stacks, spacing_mm, classes, image),
        structures.volume_rows(*stacks, spacing_mm, classes, parts),
        validity_rows(*stacks, spacing_mm, classes),
    )
    added = [tuple({**of._asdict(), **row} for row in rows) for rows in kinds]
    return Measured(*(old + new for old, new in zip(before, added, strict=True)))


def files(image: Path | None, truth: Path, prediction: Path) -> dict[str, str]:
    """The entry of `about["files"]` for a case; a relative prediction lies in the folder of the results."""
    return {
        "image": str(image.resolve()) if image else "",
        "truth": str(truth.resolve()),
        "prediction": str(prediction),
    }


def write_rows(out: Path, results: Results) -> None:
    """Writes the rows of every kind, and with those of the cases what they are about."""
    for kind, rows in results.measured._asdict().items():
        if rows:
            records.write_csv(out / f"{kind}.csv", rows)
        records.write_json(out / f"{kind}.json", rows, results.about if kind == "cases" else {})


def read_results(folder: Path) -> Results:
    """What `write_rows` left in `folder`; a kind of rows that was not known when it was written is empty.

    Raises:
      InputError: nothing, or not of this kind.
    """
    about, _ = records.read_json(folder / "cases.json")
    if "files" not in about:
        raise InputError(folder / "cases.json", "was written by an older version: evaluate again")
    kinds = [_rows(folder / f"{kind}.json") for kind in Measured._fields]
    measured = Measured(*kinds)
    if any(not set(CHECKS) <= set(row) for row in measured.validity):
        raise InputError(folder / "validity.json", "was written by an older version, with other checks: evaluate again")
    return Results(about["name"], measured, about, folder)


def _rows(path: Path) -> tuple[Row, ...]:
    return tuple(records.read_json(path)[1]) if path.is_file() else ()


def pooled(folds: Sequence[Results]) -> Results:
    """The folds of one method as one: cases of different folds side by side; a case that several folds measured, as a
    test set's, once, with the mean over the folds (and the first fold's label map, for pictures).

    Raises:
      InputError: folds of different methods or data.
    """
    first = folds[0]
    for other in folds[1:]:
        if (other.name, other.about["data"]) != (first.name, first.about["data"]):
            raise InputError(other.folder, f"is not another fold of what lies in {first.folder}")
    if len(folds) == 1:
        return first
    kinds = [_mean_of([one.measured[i] for one in folds]) for i in range(len(Measured._fields))]
    found: dict[str, dict[str, str]] = {}
    for one in reversed(folds):
        for case, held in one.about["files"].items():
            found[case] = {**held, "prediction": str((one.folder / held["prediction"]).resolve())}
    about = {**first.about, "files": found, "folds": len(folds)}
    about.pop("projection", None)
    if all("projection" in one.about for one in folds):
        about["projection"] = _pooled_projection([one.about["projection"] for one in folds])
    return first._replace(measured=Measured(*kinds), about=about)


def _pooled_projection(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a projection did in all folds: slices added, Dice their mean."""
    total = {k: sum(one[k] for one in folds) for k, v in folds[0].items() if isinstance(v, int)}
    dice = {
        name: {when: sum(one["dice"][name][when] for one in folds) / len(folds) for when in ("before", "after")}
        for name in folds[0]["dice"]
        if all(name in one["dice"] for one in folds)
    }
    return {**folds[0], **total, "dice": dice}


def _mean_of(folds: Sequence[Sequence[Row]]) -> tuple[Row, ...]:
    """Rows of several folds, those about the same thing averaged: infinite if it is infinite in any fold."""
    held: dict[tuple[str, ...], list[Row]] = {}
    for rows in folds:
        for row in rows:
            about = tuple(f"{k}={v}" for k, v in row.items() if (isinstance(v, str) and k != "status") or k == "slice")
            held.setdefault(about, []).append(row)
    return tuple(_mean_row(rows) for rows in held.values())


def _mean_row(rows: Sequence[Row]) -> Row:
    first = rows[0]
    if len(rows) == 1:
        return first
    worst = next((row["status"] for row in rows if row.get("status", "ok") != "ok"), first.get("status"))
    numbers = {k: sum(float(row[k]) for row in rows) / len(rows) for k, v in first.items() if isinstance(v, float)}
    return {**first, **numbers, **({"status": worst} if worst is not None else {})}
