"""Prediction of images with trained models, on each image's own grid."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from cardiac_jax.core.types import Decoded, Output
from cardiac_jax.data.axes import Geometry, placements
from cardiac_jax.data.case import Case, Record
from cardiac_jax.data.discover import discover
from cardiac_jax.data.io.write import atomic_write, write_array, write_label
from cardiac_jax.data.load import load
from cardiac_jax.data.preprocess import covered, network_stack, part, prepare, to_native_grid
from cardiac_jax.data.sets import dataset, description, folder
from cardiac_jax.data.stack import Stack
from cardiac_jax.errors import InputError, printable, raise_failed
from cardiac_jax.inference.predict import pooled, predict_region, region_of
from cardiac_jax.inference.region import at_border
from cardiac_jax.progress import run_each, say_found, saying
from cardiac_jax.results.records import write_csv
from cardiac_jax.runs.restore import Trained, restore_all
from cardiac_jax.train import devices

PROBABILITIES = "_probabilities"  # end of a file's name; known to `data/sets/entries.py`
GRIDS = ("output", "image")
"""On which grid `predict` writes an output that is finer than the image: its own, or the image's."""


Box = tuple[slice, ...]
"""Of a grid, along Z, H, W; () of a vector."""


class Prediction(NamedTuple):
    """One output of one case.

    Attributes:
      output: the output.
      value: the prediction of the networks: probabilities `[Z, H, W, K]` or an image in the intensity scale of the
        input, on the case's grid or, with `Output.scale`, on its own; a vector `[D]`.
      decoded: the output as it is written.
      covered: the box of `value` that the networks saw; outside it is filled.
    """

    output: Output
    value: Stack
    decoded: Decoded
    covered: Box = ()


def predict_case(
    members: Sequence[Trained],
    case: Case,
    crop: str = "",
    say: Callable[[str], None] = lambda note: None,
    like: Stack | None = None,
) -> list[Prediction]:
    """Returns every output of one case, the main output first: mean over the members, then the first member's decoder.

    Labels are the argmax of the mean probabilities on the case's own grid, or, with `Output.scale`, on a finer one.

    Args:
      crop: how an image larger than the network's input is covered, see `inference/region.py`.
      say: is called with a sentence where foreground may be missing.
      like: a stack on whose grid labels and images are returned instead, interpolated linearly; its axes run along
        those of the case (`regrid.aligned`).

    Raises:
      InputError: a sequence is missing, `crop` is unknown, or the input's intensity scale of an image is not known.
    """
    values = [_values(member, case, crop, say, like) for member in members]
    found = []
    for output in members[0].outputs:
        (first, box), *others = (own[output.name] for own in values)
        value = first.with_data(np.mean([first.data, *(v.data for v, _ in others)], axis=0)) if others else first
        found.append(Prediction(output, value, members[0].decoders[output.name].decode(value), box))
    return found


def _values(
    member: Trained, case: Case, crop: str, say: Callable[[str], None], like: Stack | None
) -> dict[str, tuple[Stack, Box]]:
    """Every output of one member, by name, and the box of it that was predicted."""
    spec = member.spec
    ready = prepare(replace(case, label=None, fine=None), spec.grid(whole=True), spec.sequences)
    shape = ready.image.shape[:-1]
    labels = [output for output in member.outputs if output.kind == "labels"]
    find = partial(_seen, member, labels[0]) if labels else None
    region = region_of(find, ready.image, spec.size, crop, spec.tile_overlap)
    geometry = part(ready.geometry, region.start, region.size)
    notes, values = region.notes, {}
    for output in member.outputs:
        run = partial(_one_output, member, output.name)
        if output.kind == "vector":
            inside = ready.image[tuple(slice(s, s + k) for s, k in zip(region.start, region.size, strict=True))]
            vectors = run(inside[None] if spec.is_volumetric else inside)
            values[output.name] = case.stack(vectors[0] if spec.is_volumetric else vectors), ()
            continue
        on_grid = predict_region(run, ready.image, region, spec.size, spec.tile_overlap, output.scale)
        if output in labels[:1]:
            notes += at_border(pooled(on_grid, output.scale, first=0).argmax(-1), region, shape)
        if output.kind == "image":
            on_grid = _as_acquired(on_grid, ready.gain_offset)
        values[output.name] = _placed(on_grid, output, case, geometry, like)
    for note in notes:
        say(f"{case.id}: {note}")
    return values


def _placed(
    on_grid: np.ndarray, output: Output, case: Case, geometry: Geometry, like: Stack | None
) -> tuple[Stack, Box]:
    """A prediction on the network's grid, or `output.scale` times finer, with its geometry, and the box predicted.

    It is brought to the grid of `like`, else to the case's own unless it is finer.
    """
    if like is None and any(factor != 1 for factor in output.scale):
        return network_stack(on_grid, case, geometry, output.scale), tuple(slice(n) for n in on_grid.shape[:3])
    like = case.grid if like is None else like
    placed = placements(case.grid, like)
    values = like.with_data(to_native_grid(on_grid, geometry, output.fill, output.scale, placed))
    return values, covered(geometry, placed)


def _as_acquired(image: np.ndarray, gain_offset: np.ndarray | None) -> np.ndarray:
    """An image `[*S, C]` that a network predicts, in the intensity scale of its input.

    Raises:
      InputError: the intensity operations cannot be undone, or there are more channels than the input has.
    """
    channels = image.shape[-1]
    if gain_offset is None or channels > len(gain_offset) or np.isnan(gain_offset[:channels]).any():
        problem = "cannot be undone: an image that is predicted has the input's intensity scale only after z_score"
        raise InputError("data.intensity", problem)
    gain, offset = gain_offset[:channels].T
    return ((image - offset) / gain).astype(np.float32)


def _seen(member: Trained, output: Output, image: np.ndarray) -> np.ndarray:
    """Probabilities `[B, *S, K]` on the grid of the image, from a plain prediction that reports nothing."""
    return pooled(member.look(image)[output.name], output.scale)


def _one_output(member: Trained, name: str, image: np.ndarray) -> np.ndarray:
    return member.predict(image)[name]


def sequences_of(members: Sequence[Trained]) -> tuple[str, ...]:
    """Returns the sequences that any of the members needs, in order."""
    return tuple(dict.fromkeys(sequence for member in members for sequence in member.spec.sequences))


def needed_of(record: Record, needed: Sequence[str]) -> tuple[str, ...]:
    """Returns the sequences of a record to load: those needed, or its only image if nothing says what it is."""
    return (folder.UNKNOWN,) if len(needed) == 1 and set(record.images) == {folder.UNKNOWN} else tuple(needed)


def say_lost(console: Console) -> Callable[[int], None]:
    """Returns a function that prints the number of volumes in which the localiser found nothing."""
    return lambda lost: console.print(f"the localiser found nothing in {lost}: the middle of the volume is segmented")


def write_prediction(
    folder: Path, case: Case, prediction: Prediction, raw_values: Mapping[int, int], suffix: str
) -> Path:
    """Writes one output as `<case><suffix>` and returns the file: label map in raw values, image, or vector as JSON."""
    decoded = prediction.decoded.value
    if prediction.output.kind == "vector":
        path = folder / f"{case.id}{suffix}.json"
        text = json.dumps({"case": case.id, prediction.output.name: np.asarray(decoded.data, float).tolist()})
        atomic_write(path, lambda to: to.write_text(text, encoding="utf-8"))
        return path
    path = folder / f"{case.id}{suffix}.nii.gz"
    if prediction.output.kind == "image":
        image = decoded.to_file()
        write_array(path, image[..., 0] if image.shape[3:] == (1,) else image, decoded.affine)
        return path
    same_grid = decoded.data.shape[:3] == case.shape and np.array_equal(decoded.affine, case.affine)
    write_label(path, decoded, raw_values, case.source if same_grid else None)
    return path


@devices.on_host()
def predict_folder(
    workdirs: Sequence[Path],
    images: Path,
    output: Path,
    *,
    checkpoint: str,
    probabilities: bool,
    crop: str = "",
    tta: int = 0,
    post: Mapping[str, Any] | None = None,
    name: str = "",
    sequences: Sequence[str] = (),
    skip_existing: bool = False,
    grid: str = GRIDS[0],
    console: Console,
) -> None:
    """Writes `<output>/<case>.nii.gz` for every image under `images`, in the raw label values of the training data.

    A `dataset.json` beside them names these values. Vectors of all cases are also written as one table, `<name>s.csv`.

    Args:
      workdirs: one run, or several whose probabilities are averaged.
      name: the data set whose folder `images` is; "": any folder of images (`data/sets/folder.py`).
      sequences: sequences of the channels `_0000`, `_0001`, ... of such a folder.
      skip_existing: cases whose files are there already are not predicted again.
      crop: how an image larger than the network's input is covered, see `inference/region.py`.
      tta: number of moved copies of every image whose predictions are averaged with its own.
      grid: one of `GRIDS`.

    Raises:
      InputError: a checkpoint or none of the images can be used.
      BatchError: some images cannot be used; predictions of the others are complete.
    """
    members = restore_all(workdirs, checkpoint, say_lost(console), post, tta)
    if grid not in GRIDS:
        raise InputError("--grid", f"{grid!r} is not one of {', '.join(GRIDS)}")
    spec, outputs, needed = members[0].spec, members[0].outputs, sequences_of(members)
    if probabilities and outputs[0].kind != "labels":
        raise InputError("--probabilities", f"the main output, {outputs[0].name}, is no label map")
    if name and sequences:
        raise InputError("--sequences", "names the channels of a plain folder, not of a data set")
    chosen = (
        dataset(name, root=images) if name else folder.of_channels(sequences)._replace(slice_order=spec.slice_order)
    )
    found = discover(chosen, images)
    failed = {problem.where: problem for problem in found.problems}
    say_found(found.notes, failed, console)
    for record in found.records:
        if (output / f"{record.id}.nii.gz").resolve() in {path.resolve() for path in record.images.values()}:
            raise InputError("--output", f"is the folder of the images: {record.id}.nii.gz would be overwritten")

    def one(record: Record) -> None:
        start = time.perf_counter()
        case = load(replace(record, label=None, fine_images={}), chosen, needed_of(record, needed))
        predictions = predict_case(members, case, crop, saying(console), case.grid if grid == "image" else None)
        if probabilities:
            value = predictions[0].value
            write_array(output / f"{record.id}{PROBABILITIES}.nii.gz", value.to_file(), value.affine)
        if any(one.kind == "labels" for one in outputs):
            description.write(output, dict(zip(spec.classes, spec.labels, strict=True)), spec.sequences)
        for k, prediction in reversed(list(enumerate(predictions))):  # the label map last: it marks the case as done
            write_prediction(output, case, prediction, spec.raw_values, f"_{prediction.output.name}" if k else "")
        saying(console)(f"{record.id}.nii.gz ({time.perf_counter() - start:.1f} s)")

    main = ".json" if outputs[0].kind == "vector" else ".nii.gz"
    ends = (main, f"{PROBABILITIES}.nii.gz") if probabilities else (main,)
    there = [r for r in found.records if skip_existing and all((output / f"{r.id}{end}").is_file() for end in ends)]
    if there:
        saying(console)(f"skipped, because they are in {printable(str(output))}: {len(there)} cases")
    wanted = [(record.id, record) for record in found.records if record.id not in {known.id for known in there}]
    failed |= run_each(wanted, "predicting", console, one)
    for vector in (one for one in outputs if one.kind == "vector"):
        _write_table(output, [record.id for record in found.records], vector.name)
    raise_failed(failed, len(found.records) - sum(name in failed for name, _ in wanted))


def _write_table(folder: Path, cases: Sequence[str], name: str) -> None:
    """Writes `<name>s.csv`, a row per case (of a 2D system: and slice), from the JSON files of the vectors."""
    rows: list[dict[str, Any]] = []
    for case in cases:
        path = folder / f"{case}_{name}.json"
        held = np.asarray(json.loads(path.read_text(encoding="utf-8"))[name]) if path.is_file() else np.empty((0, 0))
        for number, vector in enumerate(np.atleast_2d(held)):
            place = {"slice": number} if held.ndim > 1 else {}
            rows.append({"case": case, **place, **{f"{name}_{k}": float(value) for k, value in enumerate(vector)}})
    if rows:
        write_csv(folder / f"{name}s.csv", rows)
