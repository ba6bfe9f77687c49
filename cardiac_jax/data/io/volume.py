"""An image volume with its geometry (`Volume`), and the checks shared by all file formats."""

import gzip
import zlib
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from cardiac_jax.errors import InputError

MAX_VOXELS = 2**29  # 2 GiB as float32, far above any cardiac series
MAX_HEADER = 2**24  # bytes before the first voxel (extensions, DICOM dumps)
MAX_TRAILING = 2**16  # bytes allowed after the last voxel; they are ignored
ORTHONORMAL_TOLERANCE = 1e-3
NIFTI, NRRD, METAIMAGE = "NIfTI", "NRRD", "MetaImage"
SUFFIXES = {".nii.gz": NIFTI, ".nii": NIFTI, ".nrrd": NRRD, ".mha": METAIMAGE}
MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI spatial unit codes: metre, millimetre, micrometre


class Volume(NamedTuple):
    """Voxels of an image file and their geometry.

    Attributes:
      data: `[X, Y, Z]` or `[X, Y, Z, T]` in the axis order of the file, scaled by the header's slope and intercept.
      affine: `[4, 4]` float64, voxel index -> RAS mm.
      header: header fields for writing another image on the same grid; its type depends on the format.
    """

    data: np.ndarray
    affine: np.ndarray
    header: Any

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along X, Y, Z, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def suffix(path: Path) -> str | None:
    """Return the image suffix of a file name (".nii.gz", ".nrrd", ...), or None if it is unknown."""
    return next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)


def open_checked(path: Path) -> BinaryIO | gzip.GzipFile:
    """Open a file for reading, through gzip if its content is gzip.

    Raises:
      InputError: the file is missing, empty, not a regular file, or cannot be read.
    """
    if not path.exists():
        raise InputError(path, "no such file")
    if not path.is_file():
        raise InputError(path, "is not a file")
    if path.stat().st_size == 0:
        raise InputError(path, "is empty (zero bytes)")
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error
    if stream.read(2) == b"\x1f\x8b":
        stream.close()
        return gzip.open(path, "rb")
    stream.seek(0)
    return stream


def take(stream: BinaryIO | gzip.GzipFile, count: int, path: Path) -> bytes:
    """Return the next `count` bytes; fewer only at the end of the file.

    Raises:
      InputError: the file cannot be read, or its gzip stream is truncated or damaged.
    """
    try:
        return stream.read(count)
    except EOFError as error:
        raise InputError(path, "is truncated (the gzip stream ends early)") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(path, f"has a damaged gzip stream ({error})") from error
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error


def voxels(stream: BinaryIO | gzip.GzipFile, shape: tuple[int, ...], dtype: np.dtype, path: Path) -> np.ndarray:
    """Read a read-only array of `shape`, first axis fastest, and no more bytes than the header declares.

    Raises:
      InputError: the file is truncated, or has more than `MAX_TRAILING` further bytes.
    """
    declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
    body = take(stream, declared, path)
    if len(body) < declared:
        raise InputError(
            path, f"is truncated: the header declares {declared} bytes of voxels, the file holds {len(body)}"
        )
    if len(take(stream, MAX_TRAILING + 1, path)) > MAX_TRAILING:
        raise InputError(path, f"holds far more than the {declared} bytes of voxels declared by its header")
    return np.frombuffer(body, dtype).reshape(shape, order="F")


def checked_shape(dims: tuple[int, ...], path: Path) -> tuple[int, ...]:
    """Return the sizes of a header as `(X, Y, Z)` or `(X, Y, Z, T)`; trailing axes of size 1 are added or dropped.

    Raises:
      InputError: a size is missing or not positive, there are more than `MAX_VOXELS` voxels or more than 4 axes.
    """
    text = " x ".join(map(str, dims))
    if not dims or any(d < 0 for d in dims):
        raise InputError(path, f"has an invalid header: dimensions {text or 'missing'}")
    if any(d == 0 for d in dims):
        raise InputError(path, f"is an empty volume: dimensions {text}")
    if int(np.prod(dims, dtype=object)) > MAX_VOXELS:
        raise InputError(path, f"has an invalid header: {text} is over the limit of {MAX_VOXELS} voxels")
    while len(dims) > 3 and dims[-1] == 1:
        dims = dims[:-1]
    dims = dims + (1,) * (3 - len(dims))
    if len(dims) > 4:
        raise InputError(path, f"is {len(dims)}D ({text}), expected one 3D volume")
    return dims


def checked_affine(affine: np.ndarray, path: Path) -> np.ndarray:
    """Return `affine` `[4, 4]` as float64.

    Raises:
      InputError: it is not finite, its spacing lies outside 1e-4 to 1e4 mm, or its directions are not orthonormal.
    """
    affine = np.asarray(affine, np.float64)
    if not np.isfinite(affine).all():
        raise InputError(path, "has an affine that is not finite")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < 1e-4 or spacing.max() > 1e4:
        raise InputError(path, f"has an invalid voxel spacing ({', '.join(f'{s:.4g}' for s in spacing)} mm)")
    direction = affine[:3, :3] / spacing
    error = float(np.abs(direction.T @ direction - np.eye(3)).max())
    if error > ORTHONORMAL_TOLERANCE:
        raise InputError(path, f"has directions that are not orthonormal (off by {error:.2g})")
    return affine
