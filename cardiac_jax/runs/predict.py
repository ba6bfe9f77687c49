"""From a checkpoint and images to label maps on each image's own grid."""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from cardiac_jax.data import folder, formats, source
from cardiac_jax.data.case import Case
from cardiac_jax.data.files import atomic_write, write_label
from cardiac_jax.data.load import load
from cardiac_jax.data.preprocess import restore
from cardiac_jax.errors import InputError
from cardiac_jax.progress import shown
from cardiac_jax.runs import run
from cardiac_jax.train.predict import predict_grid


class Prediction(NamedTuple):
    """One case on its own grid: `labels [X, Y, Z]` uint8 classes, `probabilities [X, Y, Z, K]`."""

    labels: np.ndarray
    probabilities: np.ndarray


def predict_case(trained: run.Trained, case: Case, flips: bool = False) -> Prediction:
    """Segments one case and brings the probabilities back to the file's grid before the largest wins."""
    data = trained.description
    ready = source.on_grid(case, data)
    probabilities = restore(predict_grid(trained.predict, ready.image, data.size, flips, data.overlap), ready.geometry)
    return Prediction(probabilities.argmax(-1).astype(np.uint8), probabilities)


def predict_folder(
    workdir: Path,
    images: Path,
    output: Path,
    *,
    checkpoint: str,
    probabilities: bool,
    flips: bool,
    console: Console,
) -> None:
    """Writes `<output>/<case>.nii.gz` for every image under `images`, in the label values of the training data.

    Raises:
      InputError: an image or the checkpoint cannot be used; images before it are written, none is half-written.
    """
    trained = run.restore(workdir, checkpoint)
    raw = trained.description.raw_values
    found = folder.find(images)
    for record in found:
        if (output / f"{record.id}.nii.gz").resolve() in {path.resolve() for path in record.images.values()}:
            raise InputError("--output", f"is the folder of the images: {record.id}.nii.gz would be overwritten")
    for record in shown(found, "predicting", console):
        start = time.perf_counter()
        case = load(record, folder.DATASET)
        prediction = predict_case(trained, case, flips)
        write_label(output / f"{record.id}.nii.gz", prediction.labels, case, raw)
        if probabilities:
            path = output / f"{record.id}_probabilities.nii.gz"
            content = formats.encode(path, prediction.probabilities, case.affine)
            atomic_write(path, lambda to, content=content: to.write_bytes(content))
        console.print(f"{record.id}.nii.gz ({time.perf_counter() - start:.1f} s)")
