"""Reading and encoding of image files, with the format chosen by suffix.

A folder is read as DICOM, and so is a file without a known suffix that starts as DICOM.
"""

from pathlib import Path
from typing import Any

import numpy as np

from cardiac_jax import notes
from cardiac_jax.data.io import dicom, frames, metaimage, nifti, nrrd, volume
from cardiac_jax.data.io.volume import METAIMAGE, NIFTI, NRRD, SUFFIXES, Volume
from cardiac_jax.errors import InputError

_READERS = {NIFTI: nifti.read, NRRD: nrrd.read, METAIMAGE: metaimage.read}
_HEADERS = {NIFTI: nifti.header_for, NRRD: nrrd.header_for, METAIMAGE: metaimage.header_for}


def format_of(path: Path) -> str:
    """Return the format of a file name: "NIfTI", "NRRD" or "MetaImage".

    Raises:
      InputError: the suffix is unknown.
    """
    known = volume.suffix(path)
    if known is None:
        raise InputError(path, f"has no known image suffix ({', '.join(SUFFIXES)})")
    return SUFFIXES[known]


def read(path: Path, part: str = "") -> Volume:
    """Read an image file, or a folder of DICOM, as one 3D volume `[X, Y, Z]`; says its notes.

    Args:
      part: which of several images (`Record.part`): "frame03" is the third frame of a 4D file; see also `dicom.read`.

    Raises:
      InputError: the file cannot be read, there is no such part, or the file is 4D and no part is named.
    """
    if path.is_dir() or (volume.suffix(path) is None and dicom.claims(path)):
        return dicom.read(path, part)
    result = _READERS[format_of(path)](path)
    if part:
        result = frames.frame(result, part, path)
    if result.data.ndim != 3:
        shown = " x ".join(map(str, result.data.shape))
        raise InputError(path, f"is 4D ({shown}){volume.meaning_of_4d(result.data)}, expected one 3D volume")
    for note in result.notes:
        notes.say(path, note)
    return result


def parts(path: Path) -> list[Path]:
    """Return the files of an image in the order to write them: one, of a header (.mhd) also that of its voxels, first.

    Raises:
      InputError: a header cannot be read.
    """
    voxels = metaimage.detached(path) if volume.suffix(path) == volume.HEADER else None
    return [path] if voxels is None else [voxels, path]


def contents(path: Path, data: np.ndarray, affine: np.ndarray, source: Path | None = None) -> dict[Path, bytes]:
    """Return file -> bytes of `data` `[X, Y, Z]`, in the order to write them; arguments and errors as `encode`.

    An image has one file, except that a header (.mhd) comes after its voxels (.raw).
    """
    if volume.suffix(path) != volume.HEADER:
        return {path: encode(path, data, affine, source)}
    voxels = path.with_suffix(volume.DETACHED[0])
    header, body = metaimage.encode_pair(data, _header(path, data, affine, source), voxels.name)
    return {voxels: body, path: header}


def encode(path: Path, data: np.ndarray, affine: np.ndarray, source: Path | None = None) -> bytes:
    """Return the bytes of `data` `[X, Y, Z]` in one file, in the format of the suffix of `path`.

    Args:
      affine: `[4, 4]` voxel index -> RAS mm.
      source: an image file whose header is copied if it exists and has the same format; of a 4D file, that of a frame.

    Raises:
      InputError: the suffix is unknown, or `source` cannot be read or has another grid.
      ValueError: the image takes two files (`contents`).
    """
    if volume.suffix(path) == volume.HEADER:
        raise ValueError(f"{path.name} takes two files")
    wanted, header = format_of(path), _header(path, data, affine, source)
    if wanted == NIFTI:
        return nifti.encode(data, header, compress=path.name.lower().endswith(".gz"))
    return nrrd.encode(data, header) if wanted == NRRD else metaimage.encode(data, header)


def _header(path: Path, data: np.ndarray, affine: np.ndarray, source: Path | None) -> Any:
    wanted = format_of(path)
    header: Any = _HEADERS[wanted](affine)
    if source is not None and source.is_file() and SUFFIXES.get(volume.suffix(source) or "") == wanted:
        original = _READERS[wanted](source)
        if original.data.shape[:3] != data.shape[:3] or not np.allclose(original.affine, affine, atol=1e-3):
            raise InputError(source, "has another grid than when it was loaded")
        header = original.header if wanted == NIFTI or original.data.ndim == 3 else header
    return header
