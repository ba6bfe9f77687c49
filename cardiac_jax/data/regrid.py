"""Whether two volumes lie on one grid, and the way from one storage of it to the other, without interpolation.

Programs store one grid with flipped or permuted axes (RAS or LPS, slices first or last), and 3D Slicer stores the box
around the segments. Such a volume is brought to the axes of the other; any other difference is refused. A volume of a
finer grid of its own must have axes along those of the other (`aligned`).
"""

from itertools import product
from pathlib import Path

import numpy as np

from cardiac_jax import notes
from cardiac_jax.data.io.geometry import corner_distance_mm
from cardiac_jax.data.io.volume import Volume
from cardiac_jax.data.orientation import Orientation, to_canonical
from cardiac_jax.data.stack import Stack
from cardiac_jax.errors import InputError

SPACING_TOLERANCE = 1e-3  # relative
CORNER_TOLERANCE = 0.1  # displacement of any corner of the grid, in units of the smallest voxel edge
LEAST_SHARED = 0.5  # share of the shorter of two extents that finer and coarser grid have in common, along each axis


def on_grid(path: Path, one: Volume, other: Volume, name: str) -> Volume:
    """Returns `one`, read from `path`, on the grid of `other` and in its axis order.

    Axes of length 1 have no spacing of their own. Where both files tell voxel sizes only, shape and spacing decide.
    What `Volume.cropped` leaves out is filled with 0, and a note says so.

    Args:
      name: what messages call `other`.

    Raises:
      InputError: shape, spacing or position differ; or one of the files tells no position.
    """
    for axes, signs in _storages(one, other):
        found = _stored(one, axes, signs)
        if found.data.shape == other.data.shape and _fits(found, other):
            return other._replace(data=found.data, notes=one.notes)
        if one.cropped and one.placed and other.placed and (padded := _padded(path, found, other, name)) is not None:
            return padded
    shapes = _by(one.data.shape), _by(other.data.shape)
    if sorted(one.data.shape) != sorted(other.data.shape):
        raise InputError(path, f"has shape {shapes[0]}, {name} has {shapes[1]}")
    if one.placed != other.placed:
        placed, unplaced = ("it", name) if one.placed else (name, "it")
        raise InputError(path, f"lies on an unknown grid: {unplaced} tells no position, {placed} does")
    if not one.placed and _alike(one, other):
        return other._replace(data=one.data, notes=one.notes)
    if one.data.shape != other.data.shape:
        raise InputError(path, f"has shape {shapes[0]}, {name} has {shapes[1]}")
    if not _alike(one, other):
        raise InputError(path, f"has spacing {_mm(one.spacing_mm)}, {name} has {_mm(other.spacing_mm)}")
    apart_mm = corner_distance_mm(one.affine, other.affine, one.data.shape)
    raise InputError(path, f"lies elsewhere than {name}: affines put a corner {apart_mm:.3g} mm apart")


def aligned(path: Path, one: Volume, like: Stack, name: str) -> Stack:
    """Returns `one`, read from `path`, on its own grid in the canonical frame of `like`.

    The axes of both run along the same lines, in any order and direction; voxel sizes and extents may differ.

    Args:
      name: what messages call `like`.

    Raises:
      InputError: the axes are turned against each other, less than `LEAST_SHARED` of the extents is shared, or the file
        tells no position.
    """
    if not one.placed:
        raise InputError(path, f"lies on an unknown grid: it tells no position, which a finer grid than {name} needs")
    directions = like.to_ras[:3, :3] / like.spacing_mm
    own = one.affine[:3, :3] / one.spacing_mm
    cosines = directions.T @ own
    z, h, w = (int(i) for i in np.abs(cosines).argmax(axis=1))
    if sorted((z, h, w)) != [0, 1, 2]:
        raise InputError(path, _turned(cosines, name))
    flip_z, flip_h, flip_w = (bool(cosines[k, i] < 0) for k, i in enumerate((z, h, w)))
    frame = Orientation((z, h, w), (flip_z, flip_h, flip_w), like.frame.apex_known)
    stack = Stack(np.ascontiguousarray(to_canonical(one.data, frame)), frame, one.affine)
    steps, shape = stack.to_ras[:3, :3], np.array(stack.data.shape[:3])
    off_mm = (steps - directions * stack.spacing_mm) * ((shape - 1) / 2)
    corners_mm = [np.linalg.norm(off_mm @ signs) for signs in product((-1, 1), repeat=3)]
    if max(corners_mm) > CORNER_TOLERANCE * min(stack.spacing_mm):
        raise InputError(path, _turned(cosines, name))
    ours, theirs = (_extent_mm(held, directions) for held in (stack, like))
    shared = np.minimum(ours[1], theirs[1]) - np.maximum(ours[0], theirs[0])
    least = (shared / np.minimum(ours[1] - ours[0], theirs[1] - theirs[0])).min()
    if least < LEAST_SHARED:
        raise InputError(path, f"shows other anatomy than {name}: they share {max(least, 0):.0%} of their extent")
    return stack


def _turned(cosines: np.ndarray, name: str) -> str:
    turn_deg = np.degrees(np.arccos(np.clip(np.abs(cosines).max(axis=1).min(), 0, 1)))
    return f"is turned by {turn_deg:.2g} degrees against {name}: a finer grid must have axes along those of the image"


def _extent_mm(stack: Stack, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper faces of the grid's box along `directions [3, 3]` (columns), in mm."""
    first = directions.T @ stack.to_ras[:3, 3]
    spacing = np.array(stack.spacing_mm)
    return first - spacing / 2, first + spacing * (np.array(stack.data.shape[:3]) - 0.5)


def _storages(one: Volume, other: Volume) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """As stored, then (if it differs) the axes of `one`, and their signs, that run most along those of `other`."""
    as_stored = ((0, 1, 2), (1, 1, 1))
    cosines = (one.affine[:3, :3] / one.spacing_mm).T @ (other.affine[:3, :3] / other.spacing_mm)
    axes = tuple(int(i) for i in np.abs(cosines).argmax(axis=0))
    signs = tuple(-1 if cosines[i, k] < 0 and one.data.shape[i] > 1 else 1 for k, i in enumerate(axes))
    usable = sorted(axes) == [0, 1, 2] and one.placed and other.placed and (axes, signs) != as_stored
    return [as_stored, (axes, signs)] if usable else [as_stored]


def _stored(one: Volume, axes: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """`one` with its axes in the order `axes`, those of sign -1 flipped, and the affine of this storage."""
    back = np.zeros((4, 4))
    back[3, 3] = 1
    for k, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        back[axis, k], back[axis, 3] = sign, 0 if sign > 0 else one.data.shape[axis] - 1
    data = np.flip(one.data.transpose(axes), tuple(k for k in range(3) if signs[k] < 0))
    return one._replace(data=data, affine=one.affine @ back)


def _alike(one: Volume, other: Volume) -> bool:
    """Whether shape and spacing agree, the latter along axes longer than 1."""
    long = np.array(one.data.shape) > 1
    spacings = [np.array(volume.spacing_mm)[long] for volume in (one, other)]
    return one.data.shape == other.data.shape and np.allclose(*spacings, rtol=SPACING_TOLERANCE, atol=0)


def _fits(one: Volume, other: Volume) -> bool:
    """Whether volumes of one shape agree in spacing and position."""
    edges = np.array(one.spacing_mm)[np.array(one.data.shape) > 1]
    limit_mm = CORNER_TOLERANCE * edges.min(initial=max(one.spacing_mm))
    return _alike(one, other) and corner_distance_mm(one.affine, other.affine, one.data.shape) <= limit_mm


def _padded(path: Path, one: Volume, other: Volume, name: str) -> Volume | None:
    """`one` within the grid of `other`, 0 outside; None if it does not lie on its lattice."""
    first = np.linalg.solve(other.affine, one.affine[:, 3])[:3]
    start = np.rint(first).astype(int)
    at = np.eye(4)
    at[:3, 3] = start
    if not _fits(one, Volume(np.broadcast_to(0, one.data.shape), other.affine @ at, None)):
        return None
    stop = start + one.data.shape
    low, high = np.maximum(start, 0), np.minimum(stop, other.data.shape)
    inside = one.data[tuple(slice(a, max(a, b)) for a, b in zip(low - start, high - start, strict=True))]
    if np.count_nonzero(inside) < np.count_nonzero(one.data):
        raise InputError(path, f"has segments outside {name}, which has {_by(other.data.shape)} voxels")
    data = np.zeros(other.data.shape, one.data.dtype)
    data[tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))] = inside
    note = f"holds {_by(one.data.shape)} voxels of the {_by(other.data.shape)} of {name}: the rest is background"
    notes.say(path, note)
    return other._replace(data=data, notes=(*one.notes, note))


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _mm(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{s:.4g}" for s in spacing) + " mm"
