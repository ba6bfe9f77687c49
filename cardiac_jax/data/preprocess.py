"""Resampling of cases to the network's grid, and of predictions to the case's own grid. Host side, NumPy.

Both grids are in the canonical frame `[Z, H, W]` (see `stack.py`): Z from apex to base, H towards the feet, W towards
left-posterior.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data import intensity, resample
from cardiac_jax.data.case import Case
from cardiac_jax.data.orientation import Orientation
from cardiac_jax.data.stack import Stack
from cardiac_jax.errors import InputError

SAME_SPACING = 1e-3  # relative difference below which voxels are copied, not interpolated


class Grid(NamedTuple):
    """The network's grid and intensity operations.

    Attributes:
      spacing_mm: voxel size along Z, H, W to resample to; 0: the case's own. A single slice is not resampled along Z.
      size: `(H, W)` to crop or pad to, with all slices kept; or `(Z, H, W)`.
      intensity: operations on every image, in order (`intensity.OPERATIONS`).
      append_clahe: the images after CLAHE and `intensity` are appended as further channels.
      no_crop: nothing is cropped; `size` is then a minimum.
    """

    spacing_mm: tuple[float, float, float]
    size: tuple[int, ...]
    intensity: tuple[str, ...] = ("z_score",)
    append_clahe: bool = False
    no_crop: bool = False


class Axis(NamedTuple):
    """One axis: `pixels` are resampled to `resampled`, each `scale` times as large; `size` are kept from `start`."""

    pixels: int
    resampled: int
    scale: float
    start: int
    size: int


class Geometry(NamedTuple):
    """Relation between the case's own grid and the network's grid, by axis."""

    depth: Axis
    height: Axis
    width: Axis


class Prepared(NamedTuple):
    """A case on the network's grid.

    Attributes:
      image: `[Z, H, W, C]` float32, one channel per sequence (two with `Grid.append_clahe`), padded by 0.
      label: `[Z, H, W]` uint8, 255 ignore; padded by 0 if the slice (the volume) is fully annotated, else by 255.
      position: `[Z]` float32, 0 at the apex, 1 at the base, 0.5 for a single slice and in padding.
      spacing_mm: voxel size along Z, H, W.
      synthetic: the image is synthetic, not acquired.
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


def prepare(case: Case, grid: Grid, sequences: Sequence[str]) -> Prepared:
    """Returns `case` on `grid`.

    If one sequence is required, a single image of unknown sequence (called "image") is used for it.

    Raises:
      InputError: a sequence is missing.
    """
    images = dict(case.images)
    if len(sequences) == 1 and set(images) == {"image"}:
        images = {sequences[0]: images["image"]}
    for sequence in sequences:
        if sequence not in images:
            raise InputError(case.source, f"case {case.id} lacks the sequence {sequence}")
    spacing, shape = case.spacing_mm, case.shape
    z = shape[0]
    sizes = grid.size if len(grid.size) == 3 else (None, *grid.size)
    wanted = (grid.spacing_mm[0] if z > 1 else 0.0, *grid.spacing_mm[1:])
    axes = [_axis(*axis, grid.no_crop) for axis in zip(shape, spacing, wanted, sizes, strict=True)]
    depth, height, width = axes
    stacks = [images[sequence] for sequence in sequences]
    channels = [intensity.chain(grid.intensity)(stack) for stack in stacks]
    if grid.append_clahe:
        channels += [intensity.chain(("clahe", *grid.intensity))(stack) for stack in stacks]
    stacked = np.stack(channels, axis=-1)
    image = _onto_depth(resample.planes(stacked, _onto(height, cubic=True), _onto(width, cubic=True)), depth, 0.0)
    position = (np.arange(z) / (z - 1) if z > 1 else np.full(1, 0.5)).astype(np.float32)
    return Prepared(
        id=case.id,
        patient=case.patient,
        image=image,
        label=None if case.label is None else _label_onto(case.label, depth, height, width),
        position=_onto_depth(position, depth, 0.5),
        spacing_mm=(spacing[0] * depth.scale, spacing[1] * height.scale, spacing[2] * width.scale),
        geometry=Geometry(depth, height, width),
        group=case.group,
        phase=case.phase,
        split=case.split,
    )


def part(geometry: Geometry, start: Sequence[int], size: Sequence[int]) -> Geometry:
    """Returns the geometry of a box of `size` (Z, H, W), whose first voxel in a prepared image is `start`."""
    axes = (axis._replace(start=axis.start + s, size=k) for axis, s, k in zip(geometry, start, size, strict=True))
    return Geometry(*axes)


def lost_share(label: np.ndarray, geometry: Geometry) -> float:
    """Returns the share of the structures' voxels of a case's label `[Z, H, W]` that its grid's crop leaves out."""
    structures = kept = (label != 0) & (label != IGNORE)
    for k, axis in enumerate(geometry):
        kept = kept.compress(_back(axis).sum(axis=1) > 0, axis=k)
    return 1 - float(kept.sum()) / float(structures.sum()) if structures.any() else 0.0


def to_native_grid(values: np.ndarray, geometry: Geometry, fill: float = 1.0) -> np.ndarray:
    """Returns values on the case's own grid, float32 `[Z', H', W', K]`, from `[Z, H, W, K]` on the network's grid.

    Crop and padding are inverted exactly; resampling is linear.

    Args:
      fill: value of the first channel outside the crop, where the others are 0; 1 for probabilities (background).
    """
    rows, columns = _back(geometry.height), _back(geometry.width)
    out = resample.planes(np.asarray(values, np.float32), rows, columns)
    covered = (rows.sum(axis=1)[:, None] > 0) & (columns.sum(axis=1)[None] > 0)
    out[..., 0] += fill * ~covered
    return _back_depth(out, geometry.depth, fill)


def network_stack(values: np.ndarray, case: Case, geometry: Geometry, scale: Sequence[int] = (1, 1, 1)) -> Stack:
    """Returns values on the network's grid, or on a grid `scale` times finer, as a stack with its geometry.

    Args:
      values: `[Z * s, H * t, W * u, ...]` for `scale` (s, t, u).
      case: the case that was resampled to the network's grid.
      geometry: of the prepared case.
    """
    scale = (*(1,) * (3 - len(scale)), *scale)
    own = _to_file_index(case.frame, case.shape)
    finer = np.eye(4)
    for k, (axis, factor) in enumerate(zip(geometry, scale, strict=True)):
        # Index q of the finer grid is index (q - (factor - 1) / 2) / factor of the network's grid.
        first = (0.5 - factor / 2) / factor + axis.start - (axis.resampled - 1) / 2
        finer[k, k], finer[k, 3] = axis.scale / factor, first * axis.scale + (axis.pixels - 1) / 2
    back = np.linalg.inv(_to_file_index(case.frame, values.shape[:3]))
    return Stack(values, case.frame, case.affine @ own @ finer @ back)


def _to_file_index(frame: Orientation, shape: Sequence[int]) -> np.ndarray:
    """`[4, 4]`: index in the canonical frame -> index in the file's axis order, for an array `[Z, H, W]` of `shape`."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for k, (axis, flip) in enumerate(zip(frame.axes, frame.flips, strict=True)):
        matrix[axis, k], matrix[axis, 3] = (-1, shape[k] - 1) if flip else (1, 0)
    return matrix


def _axis(pixels: int, spacing_mm: float, wanted_mm: float, size: int | None, no_crop: bool) -> Axis:
    scale = 1.0 if not wanted_mm or abs(wanted_mm / spacing_mm - 1) < SAME_SPACING else wanted_mm / spacing_mm
    resampled = max(1, round(pixels / scale))
    size = resampled if size is None else max(size, resampled) if no_crop else size
    return Axis(pixels, resampled, scale, (resampled - size) // 2, size)


def _onto_depth(stack: np.ndarray, depth: Axis, fill: float) -> np.ndarray:
    """`[Z, ...]` -> `[depth.size, ...]`, interpolated linearly if the spacing differs; `fill` outside."""
    if depth.scale != 1.0:
        weights = _onto(depth, cubic=False)
        out = resample.along_first(stack, weights)
        out[weights.sum(axis=1) == 0] = fill
        return out
    if depth.size == depth.pixels:
        return stack
    wanted = np.arange(depth.size) + depth.start
    out = stack[np.clip(wanted, 0, depth.pixels - 1)]
    out[(wanted < 0) | (wanted >= depth.pixels)] = fill
    return out


def _back_depth(probabilities: np.ndarray, depth: Axis, fill: float) -> np.ndarray:
    """`[depth.size, ..., K]` -> `[depth.pixels, ..., K]`; cropped slices have `fill` in the first channel, else 0."""
    background = fill * np.eye(probabilities.shape[-1], dtype=probabilities.dtype)[0]
    if depth.scale != 1.0:
        weights = _back(depth)
        out = resample.along_first(probabilities, weights)
        out[weights.sum(axis=1) == 0] = background
        return out
    if depth.size == depth.pixels:
        return probabilities
    given = np.arange(depth.pixels) - depth.start
    out = probabilities[np.clip(given, 0, depth.size - 1)]
    out[(given < 0) | (given >= depth.size)] = background
    return out


def _onto(axis: Axis, *, cubic: bool) -> sparse.csr_array:
    """Interpolation weights `[size, pixels]` from the case to the grid; both fields of view have the same centre."""
    kept = np.arange(axis.size) + axis.start - (axis.resampled - 1) / 2
    return resample.matrix(kept * axis.scale + (axis.pixels - 1) / 2, axis.pixels, axis.scale, cubic=cubic)


def _back(axis: Axis) -> sparse.csr_array:
    """Interpolation weights `[pixels, size]` from the grid to the case."""
    native = (np.arange(axis.pixels) - (axis.pixels - 1) / 2) / axis.scale
    return resample.matrix(native + (axis.resampled - 1) / 2 - axis.start, axis.size, 1 / axis.scale, cubic=False)


def _label_onto(label: np.ndarray, depth: Axis, height: Axis, width: Axis) -> np.ndarray:
    """Classes `[z, h, w]` -> `[Z, H, W]`: argmax of linearly interpolated masks; 255 if at most half is annotated."""
    present = np.flatnonzero(np.bincount(label.ravel(), minlength=IGNORE + 1))
    classes = np.union1d([0], present[present != IGNORE])  # background first: argmax returns it in the padding
    rows, columns = _onto(height, cubic=False), _onto(width, cubic=False)
    shares = resample.planes((label[..., None] == classes).astype(np.float32), rows, columns)
    partly = (label == IGNORE).any(axis=(1, 2))
    weights = _onto(depth, cubic=False)
    if depth.scale != 1.0:
        shares, partly = resample.along_first(shares, weights), (weights @ partly.astype(np.float32)) > 0
    out = classes[shares.argmax(axis=-1)].astype(np.uint8)
    covered = (rows.sum(axis=1)[:, None] > 0) & (columns.sum(axis=1)[None] > 0)
    out[partly[:, None, None] & ~(covered & (shares.sum(axis=-1) > 0.5 - 1e-4))] = IGNORE
    padding = IGNORE if (out == IGNORE).any() else 0
    if depth.scale == 1.0:
        return _onto_depth(out, depth, padding)
    out[weights.sum(axis=1) == 0] = padding
    return out
