"""Codes of label maps, by the autoencoder of a trained run: are they normal, what do they draw, what do they tell?

<out>/codes.csv             a row for every case: its code, the Dice of its restored label map
<out>/normality.csv         a row for every dimension, of every phase and of all cases
<out>/histograms_*.png      histograms of 16 dimensions, for every phase and for all cases (Fig. 5 of Oktay et al. 2018)
<out>/traversals.png        label maps decoded along the two leading principal components of the codes (Fig. 9)
<out>/classification.csv    a row for every task, phases and features; .json with the confusion, .md
<out>/predictions.csv       a row for every patient of each of these
<out>/codes.json            rows of codes.csv and provenance; written last, it marks a complete folder

Pictures are also written as SVG. Without a run only the baseline is classified: principal components of the label maps.
The code of a case by an autoencoder of slices is the mean over its slices, and its traversals are of slices.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.discover import discover
from cardiac_jax.data.io.write import lock
from cardiac_jax.data.load import load
from cardiac_jax.data.sets import dataset
from cardiac_jax.errors import InputError, raise_failed
from cardiac_jax.metrics.common_frame import in_common_frame
from cardiac_jax.metrics.normality import Normality, normality
from cardiac_jax.metrics.rows import Row
from cardiac_jax.progress import run_each, say_found, saying
from cardiac_jax.report import codes as pictures
from cardiac_jax.report.figures import save
from cardiac_jax.results import records
from cardiac_jax.runs.classify import CODES, PCA, Settings, Shape, check, classify
from cardiac_jax.runs.encode import BOXES, TRAINING, Autoencoder, Encoded, autoencoder_of, encoded, leading
from cardiac_jax.runs.restore import Trained, restore

MARKER = "codes.json"
STEPS = 5  # maps along each direction of the traversals
FEWEST = 3  # least number of codes whose directions can be told


class Subject(NamedTuple):
    """One case: its codes (None without a run) and masks in the common frame (None if it is not classified)."""

    record: Record
    encoded: Encoded | None
    masks: np.ndarray | None


def write_codes(
    workdir: Path | None,
    out: Path,
    *,
    checkpoint: str = "best",
    name: str | None = None,
    root: str | None = None,
    settings: Settings | None,
    box: str = TRAINING,
    console: Console,
) -> None:
    """Encodes the label maps of every case of a data set, and writes what the codes are and tell.

    Args:
      workdir: a run with an autoencoder of label maps; None: only the baseline is classified.
      name: name of the data set; None: the one trained on.
      root: its folder; None: the one trained on.
      settings: cross-validation of the classification of patients into their groups; None: they are not classified.
      box: which box of a label map is encoded, one of `encode.BOXES`.

    Raises:
      InputError: the run has no autoencoder, the data set no groups or too few patients, or no case can be used.
      BatchError: some cases cannot be used; the files hold the results of the others.
    """
    if workdir is None and settings is None:
        raise InputError("--workdir", "is required, unless patients are classified by the baseline alone")
    if box not in BOXES:
        raise InputError("--box", f"{box!r} is not one of {', '.join(BOXES)}")
    trained = None if workdir is None else restore(workdir, checkpoint)
    net = None if trained is None else autoencoder_of(trained)
    chosen, folder = _source(trained, name, root)
    found = discover(chosen, folder)
    failed = {problem.where: problem for problem in found.problems}
    say_found(found.notes, failed, console)
    named = [record for record in found.records if record.label is not None]
    if settings is not None:
        check(named, settings, chosen.name)
    subjects: list[Subject] = []

    def one(record: Record) -> None:
        case = load(record, chosen, list(record.images)[:1], labelled=True)
        assert case.label is not None and record.label is not None
        masks = None
        if settings is not None and record.group:
            try:
                masks = in_common_frame(case.label, case.spacing_mm, chosen.classes).ravel()
            except InputError as error:
                raise InputError(record.label, error.problem) from None
        code = None if trained is None or net is None else encoded(case, net, trained.spec, box)
        subjects.append(Subject(record, code, masks))

    failed |= run_each([(record.id, record) for record in named], "encoding", console, one)
    if not subjects:
        raise_failed(failed, 0)
        raise InputError(folder, "holds no case with a label map")
    if net is not None and len(subjects) < FEWEST:
        raise InputError(folder, f"holds {len(subjects)} cases with a label map, at least {FEWEST} are needed")
    about: dict[str, Any] = {"data": {"dataset": chosen.name, "root": str(folder.resolve()), "classes": chosen.classes}}
    about["box"] = box
    with lock(out):
        (out / MARKER).unlink(missing_ok=True)
        rows: list[Row] = []
        if trained is not None and net is not None:
            rows, added = _write_codes(subjects, trained, net, chosen, out, console)
            about |= added
        if settings is not None:
            about["classification"] = classify(_shapes(subjects, trained, chosen), settings, out, console)
        records.write_json(out / MARKER, rows, about)
    saying(console)(f"{len(subjects)} cases; written to {out}")
    raise_failed(failed, len(subjects))


def _source(trained: Trained | None, name: str | None, root: str | None) -> tuple[Dataset, Path]:
    """The data set, with the classes of the run, and its folder."""
    if trained is None:
        for flag, value in (("--data.name", name), ("--data.root", root)):
            if not value:
                raise InputError(flag, "is required without --workdir")
        return dataset(name or ""), Path(root or "")
    if not root and name not in (None, trained.spec.dataset):
        raise InputError("--data.root", f"is required: the folder of the data set {name}")
    chosen = dataset(name or trained.spec.dataset, trained.spec.classes[1:])
    return chosen, Path(root or trained.config.data.root)


def _shapes(subjects: Sequence[Subject], trained: Trained | None, chosen: Dataset) -> list[Shape]:
    """The cases to classify: those with a group."""
    found = []
    for record, one, masks in subjects:
        if masks is not None:
            values = {PCA: masks} if one is None else {PCA: masks, CODES: one.codes.mean(0)}
            head = (record.id, record.patient, record.group or "", record.phase or "", _part(record, trained, chosen))
            found.append(Shape(*head, values))
    return found


def _part(record: Record, trained: Trained | None, chosen: Dataset) -> str:
    """Part of the run's data in which a patient was; "" where it was in none, and for another data set."""
    parts = trained.about["splits"] if trained is not None and trained.spec.dataset == chosen.name else {}
    return next((part for part, patients in parts.items() if record.patient in patients), "")


def _write_codes(
    subjects: Sequence[Subject], trained: Trained, net: Autoencoder, chosen: Dataset, out: Path, console: Console
) -> tuple[list[Row], dict[str, Any]]:
    """Writes codes.csv, normality.csv and the pictures; returns the rows of codes.csv, and what the marker says."""
    held = [(subject.record, subject.encoded) for subject in subjects if subject.encoded is not None]
    codes, structures = np.stack([one.codes.mean(0) for _, one in held]), trained.spec.classes[1:]
    rows: list[Row] = []
    for (record, one), code in zip(held, codes, strict=True):
        row: Row = {"case": record.id, "patient": record.patient, "group": record.group or ""}
        row |= {"phase": record.phase or "", "part": _part(record, trained, chosen)}
        row |= {"maps": len(one.codes), "outside": one.outside}
        row |= {f"dice_{k}": float(dice) for k, dice in zip(structures, one.dice, strict=True)}
        rows.append(row | {f"code_{k + 1:03d}": float(value) for k, value in enumerate(code)})
    records.write_csv(out / "codes.csv", rows)
    phases = sorted({record.phase for record, _ in held if record.phase})
    samples = {phase: np.array([record.phase == phase for record, _ in held]) for phase in phases}
    tested = {}
    for sample, mask in (samples | {"all": np.ones(len(held), bool)}).items():
        tested[sample] = found = normality(codes[mask])
        of = f"cases at {sample}" if sample in samples else "cases"
        _save(pictures.histograms(codes[mask], found, of=of), out / f"histograms_{sample}")
    records.write_csv(out / "normality.csv", _normality_rows(tested))
    spacing = np.median([one.spacing_mm for _, one in held], axis=0).tolist()[-len(net.size) :]
    centre, directions, sds, shares = leading(np.concatenate([one.codes for _, one in held]))
    steps = np.linspace(-2, 2, STEPS)
    decoded = np.array([[net.decode(centre + (a * sds[0], b * sds[1]) @ directions) for a in steps] for b in steps])
    figure = pictures.traversals(decoded, spacing, trained.spec.classes, shares.tolist(), sds.tolist())
    _save(figure, out / "traversals")
    restored = dict(zip(structures, np.array([one.dice for _, one in held]).T, strict=True))
    dice = {name: float(np.nanmean(values)) for name, values in restored.items() if not np.isnan(values).all()}
    say, outside = saying(console), max(one.outside for _, one in held)
    slices = "" if len(net.size) == 3 else "; a case's code is the mean over its slices that hold a structure"
    say(f"{len(rows)} codes of length {codes.shape[1]} by {net.name}{slices}")
    say("Dice of restored label maps: " + ", ".join(f"{k} {value:.3f}" for k, value in dice.items()))
    if outside:
        say(f"the autoencoder's box {net.size} leaves out up to {outside:.1%} of a case's structures")
    for sample, found in tested.items():
        say(f"{found.test}, {sample} ({found.n}): normality rejected in {found.rejected} of {found.tested} dimensions")
    return rows, {
        "workdir": str(trained.workdir.resolve()),
        "checkpoint": {"step": trained.step, "code": trained.about["code"]},
        "autoencoder": {"net": net.name, "size": net.size, "code": codes.shape[1]},
        "dice_restored": dice,
        "normality": {k: {"n": v.n, "tested": v.tested, "rejected": v.rejected} for k, v in tested.items()},
        "directions": {"of": "leading principal components of the codes", "share": shares.tolist()},
    }


def _save(figure: Any, path: Path) -> None:
    for suffix in (".png", ".svg"):
        save(figure, path.with_name(path.name + suffix))


def _normality_rows(tested: Mapping[str, Normality]) -> list[Row]:
    return [
        {
            "sample": sample,
            "n": found.n,
            "test": found.test,
            "dimension": k + 1,
            "statistic": float(found.statistic[k]),
            "p": float(found.p[k]),
            "p_holm": float(found.p_holm[k]),
        }
        for sample, found in tested.items()
        for k in range(len(found.p))
    ]
