"""Label maps of any program made anatomically valid by the prior of a checkpoint."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from cardiac_jax.data import dataset, formats, maps
from cardiac_jax.data.case import IGNORE, Case
from cardiac_jax.data.files import write_label
from cardiac_jax.data.load import canonical_labels, same_grid
from cardiac_jax.errors import InputError
from cardiac_jax.post.tally import Tally
from cardiac_jax.post.valid import MODES, make_valid
from cardiac_jax.progress import shown
from cardiac_jax.runs import run


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
    console: Console,
) -> Tally:
    """Writes `<output>/<case>.nii.gz` for every label map of `source`, valid as the prior guarantees it.

    Args:
      mode: which slices, one of `MODES`.
      labels: structure -> value in the files; default: those of the data set that the prior was trained on.
      truth: gold standard of the same names, or the folder of the data set `name`, to tell what it costs in Dice.

    Raises:
      InputError: a checkpoint without a prior, a map that cannot be read, a value without meaning.
    """
    if mode not in MODES:
        raise InputError("--project", f"{mode!r} is not one of {', '.join(MODES)}")
    trained = run.restore(workdir, checkpoint)
    if trained.prior is None:
        raise InputError(workdir, f"a run of {trained.config.system}, which learns no anatomical prior")
    classes, raw = _coding(trained.description.classes, trained.description.raw_values, labels)
    for structure in trained.prior.structures.drawn:
        if structure not in classes:
            raise InputError("--labels", f"names no value of {structure}")
    files = maps.files(source)
    if output.resolve() == source.resolve():
        raise InputError("--output", "is the folder of the label maps: they would be overwritten")
    golds = _golds(truth, name, classes)
    strangers = sorted(files.keys() - golds.keys()) if golds else []
    if strangers:
        raise InputError(files[strangers[0]], f"has no gold standard of the same name in {truth}")
    tally = Tally(classes)
    for case, path in shown(sorted(files.items()), "projecting", console):
        volume = formats.read(path)
        drawn = canonical_labels(volume.data, raw, path)
        if (drawn == IGNORE).any():
            raise InputError(path, "holds 255, not annotated: the shapes of such a map are not known")
        grid = Case(case, case, {"image": drawn}, None, volume.affine, volume.spacing_mm, None, None, None, path)
        valid, slices = make_valid(
            trained.prior, drawn, volume.affine, volume.spacing_mm, classes, trained.description.slice_order, mode
        )
        gold = None
        if golds:
            known = formats.read(golds[case][0])
            same_grid(path, volume, known, f"the gold standard {golds[case][0].name}")
            gold = canonical_labels(known.data, golds[case][1] or raw, golds[case][0])
        tally.add(slices, drawn, valid, gold)
        write_label(output / f"{case}.nii.gz", valid, grid, raw)
        before, after = int((~slices.before).sum()), int((~slices.after).sum())
        console.print(f"{case}.nii.gz: {len(slices.index)} slices, invalid before {before}, after {after}")
    console.print(tally.line())
    return tally


def _coding(
    classes: tuple[str, ...], own: Mapping[int, int], labels: Mapping[str, int] | None
) -> tuple[tuple[str, ...], dict[int, int]]:
    """The classes that the files tell apart, background first, and value in the file -> class.

    Raises:
      InputError: a structure that is none of `classes`, no myocardium, a value that means two of them.
    """
    if not labels:
        return classes, dict(own)
    values = {name.casefold(): value for name, value in labels.items()}
    for name in labels:
        if name.casefold() not in {known.casefold() for known in classes[1:]}:
            raise InputError("--labels", f"{name!r} is not one of {', '.join(classes[1:])}")
    if "myo" not in values:
        raise InputError("--labels", "names no value of Myo")
    if len({0, *values.values()}) <= len(labels):
        raise InputError("--labels", "gives two structures one value (0 is the background)")
    told = (classes[0], *(name for name in classes[1:] if name.casefold() in values))
    return told, {0: 0} | {values[name.casefold()]: k for k, name in enumerate(told) if k}


def _golds(truth: Path | None, name: str, classes: tuple[str, ...]) -> dict[str, tuple[Path, Mapping[int, int] | None]]:
    """case -> gold standard and, of a data set, the meaning of its values."""
    if truth is None:
        return {}
    if not name:
        return {case: (path, None) for case, path in maps.files(truth).items()}
    chosen = dataset(name, classes[1:])
    return {r.id: (r.label, chosen.labels) for r in chosen.find(truth) if r.label is not None}
