"""From a checkpoint and images to label maps on each image's own grid."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from cardiac_jax.anatomy.decode import finish
from cardiac_jax.anatomy.stack_projection import ProjectedSlices
from cardiac_jax.data import cohort
from cardiac_jax.data.case import Case
from cardiac_jax.data.io import formats
from cardiac_jax.data.io.write import atomic_write, write_label
from cardiac_jax.data.load import load
from cardiac_jax.data.preprocess import to_file_grid
from cardiac_jax.data.sets import folder
from cardiac_jax.errors import InputError
from cardiac_jax.inference.predict import predict_grid
from cardiac_jax.progress import shown
from cardiac_jax.runs.restore import Trained, restore
from cardiac_jax.train import devices


class Prediction(NamedTuple):
    """One case on its own grid.

    Attributes:
      labels: `[X, Y, Z]` uint8 classes.
      probabilities: `[X, Y, Z, K]`.
      drawn: labels as the largest probability has them, before anything was done to them.
      slices: what a system with an anatomical prior did to which slices, else None.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    drawn: np.ndarray
    slices: ProjectedSlices | None


def predict_case(
    trained: Trained, case: Case, flips: bool = False, post: Mapping[str, Any] | None = None
) -> Prediction:
    """Segments one case and brings the probabilities back to the file's grid before the largest wins.

    `post`: values instead of those that the configuration has under that name (`project`, `trim`).
    """
    data = trained.description
    ready = cohort.on_grid(case, data)
    probabilities = to_file_grid(
        predict_grid(trained.predict, ready.image, data.size, flips, data.overlap), ready.geometry
    )
    drawn = probabilities.argmax(-1).astype(np.uint8)
    if trained.prior is None:
        return Prediction(drawn, probabilities, drawn, None)
    settings = trained.config.post.copy_and_resolve_references()
    settings.update(post or {})
    labels, slices = finish(trained.prior, settings, drawn, case, data.classes, data.slice_order)
    return Prediction(labels, probabilities, drawn, slices)


def refuse_without_prior(trained: Trained, workdir: Path, post: Mapping[str, Any] | None) -> None:
    """Raises InputError if something is asked that only a system with an anatomical prior does."""
    if post and trained.prior is None:
        problem = f"{workdir} is a run of {trained.config.system}, which learns no anatomical prior"
        raise InputError(f"--{next(iter(post))}", problem)


def say_lost(console: Console) -> Callable[[int], None]:
    """What a user is told of volumes in which the localiser found nothing."""
    return lambda lost: console.print(f"the localiser found nothing in {lost}: the middle of the volume is segmented")


@devices.on_host()
def predict_folder(
    workdir: Path,
    images: Path,
    output: Path,
    *,
    checkpoint: str,
    probabilities: bool,
    flips: bool,
    post: Mapping[str, Any] | None = None,
    console: Console,
) -> None:
    """Writes `<output>/<case>.nii.gz` for every image under `images`, in the label values of the training data.

    Raises:
      InputError: an image or the checkpoint cannot be used; images before it are written, none is half-written.
    """
    trained = restore(workdir, checkpoint, say_lost(console))
    refuse_without_prior(trained, workdir, post)
    raw = trained.description.raw_values
    found = folder.find(images)
    for record in found:
        if (output / f"{record.id}.nii.gz").resolve() in {path.resolve() for path in record.images.values()}:
            raise InputError("--output", f"is the folder of the images: {record.id}.nii.gz would be overwritten")
    for record in shown(found, "predicting", console):
        start = time.perf_counter()
        case = load(record, folder.DATASET)
        prediction = predict_case(trained, case, flips, post)
        write_label(output / f"{record.id}.nii.gz", prediction.labels, case, raw)
        if probabilities:
            path = output / f"{record.id}_probabilities.nii.gz"
            content = formats.encode(path, prediction.probabilities, case.affine)
            atomic_write(path, lambda to, content=content: to.write_bytes(content))
        console.print(f"{record.id}.nii.gz ({time.perf_counter() - start:.1f} s)")
