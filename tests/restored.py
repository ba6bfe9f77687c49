"""Synthetic restored images on disk: bright balls at high resolution, their low-resolution stacks, methods' images."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from cardiac_jax.data.io.write import write_array
from cardiac_jax.data.stack import Stack, from_volume
from cardiac_jax.results import evaluation
from tests import images

FINE, FACTOR = (24, 26, 20), 5
"""Voxels [X, Y, Z] of the reference, and slices of it in one thick slice."""
SPACING = (2.0, 2.0, 2.0)
DATA = {"dataset": "twins", "classes": ["background", "LV"], "labels": [[0, 0], [1, 1]], "slice_order": "affine"}


def affine(factor: int = 1) -> np.ndarray:
    """The grid of the reference, or of stacks of `factor` times thicker slices that cover the same box."""
    fine = images.affine(("L", "P", "S"), SPACING, tilt=0.4)
    finer = np.eye(4)
    finer[2, 2], finer[2, 3] = factor, (factor - 1) / 2
    return fine @ finer


def ball(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and label `[X, Y, Z]` of a case."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.arange(n) for n in FINE), indexing="ij")
    label = np.hypot(np.hypot(x - 11 - rng.uniform(-2, 2), y - 13), z - 10 + rng.uniform(-1, 1)) < 6
    image = ndimage.gaussian_filter(100.0 + 300 * label, 0.8) + ndimage.gaussian_filter(rng.normal(0, 60, FINE), 1)
    return image.astype(np.float32), label.astype(np.uint8)


def stack(data: np.ndarray, factor: int = 1) -> Stack:
    """`[X, Y, Z]` -> the stack in the canonical frame."""
    return from_volume(data, affine(factor), "affine")


def results(root: Path, methods: dict[str, float], cases: int = 3, **about: Any) -> list[evaluation.Results]:
    """Evaluations under `root`: a method's image is the reference and that much noise (SD, reference: 0 to 400)."""
    for k in range(cases):
        image, label = ball(k)
        write_array(root / "data" / f"p{k}_hr.nii.gz", image, affine())
        write_array(root / "data" / f"p{k}_label.nii.gz", label, affine())
        thick = image.reshape(*FINE[:2], -1, FACTOR).mean(axis=3)
        write_array(root / "data" / f"p{k}_lr.nii.gz", thick, affine(FACTOR))
    found = []
    for method, noise in methods.items():
        out, measured, files = root / method, evaluation.Measured(), {}
        for k in range(cases):
            image, label = ball(k)
            seen = image + np.random.default_rng(k).normal(0, noise, FINE).astype(np.float32)
            written = Path("predictions") / f"p{k}.nii.gz"
            write_array(out / written, seen, affine())
            subject = evaluation.Subject(f"p{k}", f"p{k}")
            measured = evaluation.with_image(measured, subject, stack(seen), stack(image), stack(label), 0.25 + k)
            low, truth, drawn = (root / "data" / f"p{k}_{kind}.nii.gz" for kind in ("lr", "hr", "label"))
            files[f"p{k}"] = evaluation.files(low, truth, written, drawn)
        held = {"name": method, "data": DATA, "split": "test", "files": files, "failed": {}, **about}
        found.append(evaluation.Results(method, measured, held, out))
        evaluation.write_rows(out, found[-1])
    return found
