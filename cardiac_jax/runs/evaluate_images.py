"""Evaluation of predicted images (super-resolution) against high-resolution ones.

<out>/images.csv, .json              a row per case: SSIM, PSNR, seconds
<out>/predictions/<case>.nii.gz      the images, on the grid of the high-resolution ones, in the input's intensity scale
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cardiac_jax.data.case import Dataset, Record
from cardiac_jax.data.io.write import write_array
from cardiac_jax.data.load import load
from cardiac_jax.errors import InputError
from cardiac_jax.inference.predict import IMAGE_SCORES, similarity
from cardiac_jax.metrics.restoration import RADIUS
from cardiac_jax.metrics.rows import Row
from cardiac_jax.progress import run_each, saying
from cardiac_jax.results import evaluation
from cardiac_jax.results.records import write_csv, write_json
from cardiac_jax.runs.predict import predict_case
from cardiac_jax.runs.restore import Trained


def evaluate_images(
    members: Sequence[Trained],
    records: Sequence[Record],
    chosen: Dataset,
    sequences: Sequence[str],
    out: Path,
    about: dict[str, Any],
    *,
    crop: str = "",
    console: Console,
) -> tuple[tuple[Row, ...], dict[str, InputError]]:
    """Measures the main output, an image, of every record and writes the files; returns the rows and what failed.

    SSIM and PSNR are computed on the high-resolution image's own grid, over the box that was predicted; their range is
    that of the high-resolution image there.

    Args:
      about: provenance, written to `images.json`.
    """
    rows: list[Row] = []

    def one(record: Record) -> None:
        case = load(record, chosen, sequences)
        truth = next(iter(case.fine.images.values()), None) if case.fine else None
        if truth is None:
            raise InputError(case.source, f"case {case.id} has no high-resolution image to measure against")
        start = time.perf_counter()
        prediction = predict_case(members, case, crop, saying(console), truth)[0]
        seconds = time.perf_counter() - start
        found = prediction.decoded.value
        write_array(out / "predictions" / f"{case.id}.nii.gz", found.to_file()[..., 0], found.affine)
        pair = [np.asarray(data[prediction.covered], np.float32) for data in (found.data[..., 0], truth.data)]
        if min(pair[1].shape) <= 2 * RADIUS:
            shape = " x ".join(map(str, pair[1].shape))
            raise InputError(record.id, f"{shape} voxels are predicted: SSIM needs {2 * RADIUS + 1} along every axis")
        scores = dict(zip(IMAGE_SCORES, similarity(pair[0][None], pair[1][None]), strict=True))
        head = {k: v for k, v in evaluation.subject(record)._asdict().items() if k != "bsa_m2"}
        rows.append({**head, "ssim": float(scores["ssim"]), "psnr_db": float(scores["psnr"]), "seconds": seconds})

    failed = run_each([(record.id, record) for record in records], "evaluating", console, one)
    if rows:
        write_csv(out / "images.csv", rows)
        write_json(out / "images.json", rows, about)
        means = [float(np.mean([float(row[key]) for row in rows])) for key in ("ssim", "psnr_db")]
        median = float(np.median([float(row["seconds"]) for row in rows]))
        figures = f"SSIM {means[0]:.3f}, PSNR {means[1]:.1f} dB, {median:.2f} s a stack"
        saying(console)(f"{len(rows)} cases: {figures} (means; median time)")
    return tuple(rows), failed
