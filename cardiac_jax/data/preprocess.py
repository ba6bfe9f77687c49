"""A loaded case brought to the networks' frame, and a prediction back to the file's grid. Host side, NumPy.

Frame: `[Z, H, W]`, Z from apex to base, H towards the feet, W towards left-posterior (see `orientation.py`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data import resample
from cardiac_jax.data.case import Case
from cardiac_jax.data.intensity import clahe
from cardiac_jax.data.orientation import Orientation, from_canonical, orientation, to_canonical
from cardiac_jax.errors import InputError

SAME_SPACING = 1e-3  # relative difference below which pixels are copied, not interpolated


class Grid(NamedTuple):
    """What networks see.

    Attributes:
      spacing_mm: in-plane pixel size to resample to; None: keep the case's own.
      size: `(H, W)` to crop or pad to, all slices kept; or `(Z, H, W)`, slices too cropped or padded, never resampled.
      clahe: whether contrast is equalised slice by slice, before the z-score (`contrast.py`).
      whole: nothing is cropped; `size` is then the least.
      beside: whether equalised images are further channels, after the images as they are.
    """

    spacing_mm: float | None
    size: tuple[int, ...]
    clahe: bool = False
    no_crop: bool = False
    append_clahe: bool = False


class Axis(NamedTuple):
    """One axis: `pixels` become `resampled`, each `scale` as large; `size` stay, from `start`."""

    pixels: int
    resampled: int
    scale: float
    start: int
    size: int


class Geometry(NamedTuple):
    """How a prediction on the grid goes back into the file."""

    frame: Orientation
    depth: Axis
    height: Axis
    width: Axis


class Prepared(NamedTuple):
    """A case on the grid.

    Attributes:
      image: `[Z, H, W, C]` float32, a channel per sequence (two with `Grid.append_clahe`), z-scored over its un-padded
        volume, padded by 0.
      label: `[Z, H, W]` uint8, 255 ignore; padded by 0 if all of the slice (the volume) is annotated, else by 255.
      position: `[Z]` float32, 0 at the apex, 1 at the base, 0.5 for a single slice and in padding.
      spacing_mm: pixel size along Z, H, W.
      synthetic: the image was made, not acquired.
    """

    id: str
    patient: str
    image: np.ndarray
    label: np.ndarray | None
    position: np.ndarray
    spacing_mm: tuple[float, float, float]
    geometry: Geometry
    group: str | None
    phase: str | None
    split: str | None
    synthetic: bool = False


def prepare(case: Case, grid: Grid, sequences: Sequence[str], slice_order: str) -> Prepared:
    """Brings `case` to `grid`; raises InputError naming the file if a sequence is missing.

    A lone image of unknown sequence (called "image") stands for the one sequence asked for.
    """
    images = dict(case.images)
    if len(sequences) == 1 and set(images) == {"image"}:
        images = {sequences[0]: images["image"]}
    for sequence in sequences:
        if sequence not in images:
            raise InputError(case.source, f"case {case.id} lacks the sequence {sequence}")
    frame = orientation(case.affine, slice_order)
    spacing = [case.spacing_mm[axis] for axis in frame.axes]
    shape = [next(iter(images.values())).shape[axis] for axis in frame.axes]
    z = shape[0]
    wanted = (None, grid.spacing_mm, grid.spacing_mm)
    sizes = grid.size if len(grid.size) == 3 else (z, *grid.size)
    axes = [_axis(*axis, grid.no_crop) for axis in zip(shape, spacing, wanted, sizes, strict=True)]
    depth, height, width = axes
    stacks = [to_canonical(images[s], frame) for s in sequences]
    even = [clahe(stack, slice_axis=0) for stack in stacks] if grid.clahe else []
    shown = [*stacks, *even] if grid.append_clahe or not grid.clahe else even
    stacked = np.stack([_z_score(stack) for stack in shown], axis=-1)
    image = _cut(resample.planes(stacked, _onto(height, cubic=True), _onto(width, cubic=True)), depth, 0.0)
    position = (np.arange(z) / (z - 1) if z > 1 else np.full(1, 0.5)).astype(np.float32)
    label = None
    if case.label is not None:
        label = _label_onto(to_canonical(case.label, frame), height, width)
        label = _cut(label, depth, IGNORE if (label == IGNORE).any() else 0)
    return Prepared(
        id=case.id,
        patient=case.patient,
        image=image,
        label=label,
        position=_cut(position, depth, 0.5),
        spacing_mm=(spacing[0], spacing[1] * height.scale, spacing[2] * width.scale),
        geometry=Geometry(frame, depth, height, width),
        group=case.group,
        phase=case.phase,
        split=case.split,
    )


def to_file_grid(probabilities: np.ndarray, geometry: Geometry) -> np.ndarray:
    """`[Z, H, W, K]` on the grid -> `[X, Y, Z, K]` float32 on the file's own grid.

    Undoes crop, padding, flips and axis order exactly; resamples linearly. Outside the crop: background 1.
    """
    rows, columns = _back(geometry.height), _back(geometry.width)
    out = resample.planes(np.asarray(probabilities, np.float32), rows, columns)
    covered = (rows.sum(axis=1)[:, None] > 0) & (columns.sum(axis=1)[None] > 0)
    out[..., 0] += ~covered
    out = _uncut(out, geometry.depth)
    return np.ascontiguousarray(from_canonical(out, geometry.frame))


def _axis(pixels: int, spacing_mm: float, wanted_mm: float | None, size: int, no_crop: bool) -> Axis:
    scale = 1.0 if wanted_mm is None or abs(wanted_mm / spacing_mm - 1) < SAME_SPACING else wanted_mm / spacing_mm
    resampled = max(1, round(pixels / scale))
    size = max(size, resampled) if no_crop else size
    return Axis(pixels, resampled, scale, (resampled - size) // 2, size)


def _cut(stack: np.ndarray, depth: Axis, fill: float) -> np.ndarray:
    """`[Z, ...]` -> `[depth.size, ...]`: slices from `depth.start` on, `fill` where there are none."""
    if depth.size == depth.pixels:
        return stack
    wanted = np.arange(depth.size) + depth.start
    out = stack[np.clip(wanted, 0, depth.pixels - 1)]
    out[(wanted < 0) | (wanted >= depth.pixels)] = fill
    return out


def _uncut(probabilities: np.ndarray, depth: Axis) -> np.ndarray:
    """The way back for `[depth.size, ..., K]`: background where slices were cut off."""
    if depth.size == depth.pixels:
        return probabilities
    given = np.arange(depth.pixels) - depth.start
    out = probabilities[np.clip(given, 0, depth.size - 1)]
    out[(given < 0) | (given >= depth.size)] = np.eye(out.shape[-1], dtype=out.dtype)[0]
    return out


def _onto(axis: Axis, *, cubic: bool):
    """Weights `[size, pixels]` from the file to the grid; centres of both fields of view coincide."""
    kept = np.arange(axis.size) + axis.start - (axis.resampled - 1) / 2
    return resample.matrix(kept * axis.scale + (axis.pixels - 1) / 2, axis.pixels, axis.scale, cubic=cubic)


def _back(axis: Axis):
    """Weights `[pixels, size]` from the grid to the file."""
    native = (np.arange(axis.pixels) - (axis.pixels - 1) / 2) / axis.scale
    return resample.matrix(native + (axis.resampled - 1) / 2 - axis.start, axis.size, 1 / axis.scale, cubic=False)


def _label_onto(label: np.ndarray, height: Axis, width: Axis) -> np.ndarray:
    """`[Z, h, w]` classes -> `[Z, H, W]`: largest linear weight wins; 255 where under half is annotated."""
    present = np.flatnonzero(np.bincount(label.ravel(), minlength=IGNORE + 1))
    classes = np.union1d([0], present[present != IGNORE])  # background first: it wins in the padding
    rows, columns = _onto(height, cubic=False), _onto(width, cubic=False)
    shares = resample.planes((label[..., None] == classes).astype(np.float32), rows, columns)
    out = classes[shares.argmax(axis=-1)].astype(np.uint8)
    covered = (rows.sum(axis=1)[:, None] > 0) & (columns.sum(axis=1)[None] > 0)
    sparse = (label == IGNORE).any(axis=(1, 2))[:, None, None]
    out[sparse & ~(covered & (shares.sum(axis=-1) > 0.5 - 1e-4))] = IGNORE
    return out


def _z_score(image: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance over the whole volume, statistics in float64; zeros if constant."""
    mean, sd = float(image.mean(dtype=np.float64)), float(image.std(dtype=np.float64))
    return (image - np.float32(mean)) / np.float32(sd or 1.0)
