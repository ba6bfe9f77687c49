"""Resampling of cases to the network's grid, and of predictions to the case's own grid. Host side, NumPy.

Both grids are in the canonical frame `[Z, H, W]` (see `stack.py`): Z from apex to base, H towards the feet, W towards
left-posterior.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from cardiac_jax.core.types import IGNORE
from cardiac_jax.data import axes, intensity, resample
from cardiac_jax.data.axes import SAME_SPACING, Axis, Geometry, Placements
from cardiac_jax.data.case import Case
from cardiac_jax.data.stack import Stack, to_file_index
from cardiac_jax.errors import InputError

SAME = (1, 1, 1)
NO_PLACE = (None, None, None)


class Grid(NamedTuple):
    """The network's grid and intensity operations.

    Attributes:
      spacing_mm: voxel size along Z, H, W to resample to; 0: the case's own. A single slice is not resampled along Z.
      size: `(H, W)` to crop or pad to, with all slices kept; or `(Z, H, W)`.
      intensity: operations on every image, in order (`intensity.OPERATIONS`).
      append_clahe: the images after CLAHE and `intensity` are appended as further channels.
      no_crop: nothing is cropped; `size` is then a minimum.
      target_scale: labels and finer images have this many voxels per voxel of the network's grid, along Z, H, W.
    """

    spacing_mm: tuple[float, float, float]
    size: tuple[int, ...]
    intensity: tuple[str, ...] = ("z_score",)
    append_clahe: bool = False
    no_crop: bool = False
    target_scale: tuple[int, ...] = SAME


class Prepared(NamedTuple):
    """A case on the network's grid.

    Attributes:
      image: `[Z, H, W, C]` float32, one channel per sequence (two with `Grid.append_clahe`), padded by 0.
      label: `[Z * s, H * t, W * u]` uint8 for `Grid.target_scale` (s, t, u), 255 ignore; padded by 0 if the slice (the
        volume) is fully annotated, else by 255. Where a finer label does not cover the image it is 255.
      position: `[Z]` float32, 0 at the apex, 1 at the base, 0.5 for a single slice and in padding.
      spacing_mm: voxel size along Z, H, W.
      synthetic: the image is synthetic, not acquired.
      fine: `[Z * s, H * t, W * u, C]` float32, the high-resolution image of every sequence, normalised as `image` is by
        `gain_offset`; None if the case has none, or if the intensity operations are not affine.
      gain_offset: `[C, 2]` float64, a row per channel: normalised = gain * raw + offset; NaN if the operations are not
        affine.
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
    fine: np.ndarray | None = None
    gain_offset: np.ndarray | None = None


def prepare(case: Case, grid: Grid, sequences: Sequence[str]) -> Prepared:
    """Returns `case` on `grid`.

    If one sequence is required, a single image of unknown sequence (called "image") is used for it.

    Raises:
      InputError: a sequence is missing.
    """
    images = _named(case.images, sequences)
    for sequence in sequences:
        if sequence not in images:
            raise InputError(case.source, f"case {case.id} lacks the sequence {sequence}")
    spacing, shape = case.spacing_mm, case.shape
    z = shape[0]
    sizes = grid.size if len(grid.size) == 3 else (None, *grid.size)
    wanted = (grid.spacing_mm[0] if z > 1 else 0.0, *grid.spacing_mm[1:])
    depth, height, width = (_axis(*axis, grid.no_crop) for axis in zip(shape, spacing, wanted, sizes, strict=True))
    geometry = Geometry(depth, height, width)
    stacks = [images[sequence] for sequence in sequences]
    channels = [intensity.chain(grid.intensity)(stack) for stack in stacks]
    if grid.append_clahe:
        channels += [intensity.chain(("clahe", *grid.intensity))(stack) for stack in stacks]
    stacked = np.stack(channels, axis=-1)
    in_plane = (axes.onto(axis, cubic=True) for axis in (height, width))
    image = _onto_depth(resample.planes(stacked, *in_plane), depth, 0.0)
    gain_offset = np.array([intensity.gain_offset(grid.intensity, stack) for stack in stacks])
    position = (np.arange(z) / (z - 1) if z > 1 else np.full(1, 0.5)).astype(np.float32)
    return Prepared(
        id=case.id,
        patient=case.patient,
        image=image,
        label=_target(case, geometry, grid.target_scale),
        position=_onto_depth(position, depth, 0.5),
        spacing_mm=(spacing[0] * depth.scale, spacing[1] * height.scale, spacing[2] * width.scale),
        geometry=geometry,
        group=case.group,
        phase=case.phase,
        split=case.split,
        fine=_fine_image(case, geometry, grid.target_scale, sequences, gain_offset),
        gain_offset=np.pad(gain_offset, ((0, len(channels) - len(stacks)), (0, 0)), constant_values=np.nan),
    )


def part(geometry: Geometry, start: Sequence[int], size: Sequence[int]) -> Geometry:
    """Returns the geometry of a box of `size` (Z, H, W), whose first voxel in a prepared image is `start`."""
    axes = (axis._replace(start=axis.start + s, size=k) for axis, s, k in zip(geometry, start, size, strict=True))
    return Geometry(*axes)


def lost_share(label: np.ndarray, geometry: Geometry, placed: Placements | None = None) -> float:
    """Returns the share of the structures' voxels of a label `[Z, H, W]` that the network's crop leaves out.

    Args:
      label: on the case's own grid, or on the grid `placed` (`axes.placements`).
      geometry: of the prepared case.
    """
    structures = kept = (label != 0) & (label != IGNORE)
    for k, (axis, place) in enumerate(zip(geometry, placed or NO_PLACE, strict=True)):
        kept = kept.compress(axes.back(axis, placed=place).sum(axis=1) > 0, axis=k)
    return 1 - float(kept.sum()) / float(structures.sum()) if structures.any() else 0.0


def to_native_grid(
    values: np.ndarray,
    geometry: Geometry,
    fill: float = 1.0,
    scale: Sequence[int] = SAME,
    placed: Placements | None = None,
) -> np.ndarray:
    """Returns values on the case's own grid, float32 `[Z', H', W', K]`, from `[Z, H, W, K]` on the network's grid.

    Crop and padding are inverted exactly; resampling is linear.

    Args:
      values: `[Z * s, H * t, W * u, K]` for `scale` (s, t, u).
      fill: value of the first channel outside the crop, where the others are 0; 1 for probabilities (background).
      placed: another grid on which values are returned instead (`axes.placements`), e.g. that of a finer label.
    """
    factors, values = _three(scale), np.asarray(values, np.float32)
    depth, rows, columns = (
        axes.back(axis, factor=factor, placed=place)
        for axis, factor, place in zip(geometry, factors, placed or NO_PLACE, strict=True)
    )
    out = resample.planes(values, rows, columns)
    covered = (rows.sum(axis=1)[:, None] > 0) & (columns.sum(axis=1)[None] > 0)
    out[..., 0] += fill * ~covered
    if placed is None and factors[0] == 1:
        return _back_depth(out, geometry.depth, fill)
    return _along_depth(out, depth, fill)


def covered(geometry: Geometry, placed: Placements | None = None) -> tuple[slice, ...]:
    """Returns the box of the case's own grid, or of the grid `placed`, that lies on the network's grid."""
    inside = (axes.back(a, placed=p).sum(axis=1) > 0 for a, p in zip(geometry, placed or NO_PLACE, strict=True))
    return tuple(slice(int(k.argmax()), len(k) - int(k[::-1].argmax())) if k.any() else slice(0) for k in inside)


def network_stack(values: np.ndarray, case: Case, geometry: Geometry, scale: Sequence[int] = (1, 1, 1)) -> Stack:
    """Returns values on the network's grid, or on a grid `scale` times finer, as a stack with its geometry.

    Args:
      values: `[Z * s, H * t, W * u, ...]` for `scale` (s, t, u).
      case: the case that was resampled to the network's grid.
      geometry: of the prepared case.
    """
    own = to_file_index(case.frame, case.shape)
    finer = np.eye(4)
    for k, (axis, factor) in enumerate(zip(geometry, _three(scale), strict=True)):
        # Index q of the finer grid is index (q - (factor - 1) / 2) / factor of the network's grid.
        first = (0.5 - factor / 2) / factor + axis.start - (axis.resampled - 1) / 2
        finer[k, k], finer[k, 3] = axis.scale / factor, first * axis.scale + (axis.pixels - 1) / 2
    back = np.linalg.inv(to_file_index(case.frame, values.shape))
    return Stack(values, case.frame, case.affine @ own @ finer @ back)


def _named(images: Mapping[str, Any], sequences: Sequence[str]) -> dict[str, Any]:
    """The images by sequence; a single one of unknown sequence is the only one required."""
    return {sequences[0]: images["image"]} if len(sequences) == 1 and set(images) == {"image"} else dict(images)


def _three(scale: Sequence[int]) -> tuple[int, ...]:
    """The factors along Z, H, W; those that are left out are 1."""
    return (*(1,) * (3 - len(scale)), *scale)


def _axis(pixels: int, spacing_mm: float, wanted_mm: float, size: int | None, no_crop: bool) -> Axis:
    scale = 1.0 if not wanted_mm or abs(wanted_mm / spacing_mm - 1) < SAME_SPACING else wanted_mm / spacing_mm
    resampled = max(1, round(pixels / scale))
    size = resampled if size is None else max(size, resampled) if no_crop else size
    return Axis(pixels, resampled, scale, (resampled - size) // 2, size)


def _onto_depth(stack: np.ndarray, depth: Axis, fill: float) -> np.ndarray:
    """`[Z, ...]` -> `[depth.size, ...]`, interpolated linearly if the spacing differs; `fill` outside."""
    if depth.scale != 1.0:
        weights = axes.onto(depth, cubic=False)
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
    if depth.scale != 1.0:
        return _along_depth(probabilities, axes.back(depth), fill)
    if depth.size == depth.pixels:
        return probabilities
    given = np.arange(depth.pixels) - depth.start
    out = probabilities[np.clip(given, 0, depth.size - 1)]
    out[(given < 0) | (given >= depth.size)] = _background(out, fill)
    return out


def _along_depth(probabilities: np.ndarray, weights: sparse.csr_array, fill: float) -> np.ndarray:
    """Applies weights along Z; slices outside have `fill` in the first channel, else 0."""
    out = resample.along_first(probabilities, weights)
    out[weights.sum(axis=1) == 0] = _background(out, fill)
    return out


def _background(values: np.ndarray, fill: float) -> np.ndarray:
    return fill * np.eye(values.shape[-1], dtype=values.dtype)[0]


def _target(case: Case, geometry: Geometry, scale: Sequence[int]) -> np.ndarray | None:
    """The case's label on the network's grid, or `scale` times finer."""
    truth = case.truth
    if truth is None:
        return None
    if case.fine is None and tuple(scale) == SAME:
        depth, rows, columns = geometry.depth, *(axes.onto(axis, cubic=False) for axis in geometry[1:])
        if depth.scale != 1.0:
            return _label_along(truth.data, axes.onto(depth, cubic=False), rows, columns)
        out = _label_along(truth.data, None, rows, columns)
        return _onto_depth(out, depth, IGNORE if (out == IGNORE).any() else 0)
    weights = _weights(case, truth, geometry, scale, cubic=False)
    out = _label_along(truth.data, *weights)
    if case.fine is not None:  # part of the image may lie beyond what is annotated
        inside = axes.covered(_weights(case, case.grid, geometry, scale, cubic=False))
        out[inside & ~axes.covered(weights)] = IGNORE
    return out


def _fine_image(
    case: Case, geometry: Geometry, scale: Sequence[int], sequences: Sequence[str], gain_offset: np.ndarray
) -> np.ndarray | None:
    """The high-resolution images `[Z * s, H * t, W * u, C]`, normalised by `gain_offset`; 0 outside them."""
    images = _named(case.fine.images, sequences) if case.fine else {}
    if not set(sequences) <= images.keys() or np.isnan(gain_offset).any():
        return None
    channels = []
    for sequence, (gain, offset) in zip(sequences, gain_offset, strict=True):
        stack: Stack = images[sequence]
        values = (gain * stack.data + offset).astype(np.float32)[..., None]
        _, *in_plane = _weights(case, stack, geometry, scale, cubic=True)
        channels.append(axes.along(values, (_weights(case, stack, geometry, scale, cubic=False)[0], *in_plane)))
    return np.concatenate(channels, axis=-1)


def _weights(
    case: Case, source: Stack, geometry: Geometry, scale: Sequence[int], *, cubic: bool
) -> tuple[sparse.csr_array, sparse.csr_array, sparse.csr_array]:
    """Weights along Z, H, W from the grid of `source` to one `scale` times finer than the network's."""
    placed = axes.placements(case.grid, source) or NO_PLACE
    z, h, w = (
        axes.onto(axis, cubic=cubic, factor=factor, placed=place)
        for axis, factor, place in zip(geometry, scale, placed, strict=True)
    )
    return z, h, w


def _label_along(
    label: np.ndarray, depth: sparse.csr_array | None, rows: sparse.csr_array, columns: sparse.csr_array
) -> np.ndarray:
    """Classes `[z, h, w]` -> `[Z, H, W]`: argmax of linearly interpolated masks; 255 if at most half is annotated.

    Args:
      depth: weights along Z, outside of which the label is padded; None: slices are kept.
    """
    present = np.flatnonzero(np.bincount(label.ravel(), minlength=IGNORE + 1))
    classes = np.union1d([0], present[present != IGNORE])  # background first: argmax returns it in the padding
    shares = resample.planes((label[..., None] == classes).astype(np.float32), rows, columns)
    partly = (label == IGNORE).any(axis=(1, 2))
    if depth is not None:
        shares, partly = resample.along_first(shares, depth), (depth @ partly.astype(np.float32)) > 0
    out = classes[shares.argmax(axis=-1)].astype(np.uint8)
    covered = (rows.sum(axis=1)[:, None] > 0) & (columns.sum(axis=1)[None] > 0)
    out[partly[:, None, None] & ~(covered & (shares.sum(axis=-1) > 0.5 - 1e-4))] = IGNORE
    if depth is not None:
        out[depth.sum(axis=1) == 0] = IGNORE if (out == IGNORE).any() else 0
    return out
