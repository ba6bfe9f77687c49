"""Geometry that a file tells twice: its statements are compared; one that contradicts another is never used.

| a file tells | statements compared | if they differ |
|---|---|---|
| two affines (NIfTI: sform and qform with codes above 0) | place of every corner of the grid | refused, both named |
| voxel sizes beside an affine (pixdim, `spacings`) | lengths of columns; 0 and NaN tell nothing | refused, both named |
| units (xyzt_units, `space units`) | voxel edges within `volume.VOXEL_MM` | refused, with the units |
| number of axes and of voxels | header and length of the file (`volume.voxels`) | refused |
| voxel sizes, no directions | nothing to compare: `Volume.placed` is False | used, noted |
| the identity: 1 mm in all directions, origin 0 | nothing to compare: often what a lost geometry leaves | used, noted |
| one slice without thickness | nothing to compare: 1 mm is assumed | used, noted |

An axis of length 1 has no distance between slices: its size is neither compared nor refused.
Rounding is below the tolerances: float32 numbers, and quaternions near half turns, whose angle is good to 1e-3.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cardiac_jax.data.io import volume
from cardiac_jax.errors import InputError

CORNER_TOLERANCE = 0.25  # voxels
TURN_TOLERANCE = 1e-3  # of the diagonal
SPACING_TOLERANCE = 1e-3  # relative
UNIT_MM = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "um": 0.001}

Shape = tuple[int, ...]


def checked(affines: Mapping[str, np.ndarray], sizes: Mapping[str, np.ndarray], shape: Shape, path: Path) -> np.ndarray:
    """Returns the first affine `[4, 4]`, in mm, after comparing it with all that the file tells beside it.

    Args:
      affines: name of the statement -> voxel index -> RAS mm; at least one.
      sizes: name of the statement -> voxel edges along X, Y, Z in mm; 0 and not finite: not told.
      shape: of the voxels, `(X, Y, Z, ...)`.

    Raises:
      InputError: an affine is not valid, or two statements differ.
    """
    valid = {name: volume.checked_affine(with_thickness(a, shape)[0], path) for name, a in affines.items()}
    (first, affine), *others = valid.items()
    long = np.array(shape[:3]) > 1
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    for name, told in sizes.items():
        compared = long & np.isfinite(told) & (told > 0)
        if not np.allclose(told[compared], edges[compared], rtol=SPACING_TOLERANCE, atol=0):
            raise InputError(path, f"tells two voxel sizes: {_mm(told)} by {name}, {_mm(edges)} by {first}")
    limit_mm = CORNER_TOLERANCE * edges[long].min(initial=edges.max())
    limit_mm += TURN_TOLERANCE * float(np.linalg.norm((np.array(shape[:3]) - 1) * edges))
    for name, other in others:
        apart_mm = corner_distance_mm(affine, other, shape)
        if apart_mm > limit_mm:
            raise InputError(
                path,
                f"tells two places: {first} and {name} put a corner {apart_mm:.3g} mm apart; keep the true one "
                f"(code of the other 0)",
            )
    return affine


def corner_distance_mm(one: np.ndarray, other: np.ndarray, shape: Shape) -> float:
    """Returns the largest distance between the places that two affines give to a corner of the grid."""
    corners = np.stack([*np.meshgrid(*((0, n - 1) for n in shape[:3]), indexing="ij"), np.ones((2, 2, 2))])
    return float(np.linalg.norm(((other - one) @ corners.reshape(4, 8))[:3], axis=0).max())


def with_thickness(affine: np.ndarray, shape: Shape) -> tuple[np.ndarray, bool]:
    """Returns `affine`, and whether an axis of length 1 had no usable size and was given 1 mm along the normal."""
    affine = np.array(affine, np.float64)
    with np.errstate(all="ignore"):
        edges = np.linalg.norm(affine[:3, :3], axis=0)
        missing = [i for i in range(3) if shape[i] == 1 and not volume.VOXEL_MM[0] <= edges[i] <= volume.VOXEL_MM[1]]
        if len(missing) != 1 or not np.isfinite(np.delete(affine[:3], missing, axis=1)).all():
            return affine, False
        i = missing[0]
        normal = np.cross(affine[:3, (i + 1) % 3], affine[:3, (i + 2) % 3])
        length = np.linalg.norm(normal)
        if not 0 < length < np.inf:
            return affine, False
    affine[:3, i] = normal / length
    return affine, True


def notes(affine: np.ndarray, *, directions: str = "", assumed: bool = False) -> tuple[str, ...]:
    """What a file that is used does not tell, one clause each.

    Args:
      affine: voxel index -> RAS mm.
      directions: why there are no position and directions; "": there are.
      assumed: whether the slice thickness is.
    """
    found = []
    if directions:
        found.append(f"tells voxel sizes but neither position nor directions ({directions}): apex and base are unknown")
    elif np.array_equal(np.abs(affine), np.eye(4)):
        found.append("tells 1 x 1 x 1 mm at the origin, the identity: if its geometry was lost, mm and ml are wrong")
    if assumed:
        found.append("tells no slice thickness: 1 mm is assumed, on which its volumes depend")
    return tuple(found)


def _mm(edges: np.ndarray) -> str:
    return " x ".join(f"{edge:.5g}" for edge in edges) + " mm"
