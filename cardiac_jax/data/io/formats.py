"""Reading and encoding of image files, with the format chosen by suffix; a folder is read as DICOM."""

from pathlib import Path
from typing import Any

import numpy as np

from cardiac_jax.data.io import dicom, metaimage, nifti, nrrd, volume
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


def read(path: Path) -> Volume:
    """Read an image file, or a folder as a DICOM series, as one 3D volume `[X, Y, Z]`.

    Raises:
      InputError: the file cannot be read or is 4D.
    """
    result = dicom.read(path) if path.is_dir() else _READERS[format_of(path)](path)
    if result.data.ndim != 3:
        raise InputError(path, f"is 4D ({' x '.join(map(str, result.data.shape))}), expected one 3D volume")
    return result


def encode(path: Path, data: np.ndarray, affine: np.ndarray, source: Path | None = None) -> bytes:
    """Return the file bytes of `data` `[X, Y, Z]` in the format of the suffix of `path`.

    Args:
      affine: `[4, 4]` voxel index -> RAS mm.
      source: an image file whose header is copied if it exists and has the same format.

    Raises:
      InputError: the suffix is unknown, or `source` cannot be read or has another grid.
    """
    wanted = format_of(path)
    header: Any = _HEADERS[wanted](affine)
    if source is not None and source.is_file() and format_of(source) == wanted:
        original = read(source)
        if original.data.shape != data.shape or not np.allclose(original.affine, affine, atol=1e-3):
            raise InputError(source, "has another grid than when it was loaded")
        header = original.header
    if wanted == NIFTI:
        return nifti.encode(data, header, compress=path.name.lower().endswith(".gz"))
    return nrrd.encode(data, header) if wanted == NRRD else metaimage.encode(data, header)
