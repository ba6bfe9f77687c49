"""Classification of a data set's patients by their shape: rows, tables and files (see `runs/codes.py`)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from cardiac_jax.data.case import Record
from cardiac_jax.data.io.write import atomic_write
from cardiac_jax.errors import InputError
from cardiac_jax.metrics import classification
from cardiac_jax.metrics.classification import Features, Outcome
from cardiac_jax.metrics.common_frame import SIZE, SPACING_MM
from cardiac_jax.metrics.paired_tests import holm, mcnemar
from cardiac_jax.progress import progress
from cardiac_jax.report import codes as pictures
from cardiac_jax.report.table import to_markdown, to_rich
from cardiac_jax.results import records

PHASES = ("ED", "ES")
PCA, CODES = "PCA", "codes"


class Settings(NamedTuple):
    """Cross-validation: number of folds, of repetitions, and seed of the first repetition."""

    folds: int = 10
    repeats: int = 10
    seed: int = 0


class Shape(NamedTuple):
    """One case that is classified.

    Attributes:
      part: part of the run's data in which the patient was, "" where it was in none.
      values: "PCA" -> masks in the common frame `[V]` float32, "codes" -> code `[D]`, with a run.
    """

    case: str
    patient: str
    group: str
    phase: str
    part: str
    values: Mapping[str, np.ndarray]


def check(named: Sequence[Record], settings: Settings, name: str) -> None:
    """Checks that the patients of the data set `name` can be classified.

    Raises:
      InputError: they have no groups, groups or patients are too few, or scikit-learn is not installed.
    """
    groups = {record.patient: record.group for record in named if record.group}
    if not groups:
        raise InputError(name, "gives no patient's group: nothing to classify (--noclassify writes the codes)")
    for names in classification.tasks(tuple(groups.values())).values():
        classification.check({p: group for p, group in groups.items() if group in names}, settings.folds)
    if settings.repeats < 1:
        raise InputError("--repeats", f"{settings.repeats} is less than 1")
    classification.forest()


def classify(shapes: Sequence[Shape], settings: Settings, out: Path, console: Console) -> dict[str, Any]:
    """Writes classification.csv, .json, .md and predictions.csv, and prints the table; returns a summary.

    Patients are classified at ED, and at ED and ES; only those that have both phases are. Cases without phases are
    classified as they are. The comparison with principal components is paired: folds and patients are the same.

    Raises:
      InputError: a patient has two cases of one phase, or too few patients have all phases.
    """
    phases, patients, left_out = by_patient(shapes)
    first = {patient: own[phases[0]] for patient, own in patients.items()}
    kinds = tuple(kind for kind in (PCA, CODES) if all(kind in shape.values for shape in shapes))
    sets = [phases[:1], phases] if len(phases) > 1 else [phases]
    tasks = classification.tasks([shape.group for shape in first.values()])
    chosen = [
        (task, {p: shape.group for p, shape in first.items() if shape.group in names}, used)
        for task, names in tasks.items()
        for used in sets
    ]
    rows: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    confusion: dict[str, Any] = {}
    with progress(console) as bar:
        total = len(chosen) * len(kinds) * settings.folds * settings.repeats
        shown = bar.add_task("classifying", total=total, note="")
        for task, groups, used in chosen:
            text = " + ".join(used) or "one"
            found: dict[str, Outcome] = {}
            for kind in kinds:
                maps = tuple(np.stack([patients[p][phase].values[kind] for p in groups]) for phase in used)
                features = Features(maps, classification.COMPONENTS if kind == PCA else 0)
                outcome = found[kind] = classification.classify(
                    features, groups, **settings._asdict(), on_fold=lambda: bar.advance(shown)
                )
                rows.append({"task": task, "phases": text, "features": kind, **_row(kind, found, settings)})
                table = {"groups": list(outcome.groups), "table": outcome.confusion.tolist()}
                confusion[f"{task}, {text}, {kind}"] = table
                for i, (patient, group) in enumerate(groups.items()):
                    answer: dict[str, Any] = {
                        "task": task,
                        "phases": text,
                        "features": kind,
                        "patient": patient,
                        "group": group,
                    }
                    answer["answer"] = outcome.groups[outcome.pooled[i]]
                    answer["right"] = float((outcome.answers[:, i] == outcome.truth[i]).mean())
                    answers.append({**answer, "part": first[patient].part})
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    notes = _notes(rows, list(first.values()), settings, left_out)
    about = {**settings._asdict(), "left_out": left_out, "notes": notes}
    tables = pictures.tables(rows, {**about, "confusion": confusion})
    records.write_csv(out / "predictions.csv", answers)
    records.write_csv(out / "classification.csv", rows)
    text = "\n".join(to_markdown(table) for table in tables)
    atomic_write(out / "classification.md", lambda to: to.write_text(text, encoding="utf-8"))
    records.write_json(out / "classification.json", rows, {**about, "confusion": confusion})
    console.print(to_rich(tables[0]))
    return about


def by_patient(shapes: Sequence[Shape]) -> tuple[tuple[str, ...], dict[str, dict[str, Shape]], list[str]]:
    """Returns the phases in use, patient -> phase -> case of the patients that have all of them, and the others.

    Cases that have no phase are of the phase "".

    Raises:
      InputError: a patient has two cases of one phase.
    """
    held: dict[str, dict[str, Shape]] = {}
    for shape in shapes:
        own = held.setdefault(shape.patient, {})
        if shape.phase in own:
            of = f"{shape.patient} {shape.phase}".strip()
            raise InputError(shape.case, f"is a second case of patient {of}, of whom one is classified")
        own[shape.phase] = shape
    present = {phase for own in held.values() for phase in own}
    phases = tuple(phase for phase in PHASES if phase in present) or ("",)
    complete = {patient: own for patient, own in sorted(held.items()) if set(phases) <= set(own)}
    return phases, complete, sorted(set(held) - set(complete))


def _row(kind: str, found: Mapping[str, Outcome], settings: Settings) -> dict[str, Any]:
    """Figures of one outcome; those of the codes hold the comparison with the PCA of the same task and phases."""
    outcome, other = found[kind], found[PCA]
    right, rival = outcome.pooled == outcome.truth, other.pooled == other.truth
    accuracy, (least, largest), compared = outcome.accuracy, outcome.spread, kind != PCA
    return {
        "patients": len(outcome.truth),
        "folds": settings.folds,
        "repeats": settings.repeats,
        "dimension": outcome.dimension,
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "least": least,
        "largest": largest,
        "pooled_right": int(right.sum()),
        "chance": float(np.bincount(outcome.truth).max() / len(outcome.truth)),
        "only_codes": int((right & ~rival).sum()) if compared else 0,
        "only_pca": int((rival & ~right).sum()) if compared else 0,
        "p": mcnemar(right, rival) if compared else float("nan"),
        "p_holm": float("nan"),
    }


def _notes(
    rows: Sequence[Mapping[str, Any]], first: Sequence[Shape], settings: Settings, left_out: Sequence[str]
) -> list[str]:
    z, h, w = (round(n * SPACING_MM) for n in SIZE)
    notes = [
        f"Mean accuracy over {settings.repeats} repetition{'' if settings.repeats == 1 else 's'} of a "
        f"{settings.folds}-fold cross-validation by patient, "
        f"ExtraTrees of {classification.TREES} trees; 95% interval by Wilson, n = patients.",
        f"PCA: principal components of label maps in the heart's frame ({z} x {h} x {w} mm at {SPACING_MM:g} mm, size "
        f"kept), fitted to each fold's training patients: {classification.COMPONENTS} of each phase, or as many as "
        "these maps span.",
    ]
    fewest = min(Counter(shape.group for shape in first).values())
    if fewest < settings.folds:
        notes.append(f"A group of {fewest} patients is missing from some of the {settings.folds} test parts.")
    compared = sum(row["features"] != PCA for row in rows)
    if compared:
        notes.append(
            "codes : PCA: patients whom only one of them classifies correctly, by the probabilities averaged over "
            f"repetitions; McNemar's exact test, p corrected over {compared} comparisons (Holm)."
        )
        learnt = sum(shape.part == "train" for shape in first)
        notes.append(
            f"The autoencoder was trained on label maps (not groups) of {learnt} of these {len(first)} patients; "
            "predictions.csv says of which."
        )
    if left_out:
        notes.append(f"Without patients that lack a phase: {', '.join(left_out)}.")
    return [*notes, pictures.PUBLISHED]
