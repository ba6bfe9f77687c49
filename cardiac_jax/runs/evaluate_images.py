"""Evaluation of restored images: SSIM and PSNR against the reference, at the reference's own voxels."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.io.write import write_array
from cardiac_jax.data.load import load
from cardiac_jax.errors import InputError, printable, raise_failed
from cardiac_jax.progress import run_each, saying
from cardiac_jax.report import restoration
from cardiac_jax.results import evaluation
from cardiac_jax.runs.predict import predict_case, sequences_of
from cardiac_jax.runs.restore import Trained


def evaluate_images(
    members: Sequence[Trained],
    chosen: Dataset,
    named: Sequence[Record],
    problems: Mapping[str, InputError],
    out: Path,
    about: Mapping[str, Any],
    leave_out: Sequence[str],
    console: Console,
) -> evaluation.Results:
    """Evaluates restored images of a run, or of an ensemble; returns the results and writes them to `out`.

    An image is measured over the box that was predicted, and written on the reference's grid. A row's `seconds` are
    those of the whole prediction, with the way between the grids, in this process; the first case's also compile.
    Methods are compared by `runs/seconds.py`.

    Args:
      members: models whose main output is an image of one sequence.
      chosen: a data set with finer images of that sequence.
      named: the cases.
      problems: what cannot be used in the data set's folder.
      about: provenance, see `evaluation.Results`.
      leave_out: cases left out of the printed table; they are in every file.

    Raises:
      InputError: there are several sequences, or none of the cases can be used.
      BatchError: some cases failed; the files hold the results of the others and name these.
    """
    needed = sequences_of(members)
    if len(needed) != 1:
        raise InputError("data.sequences", f"restored images are measured of one sequence, not of {', '.join(needed)}")
    (sequence,) = needed
    measured, found, seconds = evaluation.Measured(), {}, []

    def one(record: Record) -> None:
        nonlocal measured
        case = load(record, chosen, needed)
        truth = case.fine.images.get(sequence) if case.fine else None
        if case.fine is None or truth is None:
            raise InputError(case.source, f"case {case.id} has no finer image {sequence} to measure against")
        start = time.perf_counter()
        prediction = predict_case(members, case, about["crop"], saying(console), truth)[0]
        seconds.append(time.perf_counter() - start)
        found_image = prediction.decoded.value.data[..., 0].astype(np.float32)
        written = Path("predictions") / f"{case.id}.nii.gz"
        write_array(out / written, truth.with_data(found_image).to_file(), truth.affine)
        seen = np.full(found_image.shape, np.nan, np.float32)
        seen[prediction.covered] = found_image[prediction.covered]
        subject = evaluation.subject(record)
        measured = evaluation.with_image(measured, subject, truth.with_data(seen), truth, case.fine.label, seconds[-1])
        found[case.id] = evaluation.files(case.source, record.fine_images[sequence], written, record.label)

    failed = dict(problems) | run_each([(record.id, record) for record in named], "evaluating", console, one)
    if not found:
        raise_failed(failed, 0)
        raise InputError("evaluation", "there is no case to measure")
    later = seconds[1:] or seconds
    about = {
        **about,
        "seconds_per_case": sum(later) / len(later),
        "files": found,
        "failed": evaluation.reasons(failed),
    }
    evaluated = evaluation.Results(about["name"], measured, about, out)
    restoration.write(out, evaluated, leave_out, console)
    console.print(f"{len(found)} cases, {about['seconds_per_case']:.2f} s a case; written to {printable(str(out))}")
    raise_failed(failed, len(found))
    return evaluated
