"""Relation of the network's grid to the grids of a case, axis by axis, as interpolation weights. Host side, NumPy.

All grids are in the canonical frame `[Z, H, W]` and their axes run in the same directions. Index q of a grid that is
`factor` times finer than the network's grid is index (q - (factor - 1) / 2) / factor of the network's grid.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from cardiac_jax.data import resample
from cardiac_jax.data.stack import Stack

SAME_SPACING = 1e-3  # relative difference below which voxels are copied, not interpolated
SAME_PLACE = 5  # decimals of a position, in voxels, on a grid of another file


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


class Placement(NamedTuple):
    """Another grid of `pixels` voxels along one axis of a case; its index is first + step * index of the case."""

    pixels: int
    step: float
    first: float


Placements = tuple[Placement, Placement, Placement]
"""Along Z, H, W."""


def placements(case: Stack, other: Stack) -> Placements | None:
    """Returns where the grid of `other` lies on the axes of `case`; None if it is the same grid.

    Both run along the same directions (`regrid.aligned`).
    """
    if case.data.shape[:3] == other.data.shape[:3] and np.array_equal(case.to_ras, other.to_ras):
        return None
    ours, theirs = case.spacing_mm, other.spacing_mm
    apart_mm = case.to_ras[:3, :3].T @ (case.to_ras[:3, 3] - other.to_ras[:3, 3]) / ours
    z, h, w = (
        Placement(n, one / two, float(mm) / two)
        for n, one, two, mm in zip(other.data.shape[:3], ours, theirs, apart_mm, strict=True)
    )
    return z, h, w


def onto(axis: Axis, *, cubic: bool, factor: int = 1, placed: Placement | None = None) -> sparse.csr_array:
    """Interpolation weights `[size * factor, pixels]` to the network's grid; fields of view have the same centre.

    Args:
      cubic: interpolation is cubic, not linear.
      factor: the target is this many times finer than the network's grid.
      placed: the source, if it is another grid than the case's own.
    """
    positions, step = centres(axis, factor), axis.scale / factor
    if placed is None:
        return resample.matrix(positions, axis.pixels, step, cubic=cubic)
    positions = np.round(placed.first + placed.step * positions, SAME_PLACE)
    return resample.matrix(positions, placed.pixels, _same(step * placed.step), cubic=cubic)


def back(axis: Axis, *, factor: int = 1, placed: Placement | None = None) -> sparse.csr_array:
    """Linear interpolation weights `[pixels, size * factor]` from the network's grid to the case.

    Args:
      factor: the source is this many times finer than the network's grid.
      placed: the target, if it is another grid than the case's own.
    """
    native = np.arange(axis.pixels if placed is None else placed.pixels).astype(np.float64)
    scale = axis.scale
    if placed is not None:
        native, scale = (native - placed.first) / placed.step, axis.scale * placed.step
    positions = (native - (axis.pixels - 1) / 2) / axis.scale + (axis.resampled - 1) / 2 - axis.start
    if factor != 1:
        positions, scale = (positions + 0.5) * factor - 0.5, scale / factor
    if placed is not None or factor != 1:
        positions, scale = np.round(positions, SAME_PLACE), _same(scale)
    return resample.matrix(positions, axis.size * factor, 1 / scale, cubic=False)


def between(size: int, factor: int, wanted: int) -> sparse.csr_array:
    """Linear interpolation weights `[size * wanted, size * factor]` between two grids finer than one of `size`."""
    positions = (np.arange(size * wanted) + 0.5) / wanted * factor - 0.5
    return resample.matrix(np.clip(positions, -0.5, size * factor - 0.5), size * factor, factor / wanted, cubic=False)


def between_stacks(source: Stack, target: Stack) -> np.ndarray:
    """Returns the data `[Z, H, W]` of `source` on the grid of `target`, interpolated linearly; 0 outside."""
    wanted = zip(target.data.shape[:3], placements(target, source) or (None,) * 3, strict=True)
    whole = [onto(Axis(n, n, 1.0, 0, n), cubic=False, placed=place) for n, place in wanted]
    return along(source.data.astype(np.float32)[..., None], whole)[..., 0]


def centres(axis: Axis, factor: int = 1) -> np.ndarray:
    """Positions `[size * factor]` of the network's voxels, or finer ones, as indices of the case's own grid."""
    kept = (np.arange(axis.size * factor) + 0.5) / factor - 0.5 + axis.start - (axis.resampled - 1) / 2
    return kept * axis.scale + (axis.pixels - 1) / 2


def along(array: np.ndarray, weights: Sequence[sparse.csr_array]) -> np.ndarray:
    """Applies the weights of Z, H, W to float32 `[Z, H, W, C]`."""
    depth, height, width = weights
    return resample.along_first(resample.planes(array, height, width), depth)


def covered(weights: Sequence[sparse.csr_array]) -> np.ndarray:
    """Bool `[Z, H, W]`: the voxels that lie inside the source of these weights."""
    z, h, w = (matrix.sum(axis=1) > 0 for matrix in weights)
    return z[:, None, None] & h[None, :, None] & w[None, None, :]


def _same(scale: float) -> float:
    return 1.0 if abs(scale - 1) < SAME_SPACING else scale
