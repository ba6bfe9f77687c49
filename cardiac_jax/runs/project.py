"""Projection of label maps of any program onto valid anatomy, with the prior of a checkpoint."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from cardiac_jax.anatomy.anatomical_prior import prior_of
from cardiac_jax.anatomy.projection_summary import ProjectionSummary
from cardiac_jax.anatomy.stack_projection import MODES, ProjectedSlices, project_stack
from cardiac_jax.core.types import IGNORE, Decoded
from cardiac_jax.data import label_maps
from cardiac_jax.data.case import Dataset
from cardiac_jax.data.discover import records_of
from cardiac_jax.data.io import formats
from cardiac_jax.data.io.volume import Volume
from cardiac_jax.data.io.write import write_label
from cardiac_jax.data.labels import CLASSES, IN_WALL, STRUCTURES, canonical_names
from cardiac_jax.data.load import canonical_labels
from cardiac_jax.data.regrid import on_grid
from cardiac_jax.data.sets import dataset, description
from cardiac_jax.data.stack import Stack, from_volume
from cardiac_jax.errors import InputError, raise_failed
from cardiac_jax.progress import run_each, say_found, saying
from cardiac_jax.report.anatomy import limits_text
from cardiac_jax.report.extremes import extremes_figure
from cardiac_jax.report.figures import save
from cardiac_jax.runs.restore import restore
from cardiac_jax.train import devices


@devices.on_host()
def project_folder(
    workdir: Path,
    source: Path,
    output: Path,
    *,
    checkpoint: str = "best",
    mode: str = "invalid",
    labels: Mapping[str, int] | None = None,
    truth: Path | None = None,
    name: str = "",
    picture: Path | None = None,
    console: Console,
) -> ProjectionSummary:
    """Writes an anatomically valid `<output>/<case>.nii.gz` for every label map in `source`; returns the summary.

    Args:
      mode: which slices are projected, one of `MODES`.
      labels: structure -> value in the files; default: values of the data set that the prior was trained on.
        or of a `dataset.json` in `source` or the folder above.
      truth: folder of gold standards with the same file names, or the folder of the data set `name`; the change in
        Dice is then reported.
      picture: file (PNG, SVG) for a picture of the worst slices that pass the limits in use.

    Slices that cannot become a heart are emptied, and listed by case. The limits are printed.

    Raises:
      InputError: the checkpoint has no prior, the label values have no names, or none of the label maps can be used.
      BatchError: some label maps cannot be read, have an unknown label value or no gold standard; the others are
        projected.
    """
    if name and truth is None:
        raise InputError("--data.name", "names the data set of --truth, which is not given")
    if mode not in MODES:
        raise InputError("--project", f"{mode!r} is not one of {', '.join(MODES)}")
    if output.resolve() == source.resolve():
        raise InputError("--output", "is the folder of the label maps: they would be overwritten")
    trained = restore(workdir, checkpoint)
    prior = prior_of(trained.system, trained.variables, trained.fits, trained.spec.pixel_mm)
    if prior is None:
        raise InputError(workdir, f"a run of {trained.config.system}, which learns no anatomical prior")
    classes, raw = _coding(dataset(trained.spec.dataset), labels or _described(source, console))
    for structure in prior.spec.drawn_classes:
        if structure not in classes:
            raise InputError("--labels", f"names no value of {structure}")
    files, failed, notes = label_maps.listed(source)
    golds = _golds(truth, name, classes, raw, notes)
    say_found(notes, failed, console)
    values = {k: value for value, k in reversed(list(raw.items()))}  # the first value of each class, as it is written
    summary = ProjectionSummary(classes, prior.limits._asdict(), mode, prior.defaulted)
    if prior.defaulted:
        lacking = {key: prior.limits._asdict()[key] for key in prior.defaulted}
        saying(console)(f"limits that this checkpoint lacks, by default: {limits_text(lacking)}")
    saying(console)(f"limits in use: {limits_text(prior.limits._asdict())}")
    if picture is not None:
        save(extremes_figure(prior.limits._asdict()), picture)
        saying(console)(f"what they allow: {picture}")

    def one(item: tuple[str, Path]) -> None:
        case, path = item
        if truth is not None and case not in golds:
            raise InputError(path, f"has no gold standard of the same name in {truth}")
        volume = formats.read(path)
        drawn = _stack(volume, raw, path, trained.spec.slice_order)
        gold = None
        if golds:
            known = on_grid(golds[case][0], formats.read(golds[case][0]), volume, f"the label map {path.name}")
            gold = _stack(known, golds[case][1], golds[case][0], trained.spec.slice_order)
        valid, slices = project_stack(prior, drawn, classes, mode)
        summary.add(Decoded(valid, drawn, slices), gold)
        description.write(output, {name: values[k] for k, name in enumerate(classes)})
        write_label(output / f"{case}.nii.gz", valid, raw, path)
        before, after = int((~slices.before).sum()), int((~slices.after & ~slices.refused).sum())
        line = f"{case}.nii.gz: {len(slices.index)} slices, invalid before {before}, after {after}"
        saying(console)(line)
        if slices.refused.any():
            saying(console)(f"{case}.nii.gz: refused and emptied: {_named(slices, drawn)}")

    during = run_each([(case, (case, path)) for case, path in sorted(files.items())], "projecting", console, one)
    done = len(files) - len(during)
    if done:
        console.print(summary.line())
    raise_failed(failed | during, done)
    return summary


def _named(slices: ProjectedSlices, labels: Stack) -> str:
    """The refused slices by their index in the file."""
    z = slices.index[slices.refused]
    in_file = sorted((len(labels.data) - 1 - z if labels.frame.flips[0] else z).tolist())
    return f"slices {', '.join(map(str, in_file))} along axis {labels.frame.axes[0]} of the file, counted from 0"


def _stack(volume: Volume, raw: Mapping[int, int], path: Path, slice_order: str) -> Stack:
    """A label map as a stack of classes `[Z, H, W]`; raises InputError for an unknown value."""
    return from_volume(canonical_labels(volume.data, raw, path), volume.affine, slice_order)


def _described(source: Path, console: Console) -> Mapping[str, int]:
    """Structure -> value as a `dataset.json` of the folder says; {} without one."""
    path = description.find(source)
    if path is None:
        return {}
    held = description.labels(path).structures
    several = [name for name, values in held.items() if len(values) > 1]
    if several:
        raise InputError(path, f"gives {several[0]} several values, which cannot be projected: name one by --labels")
    saying(console)(f"label values as in {path}")
    other = canonical_names(held)
    own = {other.get(name, name): values[0] for name, values in held.items()}
    known = {name.casefold() for name in STRUCTURES}
    return {name if name.casefold() in known else f"other {name}": value for name, value in own.items()}


def _coding(own: Dataset, labels: Mapping[str, int] | None) -> tuple[tuple[str, ...], dict[int, int]]:
    """The classes in the files, background first, and value in the file -> class.

    Structures that the prior does not model (RV) keep their voxels, except where the new wall or pool covers them.

    Raises:
      InputError: there is no myocardium, a structure is unknown, or two structures have the same value.
    """
    if not labels:
        return own.classes, {raw: k for raw, k in own.labels.items() if k != IGNORE}
    names = {name.casefold(): name for name in own.classes}
    names |= {name.casefold(): name for name in (*CLASSES[1:], *IN_WALL)}
    names |= {name.casefold(): known for name, known in canonical_names(labels).items()}
    for name in labels:
        if name.casefold() not in names and not name.casefold().startswith("other"):
            known = ", ".join((*dict.fromkeys(list(names.values())[1:]), "other..."))
            raise InputError("--labels", f"{name!r} is not one of {known}")
    told = (own.classes[0], *(names.get(name.casefold(), name) for name in labels))
    if "Myo" not in told:
        raise InputError("--labels", "names no value of Myo")
    if len({0, *labels.values()}) <= len(labels):
        raise InputError("--labels", "gives two structures one value (0 is the background)")
    return told, {0: 0} | {value: k for k, value in enumerate(labels.values(), 1)}


def _golds(
    truth: Path | None, name: str, classes: tuple[str, ...], raw: Mapping[int, int], notes: list[str]
) -> dict[str, tuple[Path, Mapping[int, int]]]:
    """case -> (file of the gold standard, value in the file -> class); adds lines on what is not read to `notes`."""
    if truth is None:
        return {}
    if not name:
        held = label_maps.listed(truth)
        notes += held.notes
        return {case: (path, raw) for case, path in held.files.items()}
    chosen = dataset(name, classes[1:])
    meant = {value: k if k == IGNORE else classes.index(chosen.classes[k]) for value, k in chosen.labels.items()}
    return {r.id: (r.label, meant) for r in records_of(chosen, truth, notes.append) if r.label is not None}
