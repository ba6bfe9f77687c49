"""An image volume with its geometry (`Volume`), and the checks shared by all file formats."""

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from cardiac_jax.errors import InputError

MAX_VOXELS = 2**29  # 2 GiB as float32, far above any cardiac series
MAX_BYTES = 2**32  # of voxels, whatever their type
CHUNK = 2**24  # bytes read at a time, so that memory follows the file and not what its header declares
MAX_HEADER = 2**24  # bytes before the first voxel (extensions, DICOM dumps)
MAX_TRAILING = 2**16  # bytes after the last voxel that are ignored, if they are fewer than a slice
ORTHONORMAL_TOLERANCE = 1e-3
VOXEL_MM = (0.01, 100.0)  # smallest and largest plausible voxel edge
FARTHEST_MM = 1e6  # of the first voxel from the origin
NIFTI, NRRD, METAIMAGE = "NIfTI", "NRRD", "MetaImage"
HEADER = ".mhd"  # its voxels are in a file beside it
DETACHED = (".raw", ".zraw")  # such files, of the same name
SUFFIXES = {
    ".nii.gz": NIFTI, ".nii": NIFTI, ".seg.nrrd": NRRD, ".nrrd": NRRD, ".mha": METAIMAGE, HEADER: METAIMAGE,
}  # fmt: skip


class Volume(NamedTuple):
    """Voxels of an image file and their geometry.

    Attributes:
      data: `[X, Y, Z]` or `[X, Y, Z, T]` in the axis order of the file, scaled by the header's slope and intercept.
      affine: `[4, 4]` float64, voxel index -> RAS mm.
      header: header fields for writing another image on the same grid; its type depends on the format.
      notes: what the file does not tell although it is used, one clause each (see `geometry.py`).
      placed: whether the file tells position and directions; False: voxel sizes alone.
      cropped: whether the file may hold less than its image, background outside (segmentations of 3D Slicer).
    """

    data: np.ndarray
    affine: np.ndarray
    header: Any
    notes: tuple[str, ...] = ()
    placed: bool = True
    cropped: bool = False

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along X, Y, Z, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def suffix(path: Path) -> str | None:
    """Return the image suffix of a file name (".nii.gz", ".nrrd", ...), or None if it is unknown."""
    return next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)


def open_checked(path: Path, *, gunzip: bool = True) -> BinaryIO | gzip.GzipFile:
    """Open a file for reading, through gzip if its content is gzip and `gunzip`.

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
    if gunzip and stream.read(2) == b"\x1f\x8b":
        stream.close()
        return gzip.open(path, "rb")
    stream.seek(0)
    return stream


def take(stream: BinaryIO | gzip.GzipFile, count: int, path: Path) -> bytes:
    """Return the next `count` bytes; fewer only at the end of the file.

    Raises:
      InputError: the file cannot be read, or its gzip stream is truncated or damaged.
    """
    return _guarded(stream.read, count, path)


def take_line(stream: BinaryIO | gzip.GzipFile, most: int, path: Path) -> bytes:
    """Return the next line with its end, at most `most` bytes of it; raises as `take`."""
    return _guarded(stream.readline, most, path)


def _guarded(read: Callable[[int], bytes], count: int, path: Path) -> bytes:
    try:
        return read(count)
    except EOFError as error:
        raise InputError(path, "is truncated (the gzip stream ends early)") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(path, f"has a damaged gzip stream ({error})") from error
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error


def voxels(stream: BinaryIO | gzip.GzipFile, shape: tuple[int, ...], dtype: np.dtype, path: Path) -> np.ndarray:
    """Read a read-only array of `shape`, first axis fastest, and no more bytes than the header declares.

    Raises:
      InputError: the file is truncated, holds a further slice or more than `MAX_TRAILING` further bytes, or the voxels
        take more than `MAX_BYTES`.
    """
    declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if declared > MAX_BYTES:
        raise InputError(path, f"declares {declared} bytes of voxels, over the limit of {MAX_BYTES}")
    body = bytearray()
    while len(body) < declared and (part := take(stream, min(declared - len(body), CHUNK), path)):
        body += part
    if len(body) < declared:
        raise InputError(
            path, f"is truncated: the header declares {declared} bytes of voxels, the file holds {len(body)}"
        )
    further = len(take(stream, MAX_TRAILING + 1, path))
    if further > MAX_TRAILING:
        raise InputError(path, f"holds far more than the {declared} bytes of voxels declared by its header")
    if further >= dtype.itemsize * int(np.prod(shape[:2], dtype=object)):
        raise InputError(path, f"holds {further} bytes, a slice or more, after the {declared} declared by its header")
    data = np.frombuffer(body, dtype).reshape(shape, order="F")
    data.flags.writeable = False
    return data


def meaning_of_4d(data: np.ndarray) -> str:
    """Return what `[X, Y, Z, T]` evidently is, as part of a message: class maps that add up to 1; "" if unknown."""
    few = data[:: max(1, data.shape[0] // 16), :: max(1, data.shape[1] // 16)].astype(np.float64)
    if not np.isfinite(few).all() or few.min() < 0 or np.abs(few.sum(axis=-1) - 1).max() > 1e-3:
        return ""
    return f": {'one-hot maps' if set(np.unique(few)) <= {0, 1} else 'probabilities'} of {data.shape[-1]} classes"


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
      InputError: it is not finite, its spacing lies outside `VOXEL_MM`, it begins beyond `FARTHEST_MM`, or its
        directions are not orthonormal.
    """
    affine = np.asarray(affine, np.float64)
    if not np.isfinite(affine).all():
        raise InputError(path, "has an affine that is not finite")
    with np.errstate(over="ignore"):
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < VOXEL_MM[0] or spacing.max() > VOXEL_MM[1]:
        raise InputError(path, f"has an invalid voxel spacing ({', '.join(f'{s:.4g}' for s in spacing)} mm)")
    if np.abs(affine[:3, 3]).max() > FARTHEST_MM:
        raise InputError(path, f"has an invalid position ({', '.join(f'{x:.4g}' for x in affine[:3, 3])} mm)")
    direction = affine[:3, :3] / spacing
    error = float(np.abs(direction.T @ direction - np.eye(3)).max())
    if error > ORTHONORMAL_TOLERANCE:
        raise InputError(path, f"has directions that are not orthonormal (off by {error:.2g})")
    return affine
