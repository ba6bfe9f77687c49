"""Reader and encoder of single-file NIfTI-1 and NIfTI-2, plain or gzip.

The reader never decompresses more than the header declares. The encoder writes a copy of a given header.
"""

import gzip
import io
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from cardiac_jax.data.io import volume
from cardiac_jax.data.io.volume import Volume
from cardiac_jax.errors import InputError

_SIZES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}


def read(path: Path) -> Volume:
    """Read `[X, Y, Z]` or `[X, Y, Z, T]`, scaled by the header's slope and intercept; the affine is in RAS mm.

    Raises:
      InputError: the file is not a single NIfTI file, is damaged or truncated, or has an invalid header.
    """
    with volume.open_checked(path) as stream:
        header = _header(volume.take(stream, 348, path), stream, path)
        try:
            dims = tuple(int(d) for d in header.get_data_shape())
            dtype = header.get_data_dtype()
            offset = float(header["vox_offset"])
            slope, inter = header.get_slope_inter()
            affine = header.get_best_affine()
        except (HeaderDataError, KeyError, ValueError, OverflowError) as error:
            raise InputError(path, f"has an invalid header ({error})") from error
        shape = volume.checked_shape(dims, path)
        if dtype.kind not in "iuf":
            raise InputError(path, f"holds voxels of type {dtype}, expected real numbers")
        start = int(header["sizeof_hdr"])
        if not start <= offset <= volume.MAX_HEADER:
            raise InputError(path, f"has an invalid header: voxels at byte {offset:g}")
        volume.take(stream, int(offset) - start, path)
        data = volume.voxels(stream, shape, dtype, path)
    if (slope, inter) not in ((None, None), (1.0, 0.0)):
        data = data.astype(np.float32) * np.float32(slope) + np.float32(inter)
    scale = volume.MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    affine = np.diag([scale, scale, scale, 1.0]) @ affine
    return Volume(data, volume.checked_affine(affine, path), header)


def encode(data: np.ndarray, header: nib.Nifti1Header, *, compress: bool) -> bytes:
    """Return the file bytes of `data` `[X, Y, Z]` with a copy of `header` (affine, codes, units).

    The slope is set to 1 and the intercept to 0.
    """
    header = header.as_byteswapped("<")
    header.set_data_shape(data.shape)
    header.set_data_dtype(data.dtype)
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["cal_min"], header["cal_max"] = 0.0, 0.0
    header["magic"] = header.single_magic
    header["vox_offset"] = start = int(header["sizeof_hdr"]) + 4
    body = data.astype(data.dtype.newbyteorder("<")).tobytes(order="F")
    out = header.binaryblock.ljust(start, b"\0") + body
    return gzip.compress(out, 6, mtime=0) if compress else out


def header_for(affine: np.ndarray) -> nib.Nifti1Header:
    """Return a new header for `affine` `[4, 4]` (RAS mm), with the code of scanner coordinates."""
    header = nib.Nifti1Header()
    header.set_data_shape((1, 1, 1))
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    header.set_xyzt_units("mm")
    return header


def _header(head: bytes, stream: BinaryIO | gzip.GzipFile, path: Path) -> nib.Nifti1Header:
    if len(head) < 348:
        raise InputError(path, "is truncated or not NIfTI (shorter than a header)")
    sizes = (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
    size = next((s for s in sizes if s in _SIZES), None)
    if size is None:
        raise InputError(path, "is not NIfTI")
    head += volume.take(stream, size - 348, path)
    magic = head[344:348] if size == 348 else head[4:8]
    if magic[:3] in (b"ni1", b"ni2"):
        raise InputError(path, "is the header of a .hdr/.img pair, expected a single .nii file")
    if magic[:3] not in (b"n+1", b"n+2"):
        raise InputError(path, "is not NIfTI (no magic string)")
    order = "little" if sizes[0] == size else "big"
    rank = int.from_bytes(head[40:42] if size == 348 else head[16:24], order, signed=True)
    if not 1 <= rank <= 7:
        raise InputError(path, f"has an invalid header: {rank} dimensions")
    try:
        return _SIZES[size].from_fileobj(io.BytesIO(head), check=False)
    except (HeaderDataError, ValueError) as error:
        raise InputError(path, f"has an invalid header ({error})") from error
