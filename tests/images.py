"""Small synthetic image files for the tests of reading and writing."""

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np

AXIS_CODES = [
    tuple(pair[flip] for pair, flip in zip(order, flips, strict=True))
    for order in permutations((("L", "R"), ("P", "A"), ("I", "S")))
    for flips in product((0, 1), repeat=3)
]  # all 48


def affine(codes=("P", "S", "R"), spacing_mm=(0.75, 0.75, 5.0), origin_mm=(10.0, -20.0, 30.0), tilt=0.0) -> np.ndarray:
    """A right-angled affine of given axis codes, turned by `tilt` radians about an oblique axis."""
    columns = {
        "R": (1, 0, 0),
        "L": (-1, 0, 0),
        "A": (0, 1, 0),
        "P": (0, -1, 0),
        "S": (0, 0, 1),
        "I": (0, 0, -1),
    }
    direction = np.array([columns[c] for c in codes], float).T
    axis = np.array([1.0, 2.0, -1.0]) / np.sqrt(6.0)
    cross = np.cross(np.eye(3), axis)
    turn = np.cos(tilt) * np.eye(3) + np.sin(tilt) * cross.T + (1 - np.cos(tilt)) * np.outer(axis, axis)
    out = np.eye(4)
    out[:3, :3] = turn @ direction * spacing_mm
    out[:3, 3] = origin_mm
    return out


def save(path: Path, data: np.ndarray, grid: np.ndarray | None = None, codes: tuple[int, int] = (1, 1)) -> Path:
    """Writes NIfTI with nibabel, qform and sform codes as given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine() if grid is None else grid)
    image.set_qform(image.affine, codes[0])
    image.set_sform(image.affine, codes[1])
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


def image(shape=(12, 10, 4), seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16)


def label(shape=(12, 10, 4)) -> np.ndarray:
    """Raw MS-CMRSeg values: a block of each class, and one slice of scribbles."""
    out = np.zeros(shape, np.int16)
    out[2:4, 2:8], out[4:7, 2:8], out[7:9, 2:8] = 600, 200, 500
    out[..., 0] = np.where(out[..., 0] == 0, 255, out[..., 0])
    return out


def patient(folder: Path, number: int, seed: int = 0) -> tuple[Path, Path]:
    """One sound MS-CMRSeg case: image and label files."""
    stem = folder / f"patient{number}_LGE"
    return (
        save(stem.with_name(stem.name + ".nii.gz"), image(seed=seed)),
        save(stem.with_name(stem.name + "_manual.nii.gz"), label()),
    )
