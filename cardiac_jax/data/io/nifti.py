"""Reader and encoder of single-file NIfTI-1 and NIfTI-2, plain or gzip.

The reader never decompresses more than the header declares. What a header tells of its geometry (sform, qform, pixdim,
units, shape) is compared in `geometry.py`; the sform is preferred to the qform where both have a code. The encoder
writes a copy of a given header.
"""

import gzip
import io
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from cardiac_jax.data.io import geometry, volume
from cardiac_jax.data.io.volume import Volume
from cardiac_jax.errors import InputError

_SIZES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_UNITS = {1: "m", 3: "um"}  # codes of xyzt_units; all others are read as mm


def read(path: Path) -> Volume:
    """Read `[X, Y, Z]` or `[X, Y, Z, T]`, scaled by the header's slope and intercept; the affine is in RAS mm.

    Raises:
      InputError: the file is not a single NIfTI file, is damaged or truncated, has an invalid header, or contradicts
        itself (`geometry.py`).
    """
    with volume.open_checked(path) as stream:
        header = _header(volume.take(stream, 348, path), stream, path)
        try:
            dims = tuple(int(d) for d in header.get_data_shape())
            dtype = header.get_data_dtype()
            offset = float(header["vox_offset"])
            slope, inter = header.get_slope_inter()
        except (HeaderDataError, KeyError, ValueError, OverflowError) as error:
            raise InputError(path, f"has an invalid header ({error})") from error
        shape = volume.checked_shape(dims, path)
        affine, notes, placed = _geometry(header, shape, path)
        if dtype.kind not in "iuf":
            raise InputError(path, f"holds voxels of type {dtype}, expected real numbers")
        start = int(header["sizeof_hdr"])
        if not start <= offset <= volume.MAX_HEADER:
            raise InputError(path, f"has an invalid header: voxels at byte {offset:g}")
        volume.take(stream, int(offset) - start, path)
        data = volume.voxels(stream, shape, dtype, path)
    if (slope, inter) not in ((None, None), (1.0, 0.0)):
        with np.errstate(all="ignore"):  # too large a number becomes infinite, which is refused where it matters
            data = data.astype(np.float32) * np.float32(slope) + np.float32(inter)
    return Volume(data, affine, header, notes, placed)


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


def _geometry(header: nib.Nifti1Header, shape: tuple[int, ...], path: Path) -> tuple[np.ndarray, tuple[str, ...], bool]:
    """Affine in mm, notes, and whether a code is above 0."""
    unit = _UNITS.get(int(header["xyzt_units"]) & 7, "mm")
    scale = np.diag([*(geometry.UNIT_MM[unit],) * 3, 1.0])
    told = header.copy()
    told["pixdim"][0] = -1 if told["pixdim"][0] == -1 else 1  # as the standard says
    told["pixdim"][1:4] = np.abs(told["pixdim"][1:4])
    affines: dict[str, np.ndarray] = {}
    try:
        with np.errstate(all="ignore"):
            if int(told["sform_code"]) > 0:
                affines["sform"] = scale @ told.get_sform()
            if int(told["qform_code"]) > 0:
                affines["qform"] = scale @ told.get_qform()
            placed = bool(affines)
            if not placed:
                affines["pixdim"] = scale @ told.get_base_affine()
            pixdim = scale[0, 0] * np.array(told["pixdim"][1:4], np.float64)
            edges = np.linalg.norm(next(iter(affines.values()))[:3, :3], axis=0)[np.array(shape[:3]) > 1]
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise InputError(path, f"has an invalid header ({error})") from error
    low, high = volume.VOXEL_MM
    if unit != "mm" and edges.size and np.isfinite(edges).all() and not low <= edges.min() <= edges.max() <= high:
        shown = " x ".join(f"{edge / scale[0, 0]:.4g}" for edge in edges)
        raise InputError(path, f"tells voxels of {shown} {unit} (xyzt_units), no image of a heart; code 2 means mm")
    affine = geometry.checked(affines, {"pixdim": pixdim} if "sform" in affines else {}, shape, path)
    assumed = geometry.with_thickness(next(iter(affines.values())), shape)[1]
    why = "" if placed else "qform_code and sform_code are 0"
    return affine, geometry.notes(affine, directions=why, assumed=assumed), placed


def _header(head: bytes, stream: BinaryIO | gzip.GzipFile, path: Path) -> nib.Nifti1Header:
    if len(head) < 348:
        raise InputError(path, "is truncated or not NIfTI (shorter than a header)")
    sizes = (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))
    size = next((s for s in sizes if s in _SIZES), None)
    if size is None:
        raise InputError(path, "is not NIfTI")
    head += volume.take(stream, size - 348, path)
    if len(head) < size:
        raise InputError(path, f"is truncated: a NIfTI-2 header has {size} bytes, the file holds {len(head)}")
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
