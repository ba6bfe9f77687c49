"""Results of an evaluation, of a checkpoint or of given label maps, and their files.

<out>/cases.csv, .json           a row per case and structure: overlap, distances, volumes
<out>/slices.csv, .json          a row per structure and slice with its location; includes unions and core scar
<out>/clinical.csv, .json        a row per case and clinical measure: prediction and gold standard
<out>/segments.csv, .json        a row per case and AHA segment: wall thickness and endocardial radius
<out>/patients.csv, .json        a row per patient and measure of function, of patients measured at ED and ES
<out>/motion.csv, .json          a row per such patient and AHA segment: wall thickening and wall motion
<out>/volumes.csv, .json         a row per case and structure: volume interpolated between slices, with its method
<out>/validity.csv, .json        two rows per case: anatomically invalid slices of prediction and of gold standard
<out>/images.csv, .json          of restored images, instead of the rows above: a row per case and part of the image
<out>/table.md                   mean +- SD over cases
<out>/failed.csv                 a row per case that failed, with the reason; only if there are any
<out>/overlay.png                best, median and worst case, if there are images
<out>/predictions/<case>.nii.gz  label maps, if predicted from a checkpoint

"Volume" is voxel count x voxel volume in every file but volumes.csv, whose columns say "interpolated". Volumes and
clinical measures of cases that are not fully annotated are empty (`status`, `annotation`).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cardiac_jax.anatomy.validity import CHECKS, validity_rows
from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.interpolate import nearest_labels, onto
from cardiac_jax.data.stack import Stack
from cardiac_jax.errors import InputError, printable
from cardiac_jax.metrics import clinical, structures
from cardiac_jax.metrics.evaluate import evaluate_case
from cardiac_jax.metrics.images import image_rows
from cardiac_jax.metrics.measures import function_rows, measure_case, motion_rows
from cardiac_jax.metrics.rows import Row
from cardiac_jax.metrics.strata import slice_rows
from cardiac_jax.metrics.summary import Rows
from cardiac_jax.results import records


def folder_of(split: str) -> str:
    """Name of the folder, inside a run, of its evaluation on `split`."""
    return f"evaluation_{split}"


class Subject(NamedTuple):
    """Case, patient, pathology group and phase of a row ("" if there is none), and body surface area (or NaN)."""

    case: str
    patient: str
    group: str = ""
    phase: str = ""
    bsa_m2: float = math.nan


def subject(record: Record) -> Subject:
    """The `Subject` of a record of a data set."""
    area = clinical.bsa_m2(record.height_cm, record.weight_kg)
    return Subject(record.id, record.patient, record.group or "", record.phase or "", area)


class Measured(NamedTuple):
    """All rows of an evaluation.

    Attributes, with the rows per case:
      cases: one per structure.
      slices: one per structure and slice.
      clinical: one per clinical measure.
      volumes: one per structure.
      validity: one for the prediction and one for the gold standard.
      segments: one per AHA segment.
      images: one per part of a restored image (`metrics/images.py`), with `seconds` of its prediction.
    """

    cases: tuple[Row, ...] = ()
    slices: tuple[Row, ...] = ()
    clinical: tuple[Row, ...] = ()
    volumes: tuple[Row, ...] = ()
    validity: tuple[Row, ...] = ()
    segments: tuple[Row, ...] = ()
    images: tuple[Row, ...] = ()


class Results(NamedTuple):
    """Results of one method on one set of cases.

    Attributes:
      name: name of the method in tables.
      measured: its rows.
      about: provenance: `data` (`dataset`, `classes`, `labels`, `slice_order`), `split`, `files` (case -> `image`,
        `truth`, `prediction`), `failed` (case -> reason; they have no rows). With a checkpoint also `config`,
        `checkpoint`, `machine`. If masks were projected onto valid ones also `projection`: `before` and `after`
        (invalid slices out of `slices`), `limits`, `dice` (structure -> `before`, `after`).
      folder: folder of the files.
    """

    name: str
    measured: Measured
    about: Mapping[str, Any]
    folder: Path

    @property
    def rows(self) -> Rows:
        """Rows with one entry per case and structure; of restored images, per case and part of the image."""
        return self.measured.cases or self.measured.images

    @property
    def of_images(self) -> bool:
        """Whether restored images were measured, not label maps."""
        return bool(self.measured.images)

    @property
    def structures(self) -> list[str]:
        """Classes without the background, in the order of the papers: LV, RV, Myo, others; or parts of the image."""
        if self.of_images:
            return list(dict.fromkeys(str(row["structure"]) for row in self.measured.images))
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
    """`before` with the rows of one case added.

    Args:
      of: the case.
      pred, truth: label maps `[Z, H, W]` on one grid.
      chosen: data set that defines the classes.
      image: LGE intensities as acquired `[Z, H, W]`, used to find core scar.
    """
    stacks, spacing_mm, classes = (pred.data, truth.data), truth.spacing_mm, chosen.classes
    parts = structures.parts(*stacks, classes, image)
    slices = [r for r in slice_rows(*stacks, spacing_mm, classes) if r["structure"] not in {p.name for p in parts}]
    located = [*slices, *structures.part_slice_rows(parts, spacing_mm)]
    measures = measure_case(*stacks, spacing_mm, classes, image)
    segments = measures.segments
    if not truth.frame.apex_known:  # Z has either end first: no thirds, no AHA segments
        located, segments = [{**row, "location": ""} for row in located], []
    kinds = (
        evaluate_case(*stacks, spacing_mm, classes, slice_axis=0),
        located,
        [{**row, "bsa_m2": of.bsa_m2} for row in measures.clinical],
        structures.volume_rows(*stacks, spacing_mm, classes, parts),
        validity_rows(*stacks, spacing_mm, classes),
        segments,
    )
    head = {name: value for name, value in of._asdict().items() if name != "bsa_m2"}
    added = [tuple({**head, **row} for row in rows) for rows in (*kinds, [])]
    return Measured(*(old + new for old, new in zip(before, added, strict=True)))


def with_image(
    before: Measured, of: Subject, pred: Stack, truth: Stack, label: Stack | None, seconds: float
) -> Measured:
    """`before` with the rows of one restored image added.

    Args:
      of: the case.
      pred: the image `[Z, H, W]`, in the intensities of the file; it is compared at the voxels of `truth`.
      truth: the reference `[Z, H, W]`.
      label: label map `[Z, H, W]` on any grid, which tells where the heart lies.
      seconds: time that the prediction took.
    """
    at = None if label is None else nearest_labels(label, truth)
    rows = image_rows(onto(pred, truth), truth.data, at, truth.spacing_mm)
    head = {name: value for name, value in of._asdict().items() if name != "bsa_m2"}
    return before._replace(images=(*before.images, *({**head, **row, "seconds": seconds} for row in rows)))


def files(image: Path | None, truth: Path, prediction: Path, label: Path | None = None) -> dict[str, str]:
    """The entry of `about["files"]` for a case; a relative prediction path starts at the folder of the results.

    Args:
      truth: the gold standard: a label map or, of a restored image, the reference.
      label: of a restored image, the label map that tells where the heart lies.
    """
    found = {
        "image": str(image.resolve()) if image else "",
        "truth": str(truth.resolve()),
        "prediction": str(prediction),
    }
    return {**found, "label": str(label.resolve())} if label else found


def reasons(failed: Mapping[str, InputError]) -> dict[str, str]:
    """Case -> its error, as the files of an evaluation hold it."""
    return {printable(name): str(error) for name, error in failed.items()}


def write_rows(out: Path, results: Results) -> None:
    """Writes all rows as CSV and JSON, and those of patients made of them; `cases.json` also has `results.about`."""
    measured = results.measured
    for kind, rows in (("patients", function_rows(measured.clinical)), ("motion", motion_rows(measured.segments))):
        if rows:
            records.write_csv(out / f"{kind}.csv", rows)
            records.write_json(out / f"{kind}.json", rows)
    for kind, rows in results.measured._asdict().items():
        if rows:
            records.write_csv(out / f"{kind}.csv", rows)
        if rows or kind != "images":
            records.write_json(out / f"{kind}.json", rows, results.about if kind == "cases" else {})
        else:
            for suffix in ("csv", "json"):  # of an earlier evaluation
                (out / f"{kind}.{suffix}").unlink(missing_ok=True)


def read_results(folder: Path) -> Results:
    """Results in `folder`, as written by `write_rows`; kinds of rows without a file are empty.

    Raises:
      InputError: a file is missing, has other content, or was written by an older version.
    """
    about, _ = records.read_json(folder / "cases.json")
    if "files" not in about:
        raise InputError(folder / "cases.json", "was written by an older version; rerun launch.evaluate")
    kinds = [_rows(folder / f"{kind}.json") for kind in Measured._fields]
    measured = Measured(*kinds)
    if any(not set(CHECKS) <= set(row) for row in measured.validity):
        raise InputError(
            folder / "validity.json", "was written by an older version with other checks; rerun launch.evaluate"
        )
    if any("surface_dice" not in row for row in measured.cases):
        raise InputError(folder / "cases.json", "was written by an older version; rerun launch.evaluate")
    if any("interpolated_volume_truth_ml" not in row for row in measured.volumes):
        raise InputError(folder / "volumes.json", "was written by an older version; rerun launch.evaluate")
    return Results(about["name"], measured, about, folder)


def _rows(path: Path) -> tuple[Row, ...]:
    return tuple(records.read_json(path)[1]) if path.is_file() else ()


def pooled(folds: Sequence[Results]) -> Results:
    """Results of all folds of one method combined.

    A case in several folds, e.g. a test case, appears once, with the mean over the folds. Figures use its label map
    from the first fold.

    Raises:
      InputError: the folds differ in method or data.
    """
    first = folds[0]
    for other in folds[1:]:
        if (other.name, other.about["data"]) != (first.name, first.about["data"]):
            raise InputError(other.folder, f"differs in method or data from the fold in {first.folder}")
    if len(folds) == 1:
        return first
    kinds = [_mean_of([one.measured[i] for one in folds]) for i in range(len(Measured._fields))]
    found: dict[str, dict[str, str]] = {}
    for one in reversed(folds):
        for case, entry in one.about["files"].items():
            found[case] = {**entry, "prediction": str((one.folder / entry["prediction"]).resolve())}
    failed = {
        case: reason for one in folds for case, reason in one.about.get("failed", {}).items() if case not in found
    }
    about = {**first.about, "files": found, "failed": failed, "folds": len(folds)}
    about.pop("projection", None)
    if all("projection" in one.about for one in folds):
        about["projection"] = _pooled_projection([one.about["projection"] for one in folds])
    return first._replace(measured=Measured(*kinds), about=about)


def _pooled_projection(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Projection summary of all folds: sum of the slice counts, mean Dice."""
    total = {k: sum(one[k] for one in folds) for k, v in folds[0].items() if isinstance(v, int)}
    dice = {
        name: {when: sum(one["dice"][name][when] for one in folds) / len(folds) for when in ("before", "after")}
        for name in folds[0]["dice"]
        if all(name in one["dice"] for one in folds)
    }
    return {**folds[0], **total, "dice": dice}


def _mean_of(folds: Sequence[Sequence[Row]]) -> tuple[Row, ...]:
    """Rows of several folds, averaged over rows of the same subject; a value infinite in any fold stays infinite."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for rows in folds:
        for row in rows:
            about = tuple(f"{k}={v}" for k, v in row.items() if (isinstance(v, str) and k != "status") or k == "slice")
            groups.setdefault(about, []).append(row)
    return tuple(_mean_row(rows) for rows in groups.values())


def _mean_row(rows: Sequence[Row]) -> Row:
    first = rows[0]
    if len(rows) == 1:
        return first
    worst = next((row["status"] for row in rows if row.get("status", "ok") != "ok"), first.get("status"))
    numbers = {k: sum(float(row[k]) for row in rows) / len(rows) for k, v in first.items() if isinstance(v, float)}
    return {**first, **numbers, **({"status": worst} if worst is not None else {})}
