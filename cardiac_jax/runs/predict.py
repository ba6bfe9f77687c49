"""Prediction of images with trained models, on each image's own grid."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from cardiac_jax.core.types import Decoded, Output
from cardiac_jax.data.case import Case
from cardiac_jax.data.io.write import atomic_write, write_array, write_label
from cardiac_jax.data.load import load
from cardiac_jax.data.preprocess import network_stack, prepare, to_native_grid
from cardiac_jax.data.sets import folder
from cardiac_jax.data.stack import Stack
from cardiac_jax.errors import InputError
from cardiac_jax.inference.predict import predict_grid
from cardiac_jax.progress import shown
from cardiac_jax.runs.restore import Trained, restore_all
from cardiac_jax.train import devices


class Prediction(NamedTuple):
    """One output of one case.

    Attributes:
      output: the output.
      value: the prediction of the networks: probabilities `[Z, H, W, K]` on the case's grid; an image on the case's
        grid or, with `Output.scale`, on its own; a vector `[D]`.
      decoded: the output as it is written.
    """

    output: Output
    value: Stack
    decoded: Decoded


def predict_case(members: Sequence[Trained], case: Case, flips: bool = False) -> list[Prediction]:
    """Returns every output of one case, the main output first: mean over the members, then the first member's decoder.

    Labels are the argmax of the mean probabilities on the case's own grid.
    """
    found = []
    for output in members[0].outputs:
        values = [_value(member, output, case, flips) for member in members]
        value = values[0].with_data(np.mean([v.data for v in values], axis=0)) if len(values) > 1 else values[0]
        found.append(Prediction(output, value, members[0].decoders[output.name].decode(value)))
    return found


def _value(member: Trained, output: Output, case: Case, flips: bool) -> Stack:
    spec = member.spec
    ready = prepare(case, spec.grid(), spec.sequences)
    if output.kind == "vector":
        vectors = member.predict(ready.image[None] if spec.is_volumetric else ready.image)[output.name]
        return case.stack(vectors[0] if spec.is_volumetric else vectors)
    run = partial(_one_output, member, output.name)
    on_grid = predict_grid(run, ready.image, spec.size, flips, spec.tile_overlap, output.scale)
    if any(factor != 1 for factor in output.scale):
        return network_stack(on_grid, case, ready.geometry, output.scale)
    return case.stack(to_native_grid(on_grid, ready.geometry, output.fill))


def _one_output(member: Trained, name: str, image: np.ndarray) -> np.ndarray:
    return member.predict(image)[name]


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
        write_array(path, decoded.to_file(), decoded.affine)
        return path
    same_grid = decoded.data.shape[:3] == case.shape
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
    flips: bool,
    post: Mapping[str, Any] | None = None,
    console: Console,
) -> None:
    """Writes `<output>/<case>.nii.gz` for every image under `images`, in the raw label values of the training data.

    Args:
      workdirs: one run, or several whose probabilities are averaged.

    Raises:
      InputError: an image or a checkpoint cannot be used. Predictions of earlier images are complete.
    """
    members = restore_all(workdirs, checkpoint, say_lost(console), post)
    raw = members[0].spec.raw_values
    found = folder.find(images)
    for record in found:
        if (output / f"{record.id}.nii.gz").resolve() in {path.resolve() for path in record.images.values()}:
            raise InputError("--output", f"is the folder of the images: {record.id}.nii.gz would be overwritten")
    dataset = folder.DATASET._replace(slice_order=members[0].spec.slice_order)
    for record in shown(found, "predicting", console):
        start = time.perf_counter()
        case = load(record, dataset)
        predictions = predict_case(members, case, flips)
        for k, prediction in enumerate(predictions):
            write_prediction(output, case, prediction, raw, f"_{prediction.output.name}" if k else "")
        if probabilities:
            value = predictions[0].value
            write_array(output / f"{record.id}_probabilities.nii.gz", value.to_file(), value.affine)
        console.print(f"{record.id}.nii.gz ({time.perf_counter() - start:.1f} s)")
