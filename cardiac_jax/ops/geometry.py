"""Coordinates: affine matrices, smooth displacement fields from control points, exact quarter turns and flips.

All coordinates are in voxels, in the order of the array's axes (row, column; or slice, row, column).
A matrix maps *output* coordinates to *source* coordinates, about the centre of the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np

from cardiac_jax.errors import InputError

# Coordinates reach hundreds of voxels; the 11 bits of TF32 would shift them by tenths of a voxel.
_EXACT = jax.lax.Precision.HIGHEST


def affine_matrix(angle_rad: jax.Array, scale: jax.Array, shear: jax.Array) -> jax.Array:
    """Rotation x shear x scaling as one [n, n] matrix.

    `angle_rad` [n (n-1) / 2] rotates the planes (0,1), (0,2), (1,2) in this order. `shear` has the same shape and
    fills the upper triangle. `scale` is [n]. Every matrix near the identity has this form (QR).
    """
    n = scale.shape[0]
    upper = jnp.eye(n, dtype=scale.dtype).at[np.triu_indices(n, 1)].set(shear) * scale[None, :]
    for k, (i, j) in reversed(list(enumerate(combinations(range(n), 2)))):
        cos, sin = jnp.cos(angle_rad[k]), jnp.sin(angle_rad[k])
        rows = [upper[row] for row in range(n)]
        rows[i], rows[j] = cos * upper[i] - sin * upper[j], sin * upper[i] + cos * upper[j]
        upper = jnp.stack(rows)
    return upper


def quarter_turn_matrix(turns: jax.Array) -> jax.Array:
    """Exact [2, 2] matrix of `turns` (scalar int) quarter turns, in the direction of `quarter_turns`."""
    cos = jnp.array([1.0, 0.0, -1.0, 0.0])[turns % 4]
    sin = jnp.array([0.0, 1.0, 0.0, -1.0])[turns % 4]
    return jnp.stack([jnp.stack([cos, sin]), jnp.stack([-sin, cos])])


def coordinates(
    matrix: jax.Array,
    shift: jax.Array,
    size: Sequence[int],
    control: jax.Array | None = None,
    kind: str = "cubic",
    scale: Sequence[int] = (),
) -> jax.Array:
    """Source coordinates [n, *size] of an affine map plus a displacement field.

    With `scale`, those of the same map on a grid `scale` times finer that covers the same box: [n, *(size * scale)], in
    voxels of the finer grid, whose index q is index (q - (scale - 1) / 2) / scale of the grid of `size`.

    The computation is one small matrix product per axis: the basis of each axis gets two more columns, the voxel's
    position and 1.

    Args:
      matrix: [n, n], about the centre of the grid.
      shift: [n], in voxels.
      size: of the output grid.
      control: [n, *G], displacements in voxels at the control points of `spline_basis(..., kind)`; None for no field.
      kind: "linear" or "cubic".
      scale: voxels of the finer grid per voxel along each axis; (): 1.

    Raises:
      InputError: unknown kind, or too few control points.
    """
    n = len(size)
    scale = tuple(scale) or (1,) * n
    grid = control.shape[1:] if control is not None else (0,) * n
    # terms[j] selects the position along axis j and 1 along the other axes; terms[n] selects 1 along every axis.
    terms = np.zeros((n + 1, *[g + 2 for g in grid]), np.float32)
    for j in range(n + 1):
        terms[(j, *[g + (axis != j) for axis, g in enumerate(grid)])] = 1.0
    centre = jnp.asarray([(s - 1) / 2 for s in size], matrix.dtype)
    table = jnp.tensordot(jnp.concatenate([matrix, (shift + centre)[:, None]], 1), terms, 1, precision=_EXACT)
    if control is not None:
        table = table + jnp.pad(control, [(0, 0)] + [(0, 2)] * n)
    bases = []
    for s, g, f in zip(size, grid, scale, strict=True):
        line = np.stack([(np.arange(s * f) - (s * f - 1) / 2) / f, np.ones(s * f)], 1)
        bases.append(np.concatenate([spline_basis(s, g, kind, f), line], 1) if g else line)
    coords = _spread(table, bases)
    if any(f != 1 for f in scale):
        factor = jnp.asarray(scale, coords.dtype).reshape(n, *(1,) * n)
        coords = coords * factor + (factor - 1) / 2
    return coords


def spline_basis(size: int, points: int, kind: str = "cubic", scale: int = 1) -> np.ndarray:
    """Interpolation matrix [size, points] from `points` control values to `size` voxels; each row sums to one.

    With `scale`, [size * scale, points], to the voxels of a finer grid that covers the same box; those beyond the
    outermost voxels of the coarser grid have the displacement of these.

    "linear": the first and last control points lie on the first and last voxel. "cubic": uniform cubic B-spline whose
    first and last control points lie one knot outside the image; unit white noise at the control points gives a field
    of SD about 0.7 per axis.

    Raises:
      InputError: unknown kind, or too few control points.
    """
    degree = {"linear": 1, "cubic": 3}.get(kind)
    if degree is None:
        raise InputError("kind", f"{kind!r} is neither 'linear' nor 'cubic'")
    spans = points - degree
    if spans < 1:
        raise InputError("points", f"a {kind} grid needs at least {degree + 1} control points, not {points}")
    t = np.linspace(0.0, spans, size) if size > 1 else np.array([spans / 2])
    if scale > 1:
        finer = (np.arange(size * scale) - (scale - 1) / 2) / scale
        t = np.interp(finer, np.arange(size), t)
    first = np.minimum(t.astype(int), spans - 1)
    u = t - first
    if degree == 1:
        weights = [1 - u, u]
    else:
        weights = [
            (1 - u) ** 3 / 6,
            (3 * u**3 - 6 * u**2 + 4) / 6,
            (-3 * u**3 + 3 * u**2 + 3 * u + 1) / 6,
            u**3 / 6,
        ]
    basis = np.zeros((size * scale, points), np.float32)
    for k, weight in enumerate(weights):
        basis[np.arange(size * scale), first + k] = weight
    return basis


def upsample(control: jax.Array, size: Sequence[int], kind: str = "cubic") -> jax.Array:
    """Control values [D, *G] interpolated at the voxels: [D, *size], one small matrix product per axis.

    Raises:
      InputError: unknown kind, or too few control points.
    """
    return _spread(control, [spline_basis(s, g, kind) for s, g in zip(size, control.shape[1:], strict=True)])


def quarter_turns(x: jax.Array, turns: int, axes: tuple[int, int] = (-3, -2)) -> jax.Array:
    """`x` rotated by `turns` x 90 degrees in the plane `axes`: images [*S, H, W, C]; label maps with axes (-2, -1)."""
    return jnp.rot90(x, turns, axes)


def _spread(table: jax.Array, bases: Sequence[np.ndarray]) -> jax.Array:
    """`table` [D, *G] times one matrix [size, G] per axis: [D, *size]; each product moves its axis to the end."""
    for basis in bases:
        table = jnp.tensordot(table, jnp.asarray(basis, table.dtype), ((1,), (1,)), precision=_EXACT)
    return table
